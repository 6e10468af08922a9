"""What `gpt2 compare --json` prints, as a page and as a picture."""

import math
from collections.abc import Iterable, Iterator

from gpt2cli.drawing.cells import fitted, seen
from gpt2cli.drawing.colours import scaled
from gpt2cli.drawing.page import page as shell
from gpt2cli.drawing.svg import Picture, Run
from gpt2cli.drawing.tokens import Plain

# Rows of words and of texts on a page, rows of words in a picture, and sides in one.
PAGE_MOST = 200
WORDS_MOST = 12
SIDES_MOST = 12

_TITLE = "What follows each prompt"
_TOKEN, _BAR = 20, 12  # cells


def page(plain: Plain) -> str:
    """A page; of words and of texts the first PAGE_MOST of each side."""
    sides = [
        side | {name: side[name] and side[name][:PAGE_MOST] for name in ("words", "texts")} for side in plain["sides"]
    ]
    said = "; ".join(filter(None, [notes(plain)["html"], _interrupted(plain)]))
    return shell(_TITLE, "comparison", plain | {"sides": sides, "note": said}, about=_about(plain))


def picture(plain: Plain) -> str:
    """The first SIDES_MOST sides: the likeliest of each, where they differ, divergences, endings, words."""
    sides = plain["sides"][:SIDES_MOST]
    drawn = Picture(f"{_TITLE}: {_about(plain)}")
    drawn.row(Run(_TITLE, bold=True))
    drawn.row(Run(fitted(_about(plain), drawn.columns), "quiet"))
    drawn.row()
    for side in sides:
        drawn.row(_name(side), Run(fitted(seen(side["prompt"]), 85)))
    _section(drawn, "The next token", _side_by_side(sides) if len(sides) == 2 else map(_likeliest, sides))
    _section(drawn, "Where they differ most", (_difference(one, sides) for one in plain["differences"]))
    shown = [one for one in plain["divergences"] if {one["first"], one["second"]} <= {side["label"] for side in sides}]
    _section(drawn, f"Divergences in {plain['unit']}", map(_divergence, shown))
    if sides[0]["endings"]:
        _section(drawn, "Endings", (row for side in sides for row in map(_ending, [side] * 100, side["endings"])))
    if any(side["words"] for side in sides):
        most = max(one["high"] for side in sides for one in side["words"][:WORDS_MOST])
        words = zip(*(side["words"][:WORDS_MOST] for side in sides), strict=True)
        rows = (_word(side, one, most) for row in words for side, one in zip(sides, row, strict=True))
        _section(drawn, "First words of samples, with intervals of 95 %", rows)
    if said := "; ".join(filter(None, [notes(plain)["svg"], _interrupted(plain)])):
        drawn.row()
        drawn.paragraph([Run(said, "quiet")])
    return drawn.svg()


def notes(plain: Plain) -> dict[str, str]:
    """How much is drawn, where it is not all."""
    sides = plain["sides"]
    longest = max(len(side[name] or ()) for side in sides for name in ("words", "texts"))
    html = f"the first {PAGE_MOST} words and texts are drawn" if longest > PAGE_MOST else ""
    words = f"the first {WORDS_MOST} words are drawn" if len(sides[0]["words"] or ()) > WORDS_MOST else ""
    some = f"the first {SIDES_MOST} of {len(sides)} sides are drawn" if len(sides) > SIDES_MOST else ""
    return {"html": html, "svg": "; ".join(filter(None, [some, words]))}


def _about(plain: Plain) -> str:
    models = dict.fromkeys(f"{side['model']}, {side['precision']}" for side in plain["sides"])
    texts = sum(len(side["texts"] or ()) for side in plain["sides"])
    drawn = [f"{texts:,} texts drawn, seed {plain['seed']}"] if texts else []
    return seen(" · ".join([*models, f"{len(plain['sides'])} sides", *drawn]))


def _interrupted(plain: Plain) -> str:
    return "the work was interrupted" if plain.get("interrupted") else ""


def _section(drawn: Picture, heading: str, rows: Iterable[list[Run]]) -> None:
    drawn.row()
    drawn.row(Run(heading, bold=True))
    for row in rows:
        drawn.row(*row)


def _side_by_side(sides: list[Plain]) -> Iterator[list[Run]]:
    a, b = sides
    most = max(math.exp(side["likeliest"][0]["logprob"]) for side in sides)
    yield [Run(fitted("A", 43), "quiet"), Run("B", "quiet")]
    for one, other in zip(a["likeliest"], b["likeliest"], strict=True):
        yield [*_bar(one, most), Run("   "), *_bar(other, most)]


def _bar(one: Plain, most: float) -> list[Run]:
    value = math.exp(one["logprob"])
    bar = Run(" " * _BAR, ground="heat6", share=value / most)
    return [Run(fitted(_token(one), _TOKEN)), bar, Run(fitted(_percent(value), 8, left=False), "quiet")]


def _likeliest(side: Plain) -> list[Run]:
    words = " · ".join(f"{_token(one)} {_percent(math.exp(one['logprob']))}" for one in side["likeliest"])
    return [_name(side), Run(fitted(words, 85))]


def _difference(one: Plain, sides: list[Plain]) -> list[Run]:
    """Coloured by how far above or below all sides: two doublings are the hottest, or the coldest."""
    mean = sum(one["log_ratios"]) / len(one["log_ratios"])
    cells = 9 if len(sides) <= 7 else 5
    runs = [
        Run(fitted(_percent(value), cells, left=False) + " ", ground=scaled((ratio - mean) / math.log(4)))
        for value, ratio in zip(one["probabilities"][: len(sides)], one["log_ratios"], strict=False)
    ]
    behind = f"  log B/A {one['log_ratios'][1]:+.2f}" if len(sides) == 2 else ""
    return [Run(fitted(_token(one), 15)), *runs, Run(behind, "quiet")]


def _divergence(one: Plain) -> list[Run]:
    a, b = one["first"], one["second"]
    numbers = f"KL({a}‖{b}) {one['kl']:.4f}", f"KL({b}‖{a}) {one['kl_back']:.4f}", f"Jensen-Shannon {one['js']:.4f}"
    return [Run(fitted(number, 24)) for number in numbers]


def _ending(side: Plain, one: Plain) -> list[Run]:
    numbers = _percent(one["share"]), f"{one['logprob']:.3f}", f"{one['per_token']:.3f} a token"
    cells = [Run(fitted(number, wide, left=False)) for number, wide in zip(numbers, (8, 10, 18), strict=True)]
    return [_name(side), Run(fitted(seen(one["text"]), 40)), *cells]


def _word(side: Plain, one: Plain, most: float) -> list[Run]:
    """The interval as a bar between two blanks."""
    low, high = (round(30 * one[end] / most) for end in ("low", "high"))
    word = fitted(seen(one["word"] or "(no word)"), _TOKEN)
    bar = [Run(" " * low), Run(" " * max(1, high - low), ground="heat4")]
    return [_name(side), Run(word), Run(f"{one['count']:>6}"), Run(f"{_percent(one['share']):>9}  "), *bar]


def _name(side: Plain) -> Run:
    return Run(f"{side['label']:<3}", "quiet")


def _token(one: Plain) -> str:
    return seen(bytes(one["bytes"]).decode(errors="replace").replace(" ", "␣"))


def _percent(value: float) -> str:
    return f"{value:.2%}" if value >= 0.0001 or not value else f"{100 * value:.1g}%"
