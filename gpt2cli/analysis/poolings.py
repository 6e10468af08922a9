"""How the vectors of a text's tokens become one. Imports nothing."""

POOLINGS = {
    "mean": "of all tokens",
    "last": "the last token's, which has seen all others",
    "weighted": "the mean, the n-th token counting n times",
    "none": "a vector for each token",
}
