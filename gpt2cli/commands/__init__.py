"""One file per verb: file = function = what is typed.

Thin: options in, calls, words out. What a verb needs to know of models, texts or terminals is in the rooms below."""
