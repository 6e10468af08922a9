"""A checkpoint learns a text. The only room that knows PyTorch, which comes with the extra `train`; knows no
terminal."""
