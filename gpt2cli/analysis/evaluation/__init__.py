"""How well a model does what a test asks: items, their likelihoods, and the measures that are made of them.

Reads files, and writes one of what it has computed; prints nothing, and knows no options."""
