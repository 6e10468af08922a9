"""Text in rows for a terminal: broken at blanks, not inside words. Pure.

A word is written as it comes. Where it turns out to be longer than its row, it is wiped out there and begins the next.
The last cell of each row stays free: terminals do not agree where the cursor is once that one is written."""

import re
import unicodedata
from collections.abc import Callable, Sequence

from gpt2cli.drawing.cells import width

Run = tuple[bool, str]  # whether it stands out (it is yours, or the prompt), and its text

_PARTS = re.compile(r"[\n\r\v]|[ \t]|[^\n\r\v \t]+")
_TAB = 8
_JOINER = "\u200d"
_UNSURE = re.compile(f"[{_JOINER}\ufe0f]")  # of what holds these, each terminal has a width of its own


class Rows:
    """A text that grows: `add` gives what to write for more of it, `row` is what then stands in the cursor's row."""

    def __init__(self, columns: Callable[[], int], *, words: bool = True) -> None:
        """Without `words` the terminal breaks the rows, wherever they end."""
        self._columns, self._words = columns, words
        self.edge = "\n" if words else ""  # what is written where a row is broken
        self.begin()

    def begin(self) -> None:
        """The cursor stands in an empty row."""
        self._settled: list[Run] = []
        self._start = 0  # cells before the word
        self._word: list[Run] = []  # what came after the last place at which the row may be broken
        self._cells = 0
        self._new: list[Run] = []  # what of the word is not written yet
        self._last = ""
        self._over = False  # a blank has fallen off the end

    @property
    def row(self) -> list[Run]:
        """What stands in the row."""
        return joined([*self._settled, *self._word])

    @property
    def full(self) -> bool:
        """Whether the next word begins another row."""
        return self._over or (not self._words and self._start + self._cells >= self._room)

    @property
    def at_edge(self) -> bool:
        """Whether the cursor stands in the last column, from which a terminal does not go back by one, or beyond it."""
        return self._start + self._cells >= self._columns() - 1

    @property
    def _room(self) -> int:
        return max(1, self._columns() - self._words)

    def add(self, runs: Sequence[Run]) -> list[Run]:
        """What to write for more of the text."""
        room, written = self._room, list[Run]()
        for marked, text in runs:
            for part in _PARTS.findall(text):
                if part in "\n\r\v":
                    written += [*self._new, (False, part)]
                    self.begin()
                elif part in " \t" and self._words:
                    self._blank(marked, part, room, written)
                else:
                    for piece in [part] if part.isascii() else part:
                        self._letters(marked, piece, room, written)
        written += self._new
        self._new = []
        return joined(written)

    def _blank(self, marked: bool, blank: str, room: int, written: list[Run]) -> None:
        self._settle(written)
        cells = _TAB - self._start % _TAB if blank == "\t" else 1
        if self._over or self._start + cells > room:
            self._over = True
            return
        self._settled.append((marked, blank))
        self._start += cells
        written.append((marked, blank))

    def _settle(self, written: list[Run]) -> None:
        """The word has ended."""
        written += self._new
        self._settled += self._word
        self._start += self._cells
        self._word, self._new, self._cells, self._last = [], [], 0, ""

    def _letters(self, marked: bool, piece: str, room: int, written: list[Run]) -> None:
        if self._over:
            self._break(written)
        if not self._word and not width(piece):  # a mark on the blank before it, which it cannot leave
            self._settled.append((marked, piece))
            written.append((marked, piece))
            return
        if _may_part(self._last, piece[0]):
            self._settle(written)
        if self._start + self._cells + width(piece) > room:
            if self._words and self._start and not _UNSURE.search("".join(text for _, text in self._word)):
                self._move(written)
            for character in piece:
                self._letter(marked, character, room, written)
        else:
            self._append(marked, piece)

    def _letter(self, marked: bool, character: str, room: int, written: list[Run]) -> None:
        """One of a word that is longer than a row."""
        used = self._start + self._cells
        if used and used + width(character) > room:
            written += self._new
            self._break(written)
        self._append(marked, character)

    def _append(self, marked: bool, piece: str) -> None:
        self._word.append((marked, piece))
        self._new.append((marked, piece))
        self._cells += width(piece)
        if width(piece[-1]) or piece[-1] == _JOINER:
            self._last = piece[-1]

    def _move(self, written: list[Run]) -> None:
        """The word begins another row."""
        word, cells, last = self._word, self._cells, self._last
        shown = cells - sum(width(text) for _, text in self._new)
        written.append((False, "\b" * shown + " " * shown))
        self._break(written)
        self._word, self._cells, self._new, self._last = word, cells, list(word), last

    def _break(self, written: list[Run]) -> None:
        written.append((False, self.edge))
        self.begin()


def _may_part(before: str, after: str) -> bool:
    """Whether a row may end between two characters between which no blank is: beside ideographs and the like, but not
    before a mark that closes or after one that opens."""
    if not before or before == _JOINER or not width(after) or (width(before) < 2 and width(after) < 2):
        return False
    return unicodedata.category(before) not in ("Ps", "Pi") and unicodedata.category(after) not in _CLOSING


_CLOSING = ("Pe", "Pf", "Po", "Lm", "Sk")


def joined(runs: Sequence[Run]) -> list[Run]:
    """The same in as few runs as there can be."""
    found: list[Run] = []
    for marked, text in runs:
        if found and found[-1][0] == marked:
            found[-1] = marked, found[-1][1] + text
        elif text:
            found.append((marked, text))
    return found


def folded(text: str, columns: int, indent: str = "  ") -> list[str]:
    """A paragraph as lines of at most `columns` cells, all but the first behind `indent`."""
    if width(text) <= columns:
        return [text]
    if columns < 4 * len(indent):
        indent = ""
    rows = Rows(lambda: columns - len(indent) + 1)  # these lines end where they end: no cell need stay free
    first, *others = "".join(part for _, part in rows.add([(False, text)])).split("\n")
    return [first.rstrip(), *(indent + line.rstrip() for line in others)]
