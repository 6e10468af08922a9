"""How well a model does what texts ask of it: items, their likelihoods, and the figures of the usual tasks. Knows no
terminal."""
