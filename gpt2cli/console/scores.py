"""What `gpt2 score` finds, as rows: computed, and put in order. scorerows.py writes them while they come.

Whatever ends the work early, complete rows are written, and what has been scored of the text that it was at."""

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from gpt2cli.analysis.scoring import Score, Scored, Scorer
from gpt2cli.console import inputs, terminal
from gpt2cli.console.bars import Bar, time_left
from gpt2cli.console.tables import counted, cut
from gpt2cli.errors import Terminated, UserError
from gpt2cli.tokenizer.tokenizer import IdStream, Tokenizer

Made = TypeVar("Made")

STOPS = (KeyboardInterrupt, Terminated, UserError)


@dataclass
class Row:
    """A text and its score, which is complete when the tokens have been consumed; or else `stopped` is the reason."""

    text: inputs.Text
    tokens: Iterable[Scored] = ()
    score: Score = field(default_factory=Score)
    stopped: BaseException | None = None
    others: list[Score] = field(default_factory=list)  # of other models
    kept: list[Scored] = field(default_factory=list)  # the first tokens, as many as the reading keeps

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """What ends the work while the tokens are consumed waits until the row is written."""
        try:
            yield
        except STOPS as reason:
            self.stopped = reason

    def hand(self, made: Callable[[Scored], Made], take: Callable[[Made], object]) -> None:
        """`take` what is `made` of each token, also of one that was counted when the work ended."""
        waiting: Scored | None = None
        with self.stopping():
            for waiting in self.tokens:
                value = made(waiting)
                waiting = None  # what is interrupted from here on, `take` goes on with
                take(value)
        if waiting is not None:
            take(made(waiting))

    def finish(self, *, keep: bool = True) -> None:
        """Consume the tokens that are yet to come; with `keep` they can be again."""
        if self.stopped is not None:
            return
        kept: deque[Scored] = deque(maxlen=None if keep else 0)
        with self.stopping():
            kept.extend(self.tokens)
        self.tokens = kept

    @property
    def scores(self) -> list[Score]:
        """Of all models."""
        return [self.score, *self.others]

    @property
    def empty(self) -> bool:
        """Whether the work has ended before it came to this text."""
        return self.stopped is not None and not self.score.tokens


@dataclass
class Reading:
    """Texts -> rows, with what they sum up to. `size` is that of all texts in bytes, where it is known; `tokens` says
    whether the rows' tokens are wanted, `keep` how many of each row are kept in any case."""

    scorer: Scorer
    tokenizer: Tokenizer
    bar: Bar
    whole: bool
    special: bool
    tokens: bool
    fail_above: float | None
    size: int | None
    keep: int = 0
    name: str = ""  # of the model, where there are several
    others: "list[Reading]" = field(default_factory=list)  # with the other models
    total: Score = field(default_factory=Score)
    count: int = 0
    above: int = 0
    partial: Row | None = None  # the text that the work was at when it ended
    _begun: float = field(default_factory=time.monotonic)
    _bytes: int = 0

    def rows(self, texts: Iterable[list[inputs.Text]]) -> Iterator[Row]:
        for group in texts:
            for one, stream in zip(group, self._streams(group), strict=True):
                row = Row(one)
                row.tokens = self._counted(stream, row)
                if not self.tokens:
                    row.finish(keep=False)
                yield row
                row.finish()  # whatever the reader left
                self.count += not row.empty
                if row.stopped is not None:
                    self.partial = None if row.empty else row
                    raise row.stopped
                self.above += self.fail_above is not None and (row.score.perplexity or 0) > self.fail_above

    def _streams(self, group: list[inputs.Text]) -> Iterator[Iterable[Scored]]:
        if self.whole:
            return (self.scorer.tokens(self._ids(one.blocks)) for one in group)
        return self.scorer.texts(self.tokenizer.encode("".join(one.blocks), special=self.special) for one in group)

    def _ids(self, blocks: Iterable[str]) -> Iterator[int]:
        stream = IdStream(self.tokenizer, special=self.special)
        for block in blocks:
            yield from stream.push(block)
        yield from stream.finish()

    def _counted(self, found: Iterable[Scored], row: Row) -> Iterator[Scored]:
        title = f"scoring {cut(terminal.printable(row.text.file or ''), 24, end=False)}".rstrip()
        for one in found:
            nbytes = len(self.tokenizer.bytes_of(one.token))
            self._bytes += nbytes
            self.bar.update(title, self._bytes, self.size, self._told)
            self.total.add(one.logprob, nbytes)
            row.score.add(one.logprob, nbytes)
            if len(row.kept) < self.keep:
                row.kept.append(one)
            yield one

    def _told(self) -> str:
        """What stands behind the bar."""
        left = time_left(time.monotonic() - self._begun, self._bytes, self.size)
        return f"{self.total.tokens:,} tokens · {self.speed:,.0f}/s" + (f" · {left}" if left else "")

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.total.tokens / max(time.monotonic() - self._begun, 1e-9)

    def summary(self) -> str:
        """One line for people."""
        perplexity, tokens, logprob, _ = cells(self.total)
        return (
            f"{counted(self.count, 'text')} · {counted(tokens, 'token')} · perplexity {perplexity} · logprob {logprob}"
            f" · {self.speed:.0f} tokens/s"
        )


def cells(score: Score) -> list[str]:
    """Perplexity, tokens, log-probability, bits per byte; - where there is none."""
    perplexity, bits = score.perplexity, score.bits_per_byte
    return [
        "-" if perplexity is None else f"{perplexity:.6g}",
        str(score.tokens),
        f"{score.logprob:.4f}",
        "-" if bits is None else f"{bits:.4f}",
    ]


def arranged(rows: Iterable[Row], key: str, *, reverse: bool, top: int | None) -> Iterator[Row]:
    """The rows in order, the highest first; of those with equal keys the first first. What came before an
    interruption is put in order too."""

    def value(row: Row) -> float:
        number = getattr(row.score, key)
        if number is None:  # nothing was scored: last
            return math.inf
        return float(number if reverse else -number)

    kept: list[Row] = []
    reason: BaseException | None = None
    try:
        for row in rows:
            row.finish()
            if not row.empty:
                kept.append(row)
            if top is not None and len(kept) >= 2 * top + 100:
                kept = sorted(kept, key=value)[:top]
    except STOPS as error:
        reason = error
    yield from sorted(kept, key=value)[:top]
    if reason is not None:
        raise reason
