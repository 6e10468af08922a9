"""What `gpt2 score --json --tokens` prints, as a page and as a picture."""

import math
from collections.abc import Iterator
from typing import Any

from gpt2cli.drawing.cells import fitted, seen
from gpt2cli.drawing.colours import STEPS, surprise
from gpt2cli.drawing.page import page as shell
from gpt2cli.drawing.svg import Picture, Run
from gpt2cli.drawing.tokens import Plain, readable

# Tokens: beyond, a browser has its trouble.
PAGE_MOST = 20_000
PICTURE_MOST = 2_000

_TITLE = "How surprising each token is"


def page(plain: Plain) -> str:
    """A page of at most PAGE_MOST tokens: each with its probability and its rank, and what was likelier."""
    texts = []
    for text, tokens in _drawn(plain, PAGE_MOST):
        about = _sums(text) if len(plain["texts"]) > 1 else ""  # else they are those of all
        texts.append({"name": name_of(text), "about": about, "tokens": tokens})
    return shell(_TITLE, "scores", {"texts": texts, "note": _said(plain, PAGE_MOST)}, about=_about(plain))


def picture(plain: Plain) -> str:
    """At most PICTURE_MOST tokens, coloured by surprise."""
    drawn = Picture(f"{_TITLE}: {_about(plain)}")
    drawn.row(Run(_TITLE, bold=True))
    drawn.paragraph(Run(f"{word} ", "quiet") for word in _about(plain).split())
    for text, tokens in _drawn(plain, PICTURE_MOST):
        drawn.row()
        drawn.row(Run(fitted(seen(name_of(text)), drawn.columns), bold=True))
        if len(plain["texts"]) > 1:
            drawn.row(Run(fitted(_sums(text), drawn.columns), "quiet"))
        drawn.paragraph(_runs(tokens))
    drawn.row()
    steps = (Run(f" {number * 12 / STEPS:g} ", ground=f"heat{number}") for number in range(2, STEPS + 1, 2))
    drawn.row(Run("surprise in bits ", "quiet"), *steps, Run(" and more", "quiet"))
    if said := _said(plain, PICTURE_MOST):
        drawn.paragraph([Run(said, "quiet")])
    return drawn.svg()


def notes(plain: Plain) -> dict[str, str]:
    """How much is drawn, where it is not all."""
    return {"html": _cut(plain, PAGE_MOST), "svg": _cut(plain, PICTURE_MOST)}


def _cut(plain: Plain, most: int) -> str:
    drawn = sum(len(text["logprobs"]) for text in plain["texts"])
    whole = drawn + plain.get("left_out", 0)
    return f"the first {min(most, drawn):,} of {whole:,} tokens are drawn" if whole > min(most, drawn) else ""


def _said(plain: Plain, most: int) -> str:
    """What the reader must know of the whole."""
    stopped = "The work was interrupted: this is what was done." if plain.get("interrupted") else ""
    cut = _cut(plain, most)
    return " ".join(filter(None, [cut and f"{cut[0].upper()}{cut[1:]}.", stopped]))


def name_of(text: Plain) -> str:
    """Where a text is from."""
    if text["file"] is None:
        return f"text {text['line']}"
    return str(text["file"]) if text["line"] is None else f"{text['file']}:{text['line']}"


def _drawn(plain: Plain, most: int) -> Iterator[tuple[Plain, list[Plain]]]:
    """The texts with those of their tokens that have room."""
    for text in plain["texts"]:
        tokens = text["logprobs"][:most]
        most -= len(tokens)
        if tokens or not text["logprobs"]:
            yield text, tokens


def _runs(tokens: list[Plain]) -> Iterator[Run]:
    for token in readable(tokens):
        title = seen(token["token"])
        if token["logprob"] is not None:
            title += f"  {math.exp(token['logprob']):.2%}, rank {token['rank']}"
        text = token["text"] or "⋅"
        if text.startswith(" ") and text.strip():  # where a row ends, a coloured blank would hang there alone
            yield Run(" ")
            text = text[1:]
        yield Run(text, ground=surprise(token["logprob"]), title=title)


def _about(plain: Plain) -> str:
    return f"{plain['model']}, {plain['precision']} · {_sums(plain['total'])}"


def _sums(score: dict[str, Any]) -> str:
    perplexity, bits = score["perplexity"], score["bits_per_byte"]
    parts = [f"{score['tokens']:,} token{'' if score['tokens'] == 1 else 's'}"]
    parts += [] if perplexity is None else [f"perplexity {perplexity:.6g}"]
    parts += [] if bits is None else [f"{bits:.4f} bits per byte"]
    return " · ".join([*parts, f"log-probability {score['logprob']:.4f}"])
