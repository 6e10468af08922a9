"""A session at a screen, and the file its text comes from: what every command works with."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from gpt2cli.console.signals import once
from gpt2cli.drawing.cells import width
from gpt2cli.model import Model
from gpt2cli.repl import files, layout
from gpt2cli.repl.screen import Screen
from gpt2cli.repl.session import Session

Complete = Callable[["Desk", str], tuple[int, list[tuple[str, str]]]]


class Desk:
    """Where a text is written."""

    def __init__(
        self,
        session: Session,
        open_model: Callable[[str], Model],
        complete: Complete,
        *,
        history: Path | None,
        drafts: files.Drafts | None,
        wrap: bool,
    ) -> None:
        """`open_model` opens a model by name; `history` is the file in which lines are remembered, and in `drafts` the
        text is kept while it is not saved: None where nothing is to stay."""
        self.session, self.open_model, self.drafts = session, open_model, drafts
        self.screen = Screen(lambda line: complete(self, line), self._status, self.show, history, wrap=wrap)
        self.file: Path | None = None
        self._file_state: tuple[int, int] | None = None  # as it was read or written
        self._saved = (0, dict[str, int]())
        self._told: set[str] = set()  # what is told once

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

    def draft(self) -> None:
        """Keep the text as it is now, for the case that nobody comes to save it."""
        if self.drafts and self.changed:
            self.drafts.write(self.session.document)
        elif self.drafts:
            self.drafts.drop()

    def append(self, text: str) -> None:
        """A text of yours; the model goes on after it."""
        before = self.session.document.text
        known = len(self.session.ids())
        self.session.document.append("you", text)
        self.screen.text(text, yours=True)
        self.draft()
        self.say_cut(known)
        self.go_on()
        if text.endswith(" "):
            self._tell("space", "your text ended in a space; the model's words bring their own")
        if word := _grown(before, text):
            self._tell("word", f"your text went on in the word before it: '{word}'; a new word begins with a space")

    def say_cut(self, known: int = 0) -> None:
        """Tell, once and wherever what came after `known` tokens is cut itself, that not all of the text is fed."""
        ids, fed = len(self.session.ids()), len(self.session.context())
        if fed < ids - known or (fed < ids and "cut" not in self._told):
            self._told.add("cut")
            window = self.session.model.engine.window
            which = "the first and the last ones" if self.session.settings.limits.keep else "the last ones"
            self.screen.say(f"note: of {ids} tokens the model sees {fed}, {which}: its window holds {window}")

    def _tell(self, once: str, text: str) -> None:
        if once not in self._told:
            self._told.add(once)
            self.screen.say(f"note: {text}")

    def go_on(self) -> None:
        """The model's next text, streaming."""
        known = len(self.session.document.nodes)
        finish = self.write(1, stream=True)
        added = len(self.session.document.nodes) > known
        if finish == "end":
            whole = self.session.settings.constraint
            self.screen.say("the text has its form" if whole else "the model ended the text here")
        elif finish == "incomplete":
            self.screen.say("the text does not have its form yet: /set max-tokens gives it more room")
        elif not added:
            self.screen.say("nothing was added")

    def write(self, samples: int, *, stream: bool = False) -> str:
        """Let the session write until it is done or Ctrl-C; returns the last piece's finish, or "interrupted"."""
        document, printed, finish = self.session.document, 0, ""
        known = len(document.nodes)
        with once():
            try:
                if stream:
                    self.screen.at_work()
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

    def _status(self, columns: int, typed: str) -> str:
        session = self.session
        if word := _grown(session.document.text, typed):
            return layout.status([f"'{word}'", "a new word begins with a space"], columns)
        model, stats = session.model, session.stats
        node = session.document.nodes[session.document.current]
        context, window = len(session.context()), model.engine.window
        seed = session.settings.seed if node.seed is None else node.seed
        speed = [f"{stats.speed:.0f} tok/s"] if stats and stats.tokens > 1 else []
        parts = [f"{model.name} {model.precision}", f"{context}/{window}", *speed, f"seed {seed}"]
        return layout.status(parts, columns)


def _grown(before: str, typed: str) -> str:
    """The word that a text makes of the one before it, where no space parts them; "" where that can only be meant."""
    if not (before[-1:].isalnum() or before[-1:] in tuple(".,;:!?")) or not typed[:1].isalnum():
        return ""
    if width(before[-1]) + width(typed[0]) > 2:  # a script without spaces
        return ""
    return before.split()[-1][-20:] + typed.split()[0][:20]
