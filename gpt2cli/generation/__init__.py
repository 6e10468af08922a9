"""Prompt ids -> text: how tokens are chosen, where a text ends, drafts and beams.

Knows no terminal, no options and no files: it yields pieces, and whoever reads them decides what becomes of them."""
