"""What `gpt2 compare` finds, as tables for people: of two sides beside each other, of more below each other."""

import math
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from gpt2cli.console import display, terminal
from gpt2cli.console.tables import Column, Table, cut

Plain = dict[str, Any]  # as Comparison.plain makes it

Part = tuple[list[Column], list[list[str]]]

_TOKEN = 24  # cells of a token that does not come last, where nobody says how wide the page is


def lines(plain: Plain, top: int) -> Iterator[str]:
    """Line by line; of the words, which are as many as were drawn, the first `top`."""
    room = shutil.get_terminal_size().columns if display.stdout_is_terminal() else None
    bold = display.codes(bold=True)
    sides: list[Plain] = plain["sides"]
    several = len({side["model"] for side in sides}) > 1
    for side in sides:
        parts = [side["label"], *[side["model"]] * several, terminal.visible(side["prompt"].encode())]
        yield "  ".join(parts) if room is None else cut("  ".join(parts), room)
    for heading, (columns, rows) in _parts(plain, top, room):
        table = Table(columns, room)
        heading = heading if room is None else cut(heading, room)
        yield ""
        yield heading.join(bold) if bold else heading
        if table.head:
            yield table.head
        yield from map(table.line, rows)


def _parts(plain: Plain, top: int, room: int | None) -> Iterator[tuple[str, Part]]:
    sides: list[Plain] = plain["sides"]
    two = len(sides) == 2
    yield "next token", _likeliest_of_two(plain, room) if two else _likeliest(plain)
    yield "where they differ most", _differences_of_two(plain) if two else _differences(plain)
    yield f"divergences in {plain['unit']}", _divergences(plain)
    if sides[0]["endings"]:
        yield "endings", _endings_of_two(plain) if two else _endings(plain)
    if any(side["words"] for side in sides):
        drawn = ", ".join(f"{len(side['texts'] or []):,}" for side in sides)
        heading = f"first words of {drawn} texts, with intervals of 95%"
        words = list(zip(*(side["words"] for side in sides), strict=True))[:top]
        yield heading, _words_of_two(words) if two else _words(words, [side["label"] for side in sides])


def _likeliest_of_two(plain: Plain, room: int | None) -> Part:
    a, b = plain["sides"]
    cells = _TOKEN if room is None else max(8, (room - 26) // 2)
    columns = [Column("", 3), Column("A", 7), Column("", cells, left=True), Column("B", 7), Column("", left=True)]
    rows = [
        [str(rank), _percent(one), cut(_token(one), cells), _percent(other), _token(other)]
        for rank, (one, other) in enumerate(zip(a["likeliest"], b["likeliest"], strict=True), 1)
    ]
    return columns, rows


def _likeliest(plain: Plain) -> Part:
    rows = [
        [side["label"], "  ".join(f"{_token(one)} {_percent(one)}" for one in side["likeliest"])]
        for side in plain["sides"]
    ]
    return [Column("", 2, left=True), Column("", left=True)], rows


def _differences_of_two(plain: Plain) -> Part:
    rows = [
        [*map(_share, one["probabilities"]), f"{one['log_ratios'][1]:+.2f}", _token(one)]
        for one in plain["differences"]
    ]
    return [Column("A", 7), Column("B", 7), Column("log B/A", 7), Column("token", left=True)], rows


def _differences(plain: Plain) -> Part:
    """Of each token where it is likeliest, where least, and the logarithm between the two."""
    rows = []
    for one in plain["differences"]:
        values = one["probabilities"]
        places = sorted(range(len(values)), key=values.__getitem__)
        ratio = one["log_ratios"][places[-1]] - one["log_ratios"][places[0]]
        ends = [f"{_share(values[place])} {plain['sides'][place]['label']:<2}" for place in (places[-1], places[0])]
        rows.append([*ends, f"{ratio:+.2f}", _token(one)])
    return [Column("most", 10), Column("least", 10), Column("log", 6), Column("token", left=True)], rows


def _divergences(plain: Plain) -> Part:
    a, b = ("A", "B") if len(plain["sides"]) == 2 else ("1", "2")
    heads = [Column(f"KL({a}‖{b})", 8), Column(f"KL({b}‖{a})", 8)]
    columns = [Column("", 5, left=True), *heads, Column("Jensen-Shannon")]
    rows = [
        [f"{one['first']} {one['second']}", *(f"{one[name]:.4f}" for name in ("kl", "kl_back")), f"{one['js']:14.4f}"]
        for one in plain["divergences"]
    ]
    return columns, rows


def _endings_of_two(plain: Plain) -> Part:
    each = [Column("/token", 8), Column("share", 7)]
    columns = [Column("A", 9), *each, Column("B", 9), *each, Column("log B/A", 7), Column("ending", left=True)]
    a, b = plain["sides"]
    rows = [
        [*_ending(one), *_ending(other), f"{other['log_ratio']:+.2f}", terminal.visible(one["text"].encode())]
        for one, other in zip(a["endings"], b["endings"], strict=True)
    ]
    return columns, rows


def _endings(plain: Plain) -> Part:
    columns = [Column("", 2, left=True), Column("logprob", 9), Column("/token", 8), Column("share", 7)]
    sides = plain["sides"]
    rows = [
        [side["label"], *_ending(one), f"{one['log_ratio']:+.2f}", terminal.visible(one["text"].encode())]
        for number in range(len(sides[0]["endings"]))
        for side in sides
        for one in [side["endings"][number]]
    ]
    return [*columns, Column("log to A", 8), Column("ending", left=True)], rows


def _ending(one: Plain) -> list[str]:
    return [f"{one['logprob']:.3f}", f"{one['per_token']:.3f}", _share(one["share"])]


def _words_of_two(words: Sequence[Sequence[Plain]]) -> Part:
    each = [Column("share", 7), Column("interval", 11)]
    rows = [[*_counted(one), *_counted(other), _word(one)] for one, other in words]
    return [Column("A", 6), *each, Column("B", 6), *each, Column("word", left=True)], rows


def _words(words: Sequence[Sequence[Plain]], labels: Sequence[str]) -> Part:
    columns = [Column("", 2, left=True), Column("count", 6), Column("share", 7), Column("interval", 11)]
    rows = [[label, *_counted(one), _word(one)] for shares in words for label, one in zip(labels, shares, strict=True)]
    return [*columns, Column("word", left=True)], rows


def _counted(one: Plain) -> list[str]:
    return [str(one["count"]), _share(one["share"]), f"{100 * one['low']:.1f}-{100 * one['high']:.1f}%"]


def _word(one: Plain) -> str:
    return one["word"] or "(no word)"


def _token(one: Plain) -> str:
    return terminal.visible(bytes(one["bytes"]))


def _percent(one: Plain) -> str:
    return _share(math.exp(one["logprob"]))


def _share(value: float) -> str:
    return f"{value:.2%}" if value >= 0.0001 or not value else f"{100 * value:.1g}%"
