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
    texts = [
        {"name": name_of(text), "about": _sums(text), "tokens": [_needed(one) for one in readable(tokens)]}
        for text, tokens in _drawn(plain, PAGE_MOST)
    ]
    return shell(_TITLE, "scores", {"texts": texts, "note": note(plain, PAGE_MOST)}, about=_about(plain))


def picture(plain: Plain) -> str:
    """At most PICTURE_MOST tokens, coloured by surprise."""
    drawn = Picture(f"{_TITLE}: {_about(plain)}")
    drawn.row(Run(seen(_TITLE), bold=True))
    drawn.row(Run(fitted(seen(_about(plain)), drawn.columns), "quiet"))
    for text, tokens in _drawn(plain, PICTURE_MOST):
        drawn.row()
        drawn.row(Run(fitted(seen(name_of(text)), drawn.columns), bold=True))
        drawn.row(Run(fitted(_sums(text), drawn.columns), "quiet"))
        drawn.paragraph(_runs(tokens))
    drawn.row()
    steps = (Run(f" {number * 12 / STEPS:g} ", ground=f"heat{number}") for number in range(2, STEPS + 1, 2))
    drawn.row(Run("surprise in bits ", "quiet"), *steps, Run(" and more", "quiet"))
    if said := note(plain, PICTURE_MOST):
        drawn.paragraph([Run(said, "quiet")])
    return drawn.svg()


def note(plain: Plain, most: int) -> str:
    """What of the texts is not drawn, and why; nothing where all is."""
    whole = sum(len(text["logprobs"]) + text.get("left_out", 0) for text in plain["texts"])
    said = [f"the first {most:,} of {whole:,} tokens are drawn"] if whole > most else []
    said += ["the work was interrupted"] if plain.get("interrupted") else []
    return "; ".join(said)


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


def _needed(token: Plain) -> Plain:
    return {name: token[name] for name in ("text", "token", "id", "logprob", "rank", "top")}


def _runs(tokens: list[Plain]) -> Iterator[Run]:
    for token in readable(tokens):
        title = seen(token["token"])
        if token["logprob"] is not None:
            title += f"  {math.exp(token['logprob']):.2%}, rank {token['rank']}"
        yield Run(token["text"] or "⋅", ground=surprise(token["logprob"]), title=title)


def _about(plain: Plain) -> str:
    total, count = plain["total"], len(plain["texts"])
    return f"{plain['model']}, {plain['precision']} · {count} text{'' if count == 1 else 's'} · {_sums(total)}"


def _sums(score: dict[str, Any]) -> str:
    perplexity, bits = score["perplexity"], score["bits_per_byte"]
    parts = [f"{score['tokens']:,} token{'' if score['tokens'] == 1 else 's'}"]
    parts += [] if perplexity is None else [f"perplexity {perplexity:.6g}"]
    parts += [] if bits is None else [f"{bits:.4f} bits per byte"]
    return " · ".join([*parts, f"log-probability {score['logprob']:.4f}"])
