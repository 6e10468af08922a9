"""What `gpt2 score` finds, as rows: computed, put in order, and written in columns or as JSON while they come.

Whatever ends the work early, complete rows are written, and what has been scored of the text that it was at."""

import contextlib
import math
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gpt2cli.analysis.scoring import Score, Scored, Scorer
from gpt2cli.console import display, inputs, terminal
from gpt2cli.console.bars import Bar, time_left
from gpt2cli.console.tables import Column, Table, cut
from gpt2cli.errors import Terminated, UserError
from gpt2cli.tokenizer.tokenizer import IdStream, Tokenizer

Write = Callable[[str], None]
Made = TypeVar("Made")

_STOPS = (KeyboardInterrupt, Terminated, UserError)
_PLACE = 16  # cells at least for where a line stands, where that may be in several files
_LINES = [Column("perplexity", 11), Column("tokens", 6), Column("logprob", 10), Column("bits/byte", 9)]
_FILES = [Column("perplexity", 11), Column("tokens", 9), Column("logprob", 13), Column("bits/byte", 9)]
_TOKENS = [
    *(Column("logprob", 9), Column("rank", 6), Column("id", 6), Column("token", 16, left=True)),
    Column("most likely", left=True),
]


@dataclass
class Row:
    """A text and its score, which is complete when the tokens have been consumed; or else `stopped` is the reason."""

    text: inputs.Text
    tokens: Iterable[Scored] = ()
    score: Score = field(default_factory=Score)
    stopped: BaseException | None = None
    kept: list[Scored] = field(default_factory=list)  # the first tokens, as many as the reading keeps

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """What ends the work while the tokens are consumed waits until the row is written."""
        try:
            yield
        except _STOPS as reason:
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
        perplexity, tokens, logprob, _ = _cells(self.total)
        return (
            f"{counted(self.count, 'text')} · {counted(tokens, 'token')} · perplexity {perplexity} · logprob {logprob}"
            f" · {self.speed:.0f} tokens/s"
        )


def counted(number: int | str, noun: str) -> str:
    """1 text, 2 texts."""
    return f"{number} {noun}{'' if str(number) == '1' else 's'}"


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
    except _STOPS as error:
        reason = error
    yield from sorted(kept, key=value)[:top]
    if reason is not None:
        raise reason


def plain_form() -> str:
    """For whoever reads stdout, where no form was asked for."""
    return "table" if display.stdout_is_terminal() else "tsv"


def write(
    write: Write, rows: Iterable[Row], reading: Reading, common: dict[str, Any], *, form: str, several: bool
) -> BaseException | None:
    """Every row, as "json", "jsonl", "tsv" or "table"; returns what has ended the work early. `common` are JSON's
    fields of all texts; `several`: the lines may be of several files."""
    try:
        if form == "json":
            _write_json(write, common, rows, reading)
        elif form == "jsonl":
            _write_jsonl(write, common, rows, reading)
        elif form == "tsv":
            _write_tsv(write, rows, reading)
        else:
            _write_table(write, rows, reading, several=several)
    except _STOPS as reason:
        return reason
    return None


def _write_tsv(write: Write, rows: Iterable[Row], reading: Reading) -> None:
    """A row a text, tab-separated. With tokens, before it a row for each of them, and an empty one after it."""
    coloured = display.rank_colours()

    def token(one: Scored) -> str:
        return coloured("\t".join(_token_cells(one, reading.tokenizer)), one.rank) + "\n"

    for row in rows:
        if reading.tokens:
            row.hand(token, write)
        if not row.empty:
            # both may hold what would break a row, or what a terminal would obey
            last = terminal.visible(os.fsencode(row.text.place)), terminal.visible((row.text.shown or "").encode())
            write("\t".join([*_cells(row.score), *last]) + "\n" + ("\n" if reading.tokens else ""))


