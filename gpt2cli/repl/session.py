"""A model writing in a document: what is fed to it, and what becomes of its pieces.

What you have written is tokenised together with all that stands before it, as `gpt2 generate` would; what the model
says after it keeps the tokens it chose."""

import codecs
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from gpt2cli.console import written
from gpt2cli.engine.facts import Logits
from gpt2cli.engine.tasks import Feed, Task
from gpt2cli.errors import CannotMeet, UsageError
from gpt2cli.generation import constraints, texts
from gpt2cli.generation.requests import Logprob, Piece, Request
from gpt2cli.generation.sampling import log_softmax
from gpt2cli.model import Model
from gpt2cli.repl.document import Document, Node
from gpt2cli.repl.knobs import Settings
from gpt2cli.tokenizer.tokenizer import Tokenizer


@dataclass
class Stats:
    """The last continuation: tokens fed and reused of its context, tokens it chose, and seconds."""

    seed: int
    fed: int = 0
    reused: int = 0
    tokens: int = 0
    first_s: float = 0.0
    total_s: float = 0.0

    @property
    def speed(self) -> float:
        """Tokens a second after the first step."""
        return self.tokens / max(self.total_s - self.first_s, 1e-9)


@dataclass
class _Row:
    """One continuation as far as it has come."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    finish: str | None = None


class Session:
    """`write` continues the document; what comes becomes nodes however it ends."""

    def __init__(self, model: Model, settings: Settings, document: Document | None = None) -> None:
        """Raises UsageError and CannotMeet where the model cannot take the settings."""
        self.document = document or Document()
        self.stats: Stats | None = None
        self._ids: tuple[object, list[int]] = (None, [])  # of the place they were computed for
        self._begin(model, settings)

    def _begin(self, model: Model, settings: Settings) -> None:
        window = model.engine.window
        if settings.limits.keep > window // 2:
            raise CannotMeet(
                f"keep {settings.limits.keep} leaves too little of the window of {window} tokens",
                f"keep at most {window // 2}",
            )
        biases = written.logit_bias(settings.logit_bias, model.tokenizer, escapes=False)
        model.engine.check_ids(list(biases))
        if settings.constraint:
            constraints.matcher(model, settings.constraint)  # which says what is wrong with it
        self.model, self.settings, self._biases = model, settings, biases

    def change(self, settings: Settings) -> None:
        """Go on with other settings. Raises UsageError and CannotMeet."""
        self._begin(self.model, settings)

    def use(self, model: Model) -> None:
        """Go on with another model. Raises UsageError and CannotMeet where it cannot take the settings."""
        self._begin(model, self.settings)
        self.stats = None

    def ids(self) -> list[int]:
        """The tokens of the current text."""
        place = (self.document, self.document.current, self.model)
        if self._ids[0] != place:
            self._ids = place, self._tokenised(self.document.path())
        return self._ids[1]

    def _tokenised(self, path: list[Node]) -> list[int]:
        said = len(path)
        while said and self._ours(path[said - 1]):
            said -= 1
        ids = self.model.tokenizer.encode("".join(node.text for node in path[:said]))
        if not ids and path and self.model.start is not None:
            ids = [self.model.start]  # what a text from nothing was begun with
        return ids + [token for node in path[said:] for token in node.ids]

    def _ours(self, node: Node) -> bool:
        """Whether the node's tokens are this model's (a file may claim anything)."""
        model = self.model
        return (
            node.author == "model"
            and node.model == model.name
            and bool(node.ids)
            and max(node.ids) < model.engine.vocabulary
            and model.tokenizer.decode(node.ids) == node.text
        )

    def context(self) -> list[int]:
        """The tokens that are fed: all, or the first `keep` and the recent ones. Where these begin moves in steps of
        a quarter of the window, so that the cache serves several continuations of a long text."""
        ids, window, keep = self.ids(), self.model.engine.window, self._keep()
        step = max(1, (window - keep) // 4)
        most = self.settings.limits.max_tokens
        room = step if most is None else min(most, step)
        start = keep
        while keep + len(ids) - start + room > window and start + step < len(ids):
            start += step
        return ids[:keep] + ids[start:]

    def _keep(self) -> int:
        """The tokens at the beginning that stay."""
        path, keep = self.document.path(), self.settings.limits.keep
        if keep == -1:
            keep = len(self.model.tokenizer.encode(path[0].text)) if path else 0
        return min(keep, self.model.engine.window // 2)

    def write(self, samples: int = 1) -> Generator[Piece, None, None]:
        """Continue at the current place. Each row becomes a node when the iterator ends or is closed; a row of which
        nothing came becomes none. The last new node of the first row is then current.

        The text of a piece with `finish` may hold half a character, which its node does not. Raises UserError."""
        settings, model = self.settings, self.model
        ids = texts.fit(model, self.context()).ids
        sampling = replace(settings.sampling, logit_bias=self._biases)
        limits = replace(settings.limits, keep=self._keep())
        pieces = texts.stream(
            model, Request(ids, sampling, limits, samples, resumes=True, constraint=settings.constraint)
        )
        self.stats = stats = Stats(settings.seed, reused=model.scheduler.shared(ids))
        stats.fed = len(ids) - stats.reused
        return self._watched(pieces, [_Row() for _ in range(samples)], stats)

    def _watched(self, pieces: Iterator[Piece], rows: list[_Row], stats: Stats) -> Generator[Piece, None, None]:
        begun, place = time.monotonic(), self.document.current
        try:
            for piece in pieces:
                row = rows[piece.row]
                stats.total_s = time.monotonic() - begun
                stats.first_s = stats.first_s or stats.total_s
                stats.tokens += piece.token is not None
                row.text += piece.text
                row.finish = piece.finish
                if piece.token is not None:
                    row.ids.append(piece.token)
                yield piece
        finally:
            self._add(rows, place)

    def _add(self, rows: list[_Row], place: int) -> None:
        settings, tokenizer = self.settings, self.model.tokenizer
        first = None
        for number, row in enumerate(rows):
            if row.finish == "stop":
                text, ids = row.text, row.ids
                if tokenizer.decode(ids) != text:
                    ids = tokenizer.encode(text)
            else:
                text, ids = whole_characters(row.ids, tokenizer)
            if text:
                details = settings.record() | ({"row": number} if len(rows) > 1 else {})
                node = self.document.append(
                    *("model", text), parent=place, ids=ids, model=self.model.name, seed=settings.seed, settings=details
                )
                first = first or node
        if first:
            self.document.goto(first.id)
        self.settings = settings.later()

    def why(self, count: int) -> list[Logprob]:
        """For each token of the model's last text: its probability, and the `count` best. Of a text longer than the
        context, for the end of it. Raises UsageError where the last text is not the model's."""
        node, context = self._last(), self.context()
        cut = len(context) < len(self.ids())
        recent = len(context) - (self._keep() if cut else 0)  # what was kept of the beginning is no neighbour of it
        start = max(1, len(context) - min(recent, len(node.ids)))
        values = log_softmax(self.model.scheduler.run(_logits(context[:-1], start - 1)))
        best = np.argsort(-values, axis=1, kind="stable")[:, :count]
        return [
            Logprob(float(row[token]), tuple((int(other), float(row[other])) for other in top))
            for row, token, top in zip(values, context[start:], best, strict=True)
        ]

    def choose_instead(self, place: int, token: int) -> Node:
        """A branch with `token` for the last text's token at `place`, and nothing after it. Raises UsageError."""
        node = self._last()
        ids = [*node.ids[:place], token]
        text, whole = whole_characters(ids, self.model.tokenizer)
        if whole != ids:
            raise UsageError("this token is a part of a character", "choose one that ends with a whole character")
        return self.document.append(
            *("model", text), parent=node.parent, ids=ids, model=self.model.name, settings={"chosen": place}
        )

    def _last(self) -> Node:
        node = self.document.nodes[self.document.current]
        if not self._ours(node):
            raise UsageError("the last text is not this model's", "an empty line lets it go on, then /why")
        return node


def _logits(ids: list[int], first: int) -> Task[None, Logits]:
    """Those after each of the ids from the place `first` on."""
    logits = yield [Feed(ids, every=True, reuse=first, resumes=True)]
    return logits[len(logits) - (len(ids) - first) :]


def whole_characters(ids: list[int], tokenizer: Tokenizer) -> tuple[str, list[int]]:
    """The text of `ids` and the ids, without those at the end that leave a character incomplete: going on there,
    the model chooses them again, and never has to go on from U+FFFD."""
    ids = list(ids)
    while ids:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        decoder.decode(b"".join(map(tokenizer.bytes_of, ids)))
        if not decoder.getstate()[0]:
            break
        ids.pop()
    return tokenizer.decode(ids), ids
