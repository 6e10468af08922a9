"""The rows of `gpt2 score`, written in columns or as JSON while they come."""

import math
import os
import shutil
from collections.abc import Callable, Iterable
from typing import Any

from gpt2cli.analysis.comparison import label
from gpt2cli.analysis.scoring import Scored, Scorer
from gpt2cli.console import display, terminal
from gpt2cli.console.scores import STOPS, Reading, Row, cells
from gpt2cli.console.tables import Column, Table, cut
from gpt2cli.model import Model
from gpt2cli.tokenizer.tokenizer import Tokenizer

Write = Callable[[str], None]

_PLACE = 16  # cells at least for where a line stands, where that may be in several files
_LINES = [Column("perplexity", 11), Column("tokens", 6), Column("logprob", 10), Column("bits/byte", 9)]
_FILES = [Column("perplexity", 11), Column("tokens", 9), Column("logprob", 13), Column("bits/byte", 9)]
_MODEL = [("perplexity", 11), ("bits/byte", 9)]  # of each, where there are several
_TOKENS = [
    *(Column("logprob", 9), Column("rank", 6), Column("id", 6), Column("token", 16, left=True)),
    Column("most likely", left=True),
]


def plain_form() -> str:
    """For whoever reads stdout, where no form was asked for."""
    return "table" if display.stdout_is_terminal() else "tsv"


def common_of(model: Model, scorer: Scorer, *, start: bool) -> dict[str, Any]:
    """What all texts have in common, for JSON."""
    return {
        **model.plain(),
        "window": model.engine.window,
        "stride": scorer.stride,
        "start": start and model.start is not None,
        "context_tokens": scorer.context,
    }


def write(
    write: Write, rows: Iterable[Row], reading: Reading, common: dict[str, Any], *, form: str, several: bool
) -> BaseException | None:
    """Every row, as "json", "jsonl", "tsv" or "table"; returns what has ended the work early. `common` are JSON's
    fields of all texts; `several`: the lines may be of several files, or have ids."""
    try:
        if form == "json":
            _write_json(write, common, rows, reading)
        elif form == "jsonl":
            _write_jsonl(write, common, rows, reading)
        elif form == "tsv":
            _write_tsv(write, rows, reading)
        else:
            _write_table(write, rows, reading, several=several)
    except STOPS as reason:
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
            last = terminal.visible(os.fsencode(row.text.label)), terminal.visible((row.text.shown or "").encode())
            numbers = [cell for score in row.scores for cell in cells(score)]
            write("\t".join([*numbers, *last]) + "\n" + ("\n" if reading.tokens else ""))


def _write_table(write: Write, rows: Iterable[Row], reading: Reading, *, several: bool) -> None:
    """The same for a terminal: under headings, and no wider than it is."""
    coloured, room = display.rank_colours(), shutil.get_terminal_size().columns
    each, wide = Table(_TOKENS, room), max(_PLACE, room // 5)
    numbers = _FILES if reading.whole else _LINES
    if reading.others:
        letters = [label(number) for number in range(1 + len(reading.others))]
        numbers = [Column(f"{letter} {head}", cells + 2) for letter in letters for head, cells in _MODEL]
    if reading.whole:
        table = Table([*numbers, Column("file", tail=True)], room)
    else:
        table = Table([*numbers, Column("line", wide if several else 5), Column("text")], room)
    head = "" if reading.tokens else f"{table.head}\n"  # with the first row: before it there may be an error
    if reading.others:
        names = [reading.name, *(one.name for one in reading.others)]
        head = "".join(f"{letter}  {name}\n" for letter, name in zip(letters, names, strict=True)) + head

    def token(one: Scored) -> str:
        return coloured(each.line(_token_cells(one, reading.tokenizer)), one.rank) + "\n"

    for row in rows:
        if reading.tokens:
            write(f"{each.head}\n")
            row.hand(token, write)
        if row.empty:
            continue
        text = row.text
        place = terminal.visible(os.fsencode(text.label if reading.whole or several else str(text.line)))
        shown = [] if reading.whole else [terminal.visible((text.shown or "").encode())]
        found = [cell for score in row.scores for cell in (cells(score)[::3] if row.others else cells(score))]
        line = table.line([*found, place if reading.whole else cut(place, wide, end=False), *shown])
        write(f"{table.head}\n{line}\n\n" if reading.tokens else f"{head}{line}\n")
        head = ""


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
    except STOPS as error:
        reason = error
    if plain or reason is None:
        head, texts = _line(common)[:-2], ",\n".join(plain)
        totals = [one.total.plain() for one in (reading, *reading.others)]
        sums = terminal.json_text(totals if reading.others else totals[0])
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
    text = row.text
    where = {"file": text.file, "line": text.line, "id": text.id, "text": text.shown}
    if row.others:
        return where | {"scores": [score.plain() for score in row.scores]}
    return where | row.score.plain() | {"logprobs": logprobs, "interrupted": row.stopped is not None}


def _line(value: Any) -> str:
    return terminal.json_text(value, allow_nan=False) + "\n"
