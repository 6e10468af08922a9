"""The terminal of the REPL: the document's text, streamed, and the line editor at its end. The only room that knows
prompt_toolkit.

The line editor draws the last row of the text as its prompt: what is typed goes on where the text ends, and when it is
accepted the same row is written again as text. So nothing but the document stands in the document. A dumb terminal,
which cannot go back in a row, gets a `> ` on a row of its own, and no editor."""

import asyncio
import contextlib
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, get_app, get_app_or_none
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document as Typed
from prompt_toolkit.filters import is_searching
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import SimpleLexer
from prompt_toolkit.output import create_output
from prompt_toolkit.utils import is_dumb_terminal

from gpt2cli.console import terminal
from gpt2cli.console.signals import handled, leave_undisturbed, leaving
from gpt2cli.errors import Terminated
from gpt2cli.repl import keyboard, layout
from gpt2cli.repl.layout import Run

BLOCK = '"""'

# the line before the cursor -> how many of its last characters are replaced, and by what
Complete = Callable[[str], tuple[int, list[str]]]


class Screen:
    """`text` streams, `say` tells, `read` asks for the next line."""

    def __init__(
        self, complete: Complete, status: Callable[[int], str], again: Callable[[], None], history: Path | None
    ) -> None:
        """`status` gives the status bar for a width; `again` shows the text on an empty screen, after the window has
        changed its width. Lines are remembered in the file `history`, if there is one."""
        self._dumb = is_dumb_terminal()
        self._plain = self._dumb or bool(os.environ.get("NO_COLOR"))
        self._output = create_output(stdout=sys.stdout)
        self._line: list[Run] = []  # the text's last line
        self._drawn = False  # whether the cursor stands behind it
        self._usual: list[Any] | None = None  # the terminal's attributes outside `held`
        self._again = again
        self._width = self.columns
        if not self._dumb:
            self._session = self._editor(complete, status, history)

    def _editor(self, complete: Complete, status: Callable[[int], str], history: Path | None) -> PromptSession[str]:
        return PromptSession(
            history=_history(history),
            completer=_Completer(complete),
            complete_while_typing=False,
            multiline=True,
            prompt_continuation="",
            key_bindings=_bindings(),
            lexer=SimpleLexer("" if self._plain else "bold"),
            bottom_toolbar=lambda: status(self.columns),
            erase_when_done=True,
            enable_suspend=True,
            enable_open_in_editor=True,
            tempfile_suffix=".txt",
            reserve_space_for_menu=4,
        )

    @property
    def columns(self) -> int:
        return max(1, self._output.get_size().columns)

    @property
    def rows(self) -> int:
        return max(1, self._output.get_size().rows)

    def text(self, text: str, *, yours: bool) -> None:
        """More of the document."""
        if not text:
            return
        if not self._drawn and not self._dumb:
            self._write(self._last_row())
        self._drawn = True
        self._write([(yours, text)])
        self._output.flush()
        last = text.rpartition("\n")
        self._line = [*([] if last[1] else self._line), (yours, last[2])]

    def show(self, runs: Sequence[Run], *, most: int | None = None) -> None:
        """Another text, or another place in it: the last `most` rows (None: half a screen)."""
        self._leave_row()
        rows: list[list[Run]] = [[]]
        line: list[Run] = []
        for yours, text in runs:
            for number, part in enumerate(text.split("\n")):
                if number:
                    rows[-1:] = [*layout.rows(line, self.columns), []]
                    line = []
                line.append((yours, part))
        shown = [*rows[:-1], *layout.rows(line, self.columns)][-(most or max(3, self.rows // 2)) :]
        for row in shown[:-1]:
            self._write([*row, (False, "\n")])
        self._line, self._drawn = line, False
        if self._dumb:
            self._write(shown[-1])
            self._drawn = True
        self._output.flush()

    def rule(self, heading: str) -> None:
        """What follows is not the document."""
        self.say(f"── {heading} ──")

    def say(self, text: str) -> None:
        """Something that is not the document, on stderr, in rows of its own."""
        self._leave_row()
        for line in layout.visible(text).split("\n"):
            fits = layout.width(line) <= self.columns
            for part in [line] if fits else textwrap.wrap(line, self.columns, subsequent_indent="  "):
                terminal.say(part)

    def error(self, message: str, hint: str) -> None:
        self._leave_row()
        terminal.error(message, hint)

    def read(self) -> str:
        """The next input: a line, or several. Raises EOFError at Ctrl-D, KeyboardInterrupt at Ctrl-C."""
        self._leave_row()
        if self._dumb:
            return _plain_line()
        self._width = self.columns
        with _signals():
            return _readable(self._session.prompt(self._prompt))

    def _prompt(self) -> FormattedText:
        """The last row of the text, asked for whenever the line is drawn."""
        if self._width != self.columns:  # the rows above were broken for another window
            self._width = self.columns
            app = get_app()
            asyncio.get_running_loop().call_soon(self._redraw, app)
        bold = "" if self._plain else "bold"
        return FormattedText((bold if yours else "", text) for yours, text in self._last_row())

    def _redraw(self, app: Application[str]) -> None:
        app.renderer.erase()
        self._output.erase_screen()
        self._output.cursor_goto(0, 0)
        self._again()
        app.renderer.request_absolute_cursor_position()
        app.invalidate()

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
        if not self._drawn and not self._dumb:
            self._write(self._last_row())
            self._drawn = True
        if self._drawn and any(text for _, text in self._line):
            self._output.write("\n")
        self._output.flush()
        self._line, self._drawn = [], False

    def ask(self, question: str) -> str:
        """The answer to a question; empty at Ctrl-C and Ctrl-D."""
        self._leave_row()
        try:
            if self._dumb:
                return _readable(input(question))
            with _signals():
                return _readable(PromptSession[str]().prompt(question))
        except (EOFError, KeyboardInterrupt):
            return ""

    def _leave_row(self) -> None:
        """To the beginning of an empty row. The row of the text that is erased for it comes again after it."""
        if not self._drawn:
            return
        if self._dumb:
            if any(text for _, text in self._line):
                self._output.write("\n")
        elif not self._last_row() and any(text for _, text in self._line):  # a full row: the cursor is still on it
            self._output.write("\n")
        else:
            self._output.write_raw("\r")
            self._output.erase_end_of_line()
        self._output.flush()
        self._drawn = False

    def _last_row(self) -> list[Run]:
        """What of the last line stands in the row in which it ends."""
        rows = layout.rows(self._line, self.columns)
        return [] if sum(layout.width(text) for _, text in rows[-1]) == self.columns else rows[-1]

    def _write(self, runs: Sequence[Run]) -> None:
        for yours, text in runs:
            if yours and text and not self._plain:
                self._output.write_raw("\x1b[1m")
                self._output.write(layout.visible(text))
                self._output.write_raw("\x1b[0m")
            else:
                self._output.write(layout.visible(text))


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def accept(event: KeyPressEvent) -> None:
        text = event.current_buffer.text
        if text.startswith(BLOCK) and not is_closed(text):
            event.current_buffer.newline(copy_margin=False)
        else:
            event.current_buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def newline(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    @bindings.add("c-c", filter=~is_searching)  # a search it ends, by itself
    def drop(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    return bindings


def _plain_line() -> str:
    """A line, or a block, as the terminal itself collects it."""
    line = input("> ")
    while line.startswith(BLOCK) and not is_closed(line):
        line += "\n" + input()
    return _readable(line)


def _readable(line: str) -> str:
    """Bytes that were no UTF-8 as U+FFFD."""
    return "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in line)


def is_closed(text: str) -> bool:
    """Whether a block that begins with three quotes ends with three others."""
    return len(text.rstrip()) >= 2 * len(BLOCK) and text.rstrip().endswith(BLOCK)


class _Completer(Completer):
    def __init__(self, complete: Complete) -> None:
        self._complete = complete

    def get_completions(self, document: Typed, event: CompleteEvent) -> Iterator[Completion]:
        replaced, words = self._complete(document.text_before_cursor)
        return iter([Completion(word, -replaced) for word in words])


class _FileHistory(FileHistory):
    def store_string(self, string: str) -> None:
        with contextlib.suppress(OSError):  # a full disk is no reason to stop writing
            super().store_string(_readable(string))


def _history(path: Path | None) -> History:
    """The file, which only its owner reads; a history of this run alone where it cannot be written."""
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as reason:
        terminal.note(f"no history: {path}: {reason.strerror}")
        return InMemoryHistory()
    return _FileHistory(path)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """While a line is edited, a signal that asks to leave ends the editor, which then raises Terminated: raised by a
    handler, it would be reported by the event loop and go no further."""
    came = 0

    def leave() -> None:
        app = get_app_or_none()
        if app and app.is_running and not (app.future and app.future.done()):
            app.exit(exception=Terminated(came))

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = number
        app = get_app_or_none()
        if app is None or app.loop is None:
            raise Terminated(number)
        app.loop.call_soon_threadsafe(leave)

    try:
        with handled(handle, *leaving()):
            yield
    finally:
        if came:
            leave_undisturbed()
    if came:  # it did as the line was accepted
        raise Terminated(came)
