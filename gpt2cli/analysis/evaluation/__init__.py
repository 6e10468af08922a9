"""How well a model does what a test asks: items, their likelihoods, and the figures of the usual tasks.

Reads files, and writes one of what it has computed; knows no terminal, and no options."""
