"""The terminal of the REPL: the document's text, streamed, and what is told between.

The line editor draws the row in which the text ends as its prompt: what is typed goes on where the text ends, and when
it is accepted the same row is written again as text. So nothing but the document stands in the document. What is told
begins a row, and after it the text goes on in another. A dumb terminal, which cannot go back in a row, gets a `> ` on a
row of its own, and no editor."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gpt2cli.console import terminal
from gpt2cli.console.wrapping import Rows, Run, joined
from gpt2cli.repl import keyboard, layout, lineeditor
from gpt2cli.repl.lineeditor import Complete, LineEditor, Status

_EDGE = "\v"  # where a row of `show` is broken and the text is not; `layout.visible` leaves none in a text

_LONG = 200  # characters of a heading


class Screen:
    """`text` streams, `say` tells, `read` asks for the next line."""

    def __init__(
        self, complete: Complete, status: Status, again: Callable[[], None], history: Path | None, *, wrap: bool
    ) -> None:
        """`again` shows the text on an empty screen, after the window has changed its width. Without `wrap` the
        terminal breaks the rows."""
        self._dumb = lineeditor.is_dumb()
        # underlined is no colour, and nothing in the text
        self._style, self._codes = ("underline", "\x1b[4m") if os.environ.get("NO_COLOR") else ("bold", "\x1b[1m")
        self._output = lineeditor.output()
        self._rows = Rows(lambda: self.columns, words=wrap and not self._dumb)
        self._drawn = True  # whether the row of the text stands on the screen, the cursor behind it
        self._working = False  # whether a mark stands at the cursor
        self._usual: list[Any] | None = None  # the terminal's attributes outside `held`
        self._again = again
        self._width = self.columns
        if not self._dumb:
            self._editor = LineEditor(complete, status, self._style, history)

    @property
    def columns(self) -> int:
        return max(1, self._output.get_size().columns)

    @property
    def rows(self) -> int:
        return max(1, self._output.get_size().rows)

    def text(self, text: str, *, yours: bool) -> None:
        """More of the document."""
        if text:
            self._stand()
            self._write(self._rows.add([(yours, layout.visible(text))]))
            self._output.flush()

    def at_work(self) -> None:
        """A mark where the text goes on, until more of it comes."""
        if not self._dumb and not self._rows.at_edge:
            self._stand()
            self._output.write_raw("…\b")
            self._output.flush()
            self._working = True

    def show(self, runs: Sequence[Run], *, most: int | None = None) -> None:
        """Another text, or another place in it: the last `most` rows (None: half a screen)."""
        self._leave_row()
        most = most or max(3, self.rows // 2)
        edge, self._rows.edge = self._rows.edge, _EDGE
        shown = [(yours, layout.visible(text)) for yours, text in layout.ending(runs, most)]
        rows = layout.split(self._rows.add(shown), f"\n{_EDGE}")
        self._rows.edge = edge
        for row in rows[-most:-1]:
            self._write([(yours, text.replace(_EDGE, edge)) for yours, text in row])
        self._drawn = False
        if self._dumb:
            self._stand()
        self._output.flush()

    def rule(self, heading: str) -> None:
        """What follows is not the document."""
        if not self._dumb:  # where the line that was typed is still to be seen
            self.say(f"── {heading if len(heading) < _LONG else f'{heading[:_LONG]}…'} ──")

    def say(self, text: str) -> None:
        """Something that is not the document, on stderr, in rows of its own."""
        self._leave_row()
        for line in layout.visible(text).split("\n"):
            terminal.tell(line)

    def say_rows(self, text: str) -> None:
        """As `say`, of rows that fit the window. They may be coloured, and hold nothing else that a terminal obeys."""
        self._leave_row()
        terminal.say(text)

    def error(self, message: str, hint: str) -> None:
        self._leave_row()
        terminal.error(message, hint)

    def read(self) -> str:
        """The next input: a line, or several. Raises EOFError at Ctrl-D, KeyboardInterrupt at Ctrl-C."""
        if self._dumb:
            self._leave_row()
            return lineeditor.plain_line()
        if self._width != self.columns:  # while the model wrote
            self._redraw()
        if self._rows.full:
            self._leave_row()
        elif self._drawn:
            self._stand()
            self._output.write_raw("\r")
            self._output.erase_end_of_line()
            self._output.flush()
        self._drawn = False
        return self._editor.read(lambda: self._rows.row, self._width, self._redraw)

    def _redraw(self) -> None:
        self._width = self.columns
        self._output.erase_screen()
        self._output.cursor_goto(0, 0)
        self._rows.begin()
        self._drawn = True
        self._again()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While this lasts, keys typed when nobody reads are not shown amid the text; they wait for the line editor."""
        with keyboard.restored() as self._usual:
            held = None if self._dumb else keyboard.held(self._usual)
            keyboard.apply(held)
            with keyboard.suspended(self._usual, held):
                yield

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """While another program has the terminal."""
        self._leave_row()
        with keyboard.restored():
            keyboard.apply(self._usual)
            yield

    def end(self) -> None:
        """Leave the whole text on the screen, and the cursor in a row of its own."""
        self._leave_row()

    def ask(self, question: str) -> str:
        """The answer to a question; empty at Ctrl-C and Ctrl-D."""
        self._leave_row()
        try:
            return lineeditor.readable(input(question)) if self._dumb else lineeditor.ask(question)
        except (EOFError, KeyboardInterrupt):
            return ""

    def _stand(self) -> None:
        """The row of the text stands on the screen."""
        if self._working:
            self._working = False
            self._output.write_raw(" \b")
        if not self._drawn:
            self._drawn = True
            self._write(self._rows.row)

    def _leave_row(self) -> None:
        """To the beginning of an empty row."""
        self._stand()
        if self._rows.row:
            self._output.write("\n")
        self._rows.begin()
        self._output.flush()

    def _write(self, runs: Sequence[Run]) -> None:
        for yours, text in joined(runs):
            if yours and not self._dumb:
                self._output.write_raw(self._codes)
                self._output.write(text)
                self._output.write_raw("\x1b[0m")
            else:
                self._output.write(text)
