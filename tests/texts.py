"""Lines of text; `generate` with the limits as keywords, and what comes of its pieces."""

from gpt2cli.generation import texts
from gpt2cli.generation.parameters import Limits

LINES = ["the cat sat down", "zzz qqq", "", "the old man", "a"]  # for score and embed
OTHERS = ("sampling", "samples", "beams", "logprobs", "drafter")


def generate(model, prompt, **options):
    """As the library's, but Limits(...) is spelt out: generate(model, prompt, max_tokens=5)."""
    others = {name: options.pop(name) for name in OTHERS if name in options}
    return texts.generate(model, prompt, limits=Limits(**options), **others)


def collect(pieces):
    """row -> (text, ids, finish)"""
    rows = {}
    for piece in pieces:
        text, ids, finish = rows.get(piece.row, ("", [], None))
        assert finish is None, "a piece after the last one"
        ids = ids if piece.token is None else [*ids, piece.token]
        rows[piece.row] = text + piece.text, ids, piece.finish
    return rows


def ids_of(pieces):
    """Of a single text."""
    return collect(pieces)[0][1]
