"""A document that a person and a model write together, at a prompt."""
