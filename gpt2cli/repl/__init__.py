"""A document that a person and a model write together, at a prompt.

Knows no options and no files of models: it is handed a model, and a way to open another."""
