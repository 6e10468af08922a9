"""Read a line, answer it, until somebody leaves."""

import contextlib
import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from gpt2cli.console import terminal
from gpt2cli.console.signals import HANGUP, once, undisturbed
from gpt2cli.errors import Terminated, UserError
from gpt2cli.model import Model
from gpt2cli.repl import commands, files, layout
from gpt2cli.repl.screen import BLOCK, Screen, is_closed
from gpt2cli.repl.session import Session

_RECENT = 7 * 24 * 3600  # seconds for which a text that was not saved is offered


class Repl:
    """A session at a screen."""

    def __init__(self, session: Session, open_model: Callable[[str], Model], history: Path | None) -> None:
        """`open_model` opens a model by name; `history` is the file in which lines are remembered."""
        self.session, self.open_model = session, open_model
        self.screen = Screen(lambda line: commands.complete(self, line), self._status, self.show, history)
        self.drafts: Path | None = None
        self.keeps = True
        self.file: Path | None = None
        self._file_state: tuple[int, int] | None = None  # as it was read or written
        self._saved = (0, dict[str, int]())
        self._told = False  # of spaces

    @property
    def changed(self) -> bool:
        """Whether there is more than what was saved."""
        return len(self.session.document.nodes) > 1 and self._content() != self._saved

    def _content(self) -> tuple[int, dict[str, int]]:
        """Of the document: nodes are never removed or changed."""
        return len(self.session.document.nodes), dict(self.session.document.names)

    def at(self, path: Path | None) -> None:
        """The document is now what is in this file; None: in none."""
        self.file, self._file_state = path, files.state(path) if path else None
        self._saved = self._content() if path else (0, {})

    def overtaken(self, path: Path) -> bool:
        """Whether somebody else has written the document's file."""
        return path == self.file and files.state(path) not in (self._file_state, None)

    def run(self, drafts: Path | None, *, keeps: bool) -> None:
        """Until the user leaves. What is not saved then goes to a file in the folder `drafts` (None: in the system's
        for temporary files), unless nothing `keeps`."""
        self.drafts, self.keeps = drafts, keeps
        self.screen.say("Write, and the model goes on. /help lists the commands, Ctrl-D leaves.")
        kept = files.kept(drafts) if drafts else []
        changed = files.state(kept[-1]) if kept else None
        if changed and time.time() - changed[0] / 1e9 < _RECENT:
            when = time.strftime("%d %B, %H:%M", time.localtime(changed[0] / 1e9))
            self.screen.say(f"a text of {when} was not saved: /restore brings it back")
        if self.session.document.nodes[1:]:
            if self.file:
                self.screen.rule(str(self.file))
            self.show()
        try:
            with self.screen.held():
                self._converse()
        finally:  # nobody loses a text because a terminal was closed
            with undisturbed():
                kept_at = files.keep(self.session.document, drafts) if self.changed and keeps else None
                with contextlib.suppress(OSError):  # there may be no terminal any more
                    self.screen.end()
                    if kept_at:
                        self.screen.say("not saved, but kept:")
                        terminal.say(f"gpt2 repl --load {shlex.quote(str(kept_at))}")

    def _converse(self) -> None:
        warned = False
        while True:
            try:
                line = self.screen.read()
            except EOFError:
                if warned or self.keeps or not self.changed:
                    return
                warned = True
                self.screen.say("the text is not saved and will be lost: /save FILE; Ctrl-D again or /exit leaves")
                continue
            except KeyboardInterrupt:
                self.screen.say("Ctrl-D or /exit leaves; /help lists the commands")
                continue
            except OSError:  # the terminal has gone; its signal comes later, or not at all
                raise Terminated(HANGUP) from None
            try:
                self.answer(line)
            except EOFError:
                return
            except KeyboardInterrupt:
                self.screen.say("stopped")
            except UserError as error:
                self.screen.error(error.message, error.hint)
            except Exception as error:  # a mistake of ours costs nobody a text
                if os.environ.get("GPT2_DEBUG"):
                    raise
                bug = "this is a bug: run again with GPT2_DEBUG=1 and report it; /save keeps the text"
                self.screen.error(f"unexpected {type(error).__name__}: {error}", bug)

    def answer(self, line: str) -> None:
        """A command, or text for the document, after which the model goes on."""
        if line.startswith("/") and not line.startswith("//") and "\n" not in line:
            return commands.run(self, line)
        if line.startswith(BLOCK) and is_closed(line):
            text = line.rstrip()[len(BLOCK) : -len(BLOCK)].removeprefix("\n").removesuffix("\n")
        else:
            text = line.removeprefix("/") if line.startswith("//") else line
        if text:
            self.session.document.append("you", text)
            self.screen.text(text, yours=True)
        self.go_on()
        if text.endswith(" ") and not self._told:
            self._told = True
            self.screen.say("note: your text ended in a space; the model's words bring their own")
        return None

    def go_on(self) -> None:
        """The model's next text, streaming."""
        known = len(self.session.document.nodes)
        finish = self.write(1, stream=True)
        added = len(self.session.document.nodes) > known
        if finish == "end":
            self.screen.say("the model ended the text here")
        elif not added:
            self.screen.say("nothing was added")

    def write(self, samples: int, *, stream: bool = False) -> str:
        """Let the session write until it is done or Ctrl-C; returns the last piece's finish, or "interrupted"."""
        document, printed, finish = self.session.document, 0, ""
        known = len(document.nodes)
        with once():
            try:
                with contextlib.closing(self.session.write(samples)) as pieces:
                    for piece in pieces:
                        finish = piece.finish or ""
                        if stream and not finish:
                            self.screen.text(piece.text, yours=False)
                            printed += len(piece.text)
            except KeyboardInterrupt:
                finish = "interrupted"
        if stream and len(document.nodes) > known:
            self.screen.text(document.nodes[document.current].text[printed:], yours=False)
        return finish

    def show(self, *, most: int | None = None) -> None:
        """The end of the document."""
        path = self.session.document.path()
        self.screen.show([(node.author == "you", node.text) for node in path], most=most)

    def _status(self, columns: int) -> str:
        session = self.session
        model, stats = session.model, session.stats
        node = session.document.nodes[session.document.current]
        context, window = len(session.context()), model.engine.window
        seed = session.settings.seed if node.seed is None else node.seed
        speed = [f"{stats.speed:.0f} tok/s"] if stats and stats.tokens > 1 else []
        parts = [f"{model.name} {model.precision}", f"{context}/{window}", *speed, f"seed {seed}"]
        return layout.status(parts, columns)
