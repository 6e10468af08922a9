"""Read a line, answer it, until somebody leaves."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from gpt2cli.errors import UserError
from gpt2cli.model import Model
from gpt2cli.repl import commands, files, layout
from gpt2cli.repl.document import Document
from gpt2cli.repl.screen import BLOCK, Screen, is_closed
from gpt2cli.repl.session import Session


class Repl:
    """A session at a screen."""

    def __init__(self, session: Session, open_model: Callable[[str], Model], history: Path | None) -> None:
        """`open_model` opens a model by name; `history` is the file in which lines are remembered."""
        self.session, self.open_model = session, open_model
        self.screen = Screen(lambda line: commands.complete(self, line), self._status, history)
        self.file: Path | None = None
        self.saved = session.document.to_json()
        self._told = False  # of spaces

    @property
    def changed(self) -> bool:
        """Whether there is more than what was saved."""
        return len(self.session.document.nodes) > 1 and self.session.document.to_json() != self.saved

    def opened(self, document: Document, path: Path) -> None:
        """Go on with a document from a file."""
        self.session.document = document
        self.file, self.saved = path, document.to_json()

    def run(self, draft: Path | None) -> None:
        """Until the user leaves. What is not saved then goes to the file `draft`."""
        self.screen.say("Write, and the model goes on. /help lists the commands, Ctrl-D leaves.")
        if self.file:
            self.screen.rule(str(self.file))
            self.show()
        try:
            with self.screen.held():
                self._converse()
        finally:  # nobody loses a text because a terminal was closed
            self.screen.end()
            if self.changed and draft:
                self._keep(draft)

    def _keep(self, draft: Path) -> None:
        with contextlib.suppress(OSError):
            draft.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.save(self.session.document, draft)
        self.screen.say(f"not saved, but kept until you next leave: gpt2 repl --load {draft}")

    def _converse(self) -> None:
        while True:
            try:
                self.answer(self.screen.read())
            except EOFError:
                break
            except KeyboardInterrupt:
                self.screen.say("Ctrl-D or /exit leaves; /help lists the commands")
            except UserError as error:
                self.screen.error(error.message, error.hint)

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

    def write(self, samples: int, *, stream: bool = False) -> str | None:
        """Let the session write until it is done or Ctrl-C; returns the last piece's finish."""
        document, printed, finish = self.session.document, 0, None
        known = len(document.nodes)
        with (
            contextlib.suppress(KeyboardInterrupt),
            contextlib.closing(self.session.write(samples)) as pieces,
        ):
            for piece in pieces:
                finish = piece.finish
                if stream and finish is None:
                    self.screen.text(piece.text, yours=False)
                    printed += len(piece.text)
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
