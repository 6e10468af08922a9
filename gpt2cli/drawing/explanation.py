"""What `gpt2 explain --json` prints, as a page and as a picture."""

import math
from collections.abc import Sequence
from typing import Any

from gpt2cli.drawing.cells import fitted, seen
from gpt2cli.drawing.colours import scaled, surprise
from gpt2cli.drawing.page import page as shell
from gpt2cli.drawing.svg import Picture, Run
from gpt2cli.drawing.tokens import Plain, readable

# Weights of attention in a page, some megabytes; tokens of a picture, and places and layers of its lens.
PAGE_WEIGHTS = 2_000_000
PICTURE_TOKENS = 600
_PLACES, _LAYERS = 24, 9
_CELL, _ROW = 8, 12  # cells of one of the lens, and of what stands before its rows

_TITLE = "What a model made of a text"


def page(plain: Plain) -> str:
    """A page: each token, what the prediction rests on, the logit lens, and where each token looks."""
    return shell(_TITLE, "explanation", data(plain), about=_about(plain))


def data(plain: Plain) -> Plain:
    """What a page needs of it, with a `note` where that is not all."""
    attention, cut = _limited(plain["attention"], plain["target"] - 1)
    return plain | {"attention": attention, "note": f"{cut[0].upper()}{cut[1:]}." if cut else ""}


def notes(plain: Plain) -> dict[str, str]:
    """What is not drawn."""
    _, cut = _limited(plain["attention"], plain["target"] - 1)
    count = len(plain["tokens"])
    short = f"the last {PICTURE_TOKENS:,} of {count:,} tokens are drawn" if count > PICTURE_TOKENS else ""
    return {"html": cut, "svg": short}


def _limited(attention: Plain | None, place: int) -> tuple[Plain | None, str]:
    """As many of the places that look as a page can hold, that before the prediction first, then those before it; and
    what is said of it."""
    if attention is None:
        return None, ""
    positions, layers = attention["positions"], attention["layers"]
    heads = sum(len(layer["heads"]) for layer in layers)
    at = positions.index(place) if place in positions else len(positions) - 1
    first, last, room = at, at, PAGE_WEIGHTS - heads * (positions[at] + 1)
    while first > 0 and (room := room - heads * (positions[first] + 1)) > 0:
        first -= 1
    while last < len(positions) - 1 and (room := room - heads * (positions[last + 1] + 1)) > 0:
        last += 1

    def head(one: Plain) -> Plain:
        rows = ([round(weight, 3) or 0 for weight in row] for row in one["weights"][first : last + 1])
        return one | {"weights": list(rows)}

    found = [layer | {"heads": [head(one) for one in layer["heads"]]} for layer in layers]
    drawn = last + 1 - first
    cut = f"where {drawn:,} of {len(positions):,} tokens look is in the page" if drawn < len(positions) else ""
    return {"positions": positions[first : last + 1], "layers": found}, cut


def picture(plain: Plain) -> str:
    """The text coloured by surprise, what the prediction rests on, and the logit lens before it."""
    drawn = Picture(f"{_TITLE}: {_about(plain)}")
    drawn.row(Run(_TITLE, bold=True))
    drawn.paragraph(Run(f"{word} ", "quiet") for word in _about(plain).split())
    tokens = list(readable(plain["tokens"]))
    shown = range(max(0, len(tokens) - PICTURE_TOKENS), len(tokens))
    _section(drawn, "How surprising each token was", "the hotter, the less probable")
    drawn.paragraph(
        run for at in shown for run in _runs(tokens[at], surprise(tokens[at]["logprob"]), _told(tokens[at]))
    )
    if influence := plain["influence"]:
        _section(drawn, "What the prediction rests on", _sentence(influence))
        shares = _shares(influence["scores"])
        drawn.paragraph(
            run for at in shown for run in _runs(tokens[at], scaled(shares[at]), _number(influence["scores"][at]))
        )
    if lens := plain["lens"]:
        _lens(drawn, lens, tokens, plain["target"])
    if said := notes(plain)["svg"]:
        drawn.row()
        drawn.row(Run(said, "quiet"))
    return drawn.svg()


def _section(drawn: Picture, title: str, about: str) -> None:
    drawn.row()
    drawn.row(Run(title, bold=True))
    drawn.paragraph(Run(f"{word} ", "quiet") for word in about.split())


def _lens(drawn: Picture, lens: Plain, tokens: Sequence[Plain], target: int) -> None:
    """The places that end where the prediction is made, and layers at even distances, the last among them."""
    layers, positions = lens["layers"], lens["positions"]
    count = min(_LAYERS, len(layers))
    columns = [round(step * (len(layers) - 1) / max(1, count - 1)) for step in range(count)]
    end = positions.index(target - 1) + 1 if target - 1 in positions else len(positions)
    _section(drawn, "What each layer would say", "the likeliest next token after each layer; bold: what the text has")
    head = [Run(fitted(str(layers[column]), _CELL), "quiet") for column in columns]
    drawn.row(Run(fitted("after", _ROW), "quiet"), *head)
    for row in range(max(0, end - _PLACES), end):
        place = positions[row]
        following = tokens[place + 1]["id"] if place + 1 < len(tokens) else None
        cells = [_cell(lens["said"][column][row], following) for column in columns]
        drawn.row(Run(fitted(seen(tokens[place]["token"].strip(" ")), _ROW - 1) + " ", "quiet"), *cells)


def _cell(said: Plain, following: int | None) -> Run:
    text = fitted(seen(said["token"].strip(" ")), _CELL - 1)
    title = f"{seen(said['token'])}  {math.exp(said['logprob']):.1%}, KL {said['kl']:.2f}"
    return Run(f"{text} ", ground=scaled(math.exp(said["logprob"])), bold=said["id"] == following, title=title)


def _runs(token: Plain, ground: str | None, title: str) -> list[Run]:
    """A token; the blank before a word has no colour, as where a row ends it would hang there alone."""
    text, title = token["text"] or "⋅", f"{seen(token['token'])}  {title}".rstrip()
    if text.startswith(" ") and text.strip():
        return [Run(" "), Run(text[1:], ground=ground, title=title)]
    return [Run(text, ground=ground, title=title)]


def _told(token: Plain) -> str:
    return "" if token["logprob"] is None else f"{math.exp(token['logprob']):.2%}, rank {token['rank']}"


def _shares(scores: Sequence[float | None]) -> list[float]:
    """Of the largest."""
    most = max((abs(score) for score in scores if score is not None), default=0) or 1
    return [(score or 0) / most for score in scores]


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.4f}"


def _sentence(influence: dict[str, Any]) -> str:
    token, instead = influence["token"]["token"], influence["instead"]
    if instead is None:
        return (
            f"'{seen(token)}' has log-probability {influence['base']:.2f}; hot tokens carry it, cold ones hold it down"
        )
    other = seen(instead["token"])
    return f"'{seen(token)}' leads '{other}' by {influence['base']:.2f}; hot tokens carry that, cold ones hold it down"


def _about(plain: Plain) -> str:
    token = seen(plain["tokens"][plain["target"]]["token"])
    count = len(plain["tokens"])
    return f"{plain['model']}, {plain['precision']} · {count:,} tokens · why '{token}' at {plain['target']}"
