"""The editor of a line at the end of the text. The only file that knows prompt_toolkit."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, get_app, get_app_or_none
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document as Typed
from prompt_toolkit.filters import is_searching
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.lexers import SimpleLexer
from prompt_toolkit.output import Output, create_output
from prompt_toolkit.utils import is_dumb_terminal

from gpt2cli.console import terminal
from gpt2cli.console.signals import leave_undisturbed, leaving
from gpt2cli.console.wrapping import Run
from gpt2cli.errors import Terminated

BLOCK = '"""'

# the line before the cursor -> how many of its last characters are replaced, by what, and what that is
Complete = Callable[[str], tuple[int, list[tuple[str, str]]]]
# the width, and what has been typed -> the status bar
Status = Callable[[int, str], str]


def output() -> Output:
    """The terminal."""
    return create_output(stdout=sys.stdout)


def is_dumb() -> bool:
    """Whether the terminal cannot go back in a row: it collects lines itself."""
    return is_dumb_terminal()


class LineEditor:
    """`read` edits a line behind the row with which the text ends; when it is accepted, both are wiped out."""

    def __init__(self, complete: Complete, status: Status, style: str, history: Path | None) -> None:
        """`style` is that of what is typed. Lines are remembered in the file `history`, if there is one."""
        self._style = style
        self._session: PromptSession[str] = PromptSession(
            history=_history(history),
            completer=_Completer(complete),
            complete_while_typing=False,
            multiline=True,
            prompt_continuation="",
            key_bindings=_bindings(),
            lexer=SimpleLexer(style),
            bottom_toolbar=lambda: status(self._columns, get_app().current_buffer.text),
            erase_when_done=True,
            enable_suspend=True,
            enable_open_in_editor=True,
            tempfile_suffix=".txt",
            reserve_space_for_menu=4,
        )

    @property
    def _columns(self) -> int:
        return self._session.output.get_size().columns

    def read(self, row: Callable[[], Sequence[Run]], width: int, resized: Callable[[], None]) -> str:
        """The next input, below rows that were broken for a window of `width` columns. `resized` draws the text again
        on an empty screen. Raises EOFError at Ctrl-D, KeyboardInterrupt at Ctrl-C."""

        def prompt() -> FormattedText:  # asked for whenever the line is drawn
            nonlocal width
            if width != self._columns:
                width = self._columns
                asyncio.get_running_loop().call_soon(_redraw, get_app(), resized)
            return FormattedText((self._style if yours else "", text) for yours, text in row())

        with _signals():
            return readable(self._session.prompt(prompt))


def ask(question: str) -> str:
    """The answer, edited in a line of its own. Raises EOFError and KeyboardInterrupt."""
    with _signals():
        return readable(PromptSession[str]().prompt(question))


def plain_line() -> str:
    """A line, or a block, as the terminal itself collects it."""
    line = input("> ")
    while line.startswith(BLOCK) and not is_closed(line):
        line += "\n" + input()
    return readable(line)


def readable(line: str) -> str:
    """Bytes that were no UTF-8 as U+FFFD."""
    return "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in line)


def is_closed(text: str) -> bool:
    """Whether a block that begins with three quotes ends with three others."""
    return len(text.rstrip()) >= 2 * len(BLOCK) and text.rstrip().endswith(BLOCK)


def _redraw(app: Application[str], resized: Callable[[], None]) -> None:
    app.renderer.erase()
    resized()
    app.renderer.request_absolute_cursor_position()
    app.invalidate()


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

    @bindings.add(Keys.CPRResponse, save_before=lambda event: False)
    def place(event: KeyPressEvent) -> None:  # the terminal says in which row the cursor is
        renderer = event.app.renderer
        renderer.report_absolute_cursor_row(renderer.output.get_size().rows)  # counts the answer, and promises no room
        if not renderer.waiting_for_cpr:  # else `_redraw` has moved the text since this one was asked for
            renderer.report_absolute_cursor_row(int(event.data[2:-1].split(";")[0]))

    return bindings


class _Completer(Completer):
    def __init__(self, complete: Complete) -> None:
        self._complete = complete

    def get_completions(self, document: Typed, event: CompleteEvent) -> Iterator[Completion]:
        replaced, words = self._complete(document.text_before_cursor)
        return iter([Completion(word, -replaced, display_meta=what) for word, what in words])


class _FileHistory(FileHistory):
    def store_string(self, string: str) -> None:
        with contextlib.suppress(OSError):  # a full disk is no reason to stop writing
            super().store_string(readable(string))


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
        asked, came = came, max(came, number)  # Python sorts two that come together: SIGTERM counts more than SIGHUP
        if asked:
            return
        app = get_app_or_none()
        if app is None or app.loop is None:
            raise Terminated(number)
        app.loop.call_soon_threadsafe(leave)

    before = [(number, signal.getsignal(number)) for number in leaving()]
    try:
        for number, _ in before:
            signal.signal(number, handle)
        yield
    finally:
        if came:  # nor is the next one heard while `before` would be put back
            leave_undisturbed()
        else:
            for number, previous in before:
                signal.signal(number, previous)
    if came:  # it did as the line was accepted
        raise Terminated(came)