def _write_table(write: Write, rows: Iterable[Row], reading: Reading, *, several: bool) -> None:
    """The same for a terminal: under headings, and no wider than it is."""
    coloured, room = display.rank_colours(), shutil.get_terminal_size().columns
    each, cells = Table(_TOKENS, room), max(_PLACE, room // 5)
    if reading.whole:
        table = Table([*_FILES, Column("file", tail=True)], room)
    else:
        table = Table([*_LINES, Column("line", cells if several else 5), Column("text")], room)
    head = "" if reading.tokens else f"{table.head}\n"  # with the first row: before it there may be an error

    def token(one: Scored) -> str:
        return coloured(each.line(_token_cells(one, reading.tokenizer)), one.rank) + "\n"

    for row in rows:
        if reading.tokens:
            write(f"{each.head}\n")
            row.hand(token, write)
        if row.empty:
            continue
        place = terminal.visible(os.fsencode(row.text.place if reading.whole or several else str(row.text.line)))
        shown = [] if reading.whole else [terminal.visible((row.text.shown or "").encode())]
        line = table.line([*_cells(row.score), place if reading.whole else cut(place, cells, end=False), *shown])
        write(f"{table.head}\n{line}\n\n" if reading.tokens else f"{head}{line}\n")
        head = ""


def _cells(score: Score) -> list[str]:
    """Perplexity, tokens, log-probability, bits per byte; - where there is none."""
    perplexity, bits = score.perplexity, score.bits_per_byte
    return [
        "-" if perplexity is None else f"{perplexity:.6g}",
        str(score.tokens),
        f"{score.logprob:.4f}",
        "-" if bits is None else f"{bits:.4f}",
    ]


def _token_cells(scored: Scored, tokenizer: Tokenizer) -> list[str]:
    """Log-probability, rank, id, piece, and the best alternatives with their probabilities."""

    def piece(token: int) -> str:
        return terminal.visible(tokenizer.bytes_of(token))

    best = "  ".join(f"{piece(token)} {math.exp(logprob):.1%}" for token, logprob in scored.top)
    if scored.logprob is None:
        return ["-", "-", str(scored.token), piece(scored.token), ""]
    return [f"{scored.logprob:.4f}", str(scored.rank), str(scored.token), piece(scored.token), best]


def _write_json(write: Write, common: dict[str, Any], rows: Iterable[Row], reading: Reading) -> None:
    """One object, with what there is also where the rows end early."""
    plain: list[str] = []
    reason: BaseException | None = None
    try:
        plain.extend(_line(value).rstrip() for row in rows if (value := _plain(row, reading)))
    except _STOPS as error:
        reason = error
    if plain or reason is None:
        head, texts, sums = _line(common)[:-2], ",\n".join(plain), _line(reading.total.plain())[:-1]
        ended = "true" if reason else "false"
        write(f'{head}, "texts": [\n{texts}], "total": {sums}, "interrupted": {ended}}}\n')
    if reason is not None:
        raise reason


def _write_jsonl(write: Write, common: dict[str, Any], rows: Iterable[Row], reading: Reading) -> None:
    """A line a text."""
    for row in rows:
        if value := _plain(row, reading):
            write(_line(common | value))


def _plain(row: Row, reading: Reading) -> dict[str, Any] | None:
    """For JSON; None for a text that the work has not come to."""
    logprobs: list[dict[str, Any]] = []
    # before the sums: consuming the tokens completes them
    row.hand(lambda one: one.plain(reading.tokenizer), logprobs.append)
    return None if row.empty else plain_row(row, logprobs if reading.tokens else None)


def plain_row(row: Row, logprobs: list[dict[str, Any]] | None) -> dict[str, Any]:
    """A row for JSON, with what there is of its tokens."""
    where = {"file": row.text.file, "line": row.text.line, "text": row.text.shown}
    return where | row.score.plain() | {"logprobs": logprobs, "interrupted": row.stopped is not None}


def _line(value: dict[str, Any]) -> str:
    return terminal.json_text(value, allow_nan=False) + "\n"
