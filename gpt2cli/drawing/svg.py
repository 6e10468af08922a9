"""One SVG: rows of text in cells of one width, with rectangles behind them.

It loads nothing, is by day or by night as its reader is, and its text can be searched. Whatever font there is, each run
takes the cells that it is given."""

import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import NamedTuple

from gpt2cli.drawing.cells import seen, width
from gpt2cli.drawing.colours import COLOURS, DARK, LIGHT

COLUMNS = 88
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_CELL, _LINE, _EDGE = 8.4, 20, 18  # pixels, at 14 to the em


class Run(NamedTuple):
    """Text of one style. `ink` and `ground` are names of COLOURS; `ground` is a rectangle behind the text, over a
    `share` of its width from the left: a run of blanks with a share is a bar. `title` is a tooltip."""

    text: str
    ink: str = "ink"
    ground: str | None = None
    bold: bool = False
    share: float = 1
    title: str = ""


class _Placed(NamedTuple):
    run: Run
    row: int
    column: int


class Picture:
    """Rows from the top. `row` places runs as they are; `paragraph` breaks them where a row ends."""

    def __init__(self, title: str, *, columns: int = COLUMNS) -> None:
        """`title` is what the picture is called, for those who do not see it."""
        self._title, self.columns = title, columns
        self._rows = 0
        self._placed: list[_Placed] = []

    def row(self, *runs: Run) -> None:
        """One row; without a run an empty one. What is wider than the picture is the caller's fault."""
        column = 0
        for run in runs:
            column = self._place(run, column)
        self._rows += 1

    def paragraph(self, runs: Iterable[Run]) -> None:
        """A text, its rows broken before a blank where one is, and after each newline. A run that is only a blank is
        left out there."""
        column = 0
        for word in filter(None, _words(_lines(runs))):
            cells = sum(width(seen(run.text)) for run in word)
            if column and column + cells > self.columns and cells <= self.columns:
                self._rows, column = self._rows + 1, 0
                word = word[word[0].text == " " :]
            for run in word:
                fits = column + width(seen(run.text)) <= self.columns
                for piece in [run] if fits else [run._replace(text=one) for one in run.text]:
                    if column and column + width(seen(piece.text)) > self.columns:
                        self._rows, column = self._rows + 1, 0
                    column = self._place(piece, column)
                if run.text.endswith("\n"):
                    self._rows, column = self._rows + 1, 0
        self._rows += column > 0

    def svg(self) -> str:
        """The whole, as a document."""
        wide, high = round(self.columns * _CELL + 2 * _EDGE), self._rows * _LINE + 2 * _EDGE
        used = {"ground", *(one for placed in self._placed for one in (placed.run.ink, placed.run.ground) if one)}
        light, dark = (
            "".join(f".{name}{{fill:{COLOURS[name][shade]}}}" for name in COLOURS if name in used)
            for shade in (LIGHT, DARK)
        )
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}"'
            f' role="img" font-family="{FONT}" font-size="14" xml:space="preserve">',
            f"<title>{escape(seen(self._title))}</title>",
            f"<style>{light}@media(prefers-color-scheme:dark){{{dark}}}</style>",
            f'<rect class="ground" width="{wide}" height="{high}" rx="8"/>',
            *(part for placed in self._placed for part in _drawn(placed)),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _place(self, run: Run, column: int) -> int:
        text = seen(run.text)
        if text and not width(text):
            text = f"\u25cc{text}"  # a mark needs something to stand on
        self._placed.append(_Placed(run._replace(text=text), self._rows, column))
        return column + width(text)


def _drawn(placed: _Placed) -> Iterator[str]:
    run, cells = placed.run, width(placed.run.text)
    text = run.text.strip(" ")
    before = len(run.text) - len(run.text.lstrip(" "))
    x, y = _EDGE + _CELL * placed.column, _EDGE + _LINE * placed.row
    if run.title:
        yield f"<g><title>{escape(seen(run.title), quote=False)}</title>"
    if run.ground and run.share > 0:
        wide = _CELL * cells * min(1, run.share)
        yield f'<rect class="{run.ground}" x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{_LINE - 1}"/>'
    if text:
        weight = ' font-weight="bold"' if run.bold else ""
        yield (
            f'<text class="{run.ink}" x="{x + _CELL * before:.1f}" y="{y + 14}" textLength="{_CELL * width(text):.1f}"'
            f' lengthAdjust="spacingAndGlyphs"{weight}>{escape(text, quote=False)}</text>'
        )
    if run.title:
        yield "</g>"


def _lines(runs: Iterable[Run]) -> Iterator[Run]:
    """The runs cut after each newline."""
    for run in runs:
        yield from (run._replace(text=one) for one in re.findall(r"[^\n]*\n|[^\n]+", run.text))


def _words(runs: Iterable[Run]) -> Iterator[list[Run]]:
    """Runs between which no row is broken: each word begins with a blank, or after one, or after a newline."""
    word: list[Run] = []
    for run in runs:
        before = word[-1].text if word else ""
        if run.text.startswith(" ") or before.endswith("\n") or (before.endswith(" ") and before.strip()):
            yield word
            word = []
        word.append(run)
    yield word
