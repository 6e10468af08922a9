"""Many rows of a file, each answered once, whatever happens meanwhile. Knows rows, answers, and the file that grows;
refuses to know the console. What an answer is made of, the rooms below know."""
