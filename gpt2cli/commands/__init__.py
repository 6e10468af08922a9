"""One file per verb: file = function = what is typed."""
