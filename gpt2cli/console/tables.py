"""Tables whose columns are fixed beforehand, so that a row can be written as soon as it is known. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpt2cli.drawing.cells import width

_GAP = "  "


def counted(number: int | str, noun: str) -> str:
    """1 text, 2 texts."""
    return f"{number} {noun}{'' if str(number) == '1' else 's'}"


def cut(text: str, cells: int, *, end: bool = True) -> str:
    """A text that takes at most so many cells: where it is longer its end is left out, or else its beginning."""
    if width(text) <= cells:
        return text
    kept = text[:cells] if end else text[max(0, len(text) - cells) :]
    while kept and width(kept) >= cells:
        kept = kept[:-1] if end else kept[1:]
    return f"{kept}…" if end else f"…{kept}"


@dataclass(frozen=True)
class Column:
    head: str
    cells: int = 0
    left: bool = False  # where its texts begin below each other; numbers end so
    tail: bool = False  # of a last one that is too long its end is shown

    def fill(self, text: str) -> str:
        space = " " * (self.cells - width(text))
        return text + space if self.left else space + text


@dataclass(frozen=True)
class Table:
    """The last column takes what the others leave of the terminal's `room`; without one, all that it needs."""

    columns: Sequence[Column]
    room: int | None = None

    @property
    def head(self) -> str:
        return self.line([column.head for column in self.columns])

    def line(self, cells: Sequence[str]) -> str:
        """A row, without its newline."""
        row = _GAP.join(column.fill(cell) for column, cell in zip(self.columns[:-1], cells[:-1], strict=True)) + _GAP
        last = (
            cells[-1]
            if self.room is None
            else cut(cells[-1], max(1, self.room - width(row)), end=not self.columns[-1].tail)
        )
        return (row + last).rstrip()
