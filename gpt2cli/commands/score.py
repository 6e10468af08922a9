"""gpt2 score: how probable texts are."""

import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt2cli.console import inputs, terminal
from gpt2cli.console import options as o
from gpt2cli.console.groups import Options, given
from gpt2cli.errors import EXIT_ABOVE, Terminated, UsageError, UserError

if TYPE_CHECKING:
    from gpt2cli.analysis.scoring import Score, Scored
    from gpt2cli.tokenizer.tokenizer import Tokenizer

HELP = """Score texts: each line, each argument, or each file as a whole.

Columns: perplexity, tokens, log-probability (natural), bits per byte, line, text. In the last two a backslash, a
tab, a newline and other control characters are written as -e reads them."""
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 score -f story.txt --top 5               the five strangest lines
  gpt2 score --sort logprob --top 1 "I ate a pear." "I ate a spear."
  gpt2 score --whole -f a.txt -f b.txt          a perplexity for each file
  gpt2 score --tokens "The cat sat on the moon."
  git log -1 --format=%s | gpt2 score -q --fail-above 5000
"""
HEADER = ("perplexity", "tokens", "logprob", "bits/byte", "line", "text")
_KEYS = ("perplexity", "bits_per_byte", "logprob", "tokens")
_WIDTHS = (12, 7, 11, 9, 6, 0)


@dataclass(frozen=True)
class TextOptions(Options):
    heading = "Texts"

    text: Annotated[
        list[str],
        typer.Argument(
            metavar="[TEXT]...", help="A text each; - is stdin's lines. Default: stdin.", show_default=False
        ),
    ] = field(default_factory=list)
    file: o.Files = field(default_factory=list)
    whole: Annotated[bool, typer.Option("--whole", help="Score each file, or stdin, as one text, not by lines.")] = (
        False
    )
    escapes: o.Escapes = False
    special: o.Special = False

    def __post_init__(self) -> None:
        if self.whole and self.text:
            raise UsageError("--whole with texts as arguments", "leave it out: each argument is one text anyway")


@dataclass(frozen=True)
class ScoringOptions(Options):
    heading = "Scoring"

    context: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Text that precedes each and is not scored.", show_default=False),
    ] = None
    start: Annotated[
        bool,
        typer.Option(
            "--start/--no-start", help="Score the first token, given the start token where the model has one."
        ),
    ] = True
    stride: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Tokens by which the window moves on in a longer text. Default: half of it.",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True)
class OutputOptions(Options):
    heading = "Output"

    sort: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Highest first, by perplexity, bits_per_byte, logprob or tokens.",
            autocompletion=lambda incomplete: [key for key in _KEYS if key.startswith(incomplete)],
            show_default=False,
        ),
    ] = None
    reverse: Annotated[bool, typer.Option("--reverse", help="With --sort or --top: lowest first.")] = False
    top: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Only the first N, by perplexity unless --sort.", show_default=False),
    ] = None
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Each token: log-probability, rank, and what was likelier.")
    ] = False
    alternatives: Annotated[
        int, typer.Option(metavar="N", min=0, help="With --tokens: the N most probable tokens.")
    ] = 3
    fail_above: Annotated[
        float | None,
        typer.Option(metavar="X", help="Exit with code 8 where a perplexity is above X.", show_default=False),
    ] = None
    as_json: o.Json = False
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a text, each on a line.")] = False
    tsv: Annotated[bool, typer.Option("--tsv", help="Tab-separated and without header, on a terminal too.")] = False
    stats: Annotated[bool, typer.Option("--stats", help="Print totals and speed to stderr.")] = False

    def __post_init__(self) -> None:
        formats = ["--json"] * self.as_json + ["--jsonl"] * self.as_jsonl + ["--tsv"] * self.tsv
        if len(formats) > 1:
            raise UsageError(f"{formats[0]} contradicts {formats[1]}", "choose one of them")
        if self.sort is not None and self.sort not in _KEYS:
            raise UsageError(f"--sort '{self.sort}' is no column", f"choose {', '.join(_KEYS)}")
        if self.reverse and self.sort is None and self.top is None:
            raise UsageError("--reverse without an order", "add --sort KEY or --top N")
        if self.fail_above is not None and not self.fail_above >= 0:
            raise UsageError(f"--fail-above {self.fail_above} is no perplexity", "give a number such as 1000")


@dataclass
class Row:
    """A text and its score, which is complete when the tokens have been consumed."""

    text: inputs.Text
    score: "Score"
    tokens: "Iterable[Scored]"

    def finish(self) -> "Row":
        """Keep the tokens that are yet to come."""
        self.tokens = list(self.tokens)
        return self


def score(
    context_: typer.Context,
    texts: TextOptions,
    scoring: ScoringOptions,
    shown: OutputOptions,
    model: o.ModelOptions,
    talk: o.TalkOptions,
) -> int:
    _refuse_contradictions(texts, scoring, shown, alternatives=given(context_, "alternatives"))
    note, special, whole, tokens = talk.note, texts.special, texts.whole, shown.tokens
    # the context first: it may be what waits on stdin
    before = "" if scoring.context is None else inputs.read_context(scoring.context)
    groups = inputs.read_texts(texts.text, texts.file, whole=whole, escapes=texts.escapes, note=note)

    # NumPy: 60 ms that --help and usage errors do not pay
    from gpt2cli.analysis.scoring import Score, Scorer

    opened = model.open(talk)
    tokenizer = opened.tokenizer
    ids = tokenizer.encode(before, special=special)
    scorer = Scorer(
        opened, context=ids, start=scoring.start, stride=scoring.stride, top=shown.alternatives if tokens else None
    )
    if scorer.context < len(ids):
        note(f"of the context's {len(ids)} tokens the last {scorer.context} count")

    total, count, above, begun = Score(), 0, 0, time.monotonic()

    def added(found: Iterable["Scored"], result: Score) -> Iterator["Scored"]:
        for one in found:
            nbytes = len(tokenizer.bytes_of(one.token))
            result.add(one.logprob, nbytes)
            total.add(one.logprob, nbytes)
            yield one

    def rows() -> Iterator[Row]:
        nonlocal count, above
        for group in groups:
            if whole:
                streams: Iterable[Iterable[Scored]] = (
                    scorer.tokens(_ids(tokenizer, one.blocks, special=special)) for one in group
                )
            else:
                streams = scorer.texts(tokenizer.encode("".join(one.blocks), special=special) for one in group)
            for one, stream in zip(group, streams, strict=True):
                result = Score()
                row = Row(one, result, added(stream, result))
                yield row if tokens else row.finish()
                row.finish()  # whatever the reader left
                count += 1
                above += (result.perplexity or 0) > (math.inf if shown.fail_above is None else shown.fail_above)

    found = rows()
    if shown.sort is not None or shown.top is not None:
        found = _arranged(found, shown.sort or "perplexity", reverse=shown.reverse, top=shown.top)
    common = {
        "model": opened.name,
        "revision": opened.revision,
        "precision": opened.precision,
        "device": opened.device,
        "window": opened.engine.window,
        "stride": scorer.stride,
        "start": scoring.start and opened.start is not None,
        "context_tokens": scorer.context,
    }
    with terminal.Output() as output:
        if shown.as_json:
            _json(output, common, found, total, tokenizer, tokens=tokens)
        elif shown.as_jsonl:
            for row in found:
                output.write(_line(common | _plain(row, tokenizer, tokens=tokens)))
        else:
            _columns(output, found, tokenizer, tokens=tokens, aligned=terminal.stdout_is_terminal() and not shown.tsv)
    if shown.stats:
        seconds = time.monotonic() - begun
        perplexity, _, logprob, _ = _cells(total)
        terminal.say(
            f"{count} texts · {total.tokens} tokens · perplexity {perplexity} · logprob {logprob}"
            f" · {total.tokens / max(seconds, 1e-9):.0f} tokens/s"
        )
    if above:
        note(f"{above} of {count} texts have a perplexity above {shown.fail_above:g}")
        return EXIT_ABOVE
    return 0


def _refuse_contradictions(
    texts: TextOptions, scoring: ScoringOptions, shown: OutputOptions, *, alternatives: bool
) -> None:
    """Between the groups; `alternatives` says whether that option was given."""
    if alternatives and not shown.tokens:
        raise UsageError("--alternatives has nowhere to go", "add --tokens")
    named = texts.text or [str(file) for file in texts.file] or ["-"]
    if str(scoring.context) == "-" and "-" in named:
        raise UsageError("stdin cannot be both --context and text", "give one of them as a file: --context FILE")


def _ids(tokenizer: "Tokenizer", blocks: Iterable[str], *, special: bool) -> Iterator[int]:
    from gpt2cli.tokenizer.tokenizer import IdStream

    stream = IdStream(tokenizer, special=special)
    for block in blocks:
        yield from stream.push(block)
    yield from stream.finish()


def _arranged(rows: Iterator[Row], key: str, *, reverse: bool, top: int | None) -> Iterator[Row]:
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
            kept.append(row.finish())
            if top is not None and len(kept) >= 2 * top + 100:
                kept = sorted(kept, key=value)[:top]
    except (KeyboardInterrupt, Terminated, UserError) as error:
        reason = error
    yield from sorted(kept, key=value)[:top]
    if reason is not None:
        raise reason


def _columns(
    output: terminal.Output, rows: Iterable[Row], tokenizer: "Tokenizer", *, tokens: bool, aligned: bool
) -> None:
    """A row a text, tab-separated; aligned and with a header for a terminal. `tokens`: before it a row for each of its
    tokens, and an empty one after it."""
    coloured = terminal.rank_colours()
    if aligned:
        output.write(_aligned(HEADER) if not tokens else "")
    for row in rows:
        for scored in row.tokens if tokens else ():
            cells = _token_cells(scored, tokenizer)
            line = "{:>9} {:>6} {:>6}  {:<16} {}".format(*cells).rstrip() if aligned else "\t".join(cells)
            output.write(f"{coloured(line, scored.rank)}\n")
        place = ":".join(str(part) for part in (row.text.file, row.text.line) if part is not None) or "-"
        # both may hold what would break a row, or what a terminal would obey
        found = [*_cells(row.score), terminal.visible(os.fsencode(place))]
        found.append(terminal.visible((row.text.shown or "").encode()))
        output.write(_aligned(found) if aligned else "\t".join(found) + "\n")
        if tokens:
            output.write("\n")


def _aligned(cells: Iterable[str]) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip() + "\n"


def _cells(score: "Score") -> list[str]:
    """Perplexity, tokens, log-probability, bits per byte; - where there is none."""
    perplexity, bits = score.perplexity, score.bits_per_byte
    return [
        "-" if perplexity is None else f"{perplexity:.6g}",
        str(score.tokens),
        f"{score.logprob:.4f}",
        "-" if bits is None else f"{bits:.4f}",
    ]


def _token_cells(scored: "Scored", tokenizer: "Tokenizer") -> list[str]:
    """Log-probability, rank, id, piece, and the best alternatives with their probabilities."""

    def piece(token: int) -> str:
        return terminal.visible(tokenizer.bytes_of(token))

    best = "  ".join(f"{piece(token)} {math.exp(logprob):.1%}" for token, logprob in scored.top)
    if scored.logprob is None:
        return ["-", "-", str(scored.token), piece(scored.token), ""]
    return [f"{scored.logprob:.4f}", str(scored.rank), str(scored.token), piece(scored.token), best]


def _json(
    output: terminal.Output,
    common: dict[str, Any],
    rows: Iterable[Row],
    total: "Score",
    tokenizer: "Tokenizer",
    *,
    tokens: bool,
) -> None:
    """One object, with what there is also where the rows end early."""
    plain: list[str] = []
    reason: BaseException | None = None
    try:
        plain.extend(_line(_plain(row, tokenizer, tokens=tokens)).rstrip() for row in rows)
    except (KeyboardInterrupt, Terminated, UserError) as error:
        reason = error
    if plain or reason is None:
        head, texts, sums = _line(common)[:-2], ",\n".join(plain), _line(total.plain())[:-1]
        output.write(f'{head}, "texts": [\n{texts}], "total": {sums}}}\n')
    if reason is not None:
        raise reason


def _plain(row: Row, tokenizer: "Tokenizer", *, tokens: bool) -> dict[str, Any]:
    logprobs = [one.plain(tokenizer) for one in row.tokens]  # before the sums: consuming completes them
    where = {"file": row.text.file, "line": row.text.line, "text": row.text.shown}
    return where | row.score.plain() | {"logprobs": logprobs if tokens else None}


def _line(value: dict[str, Any]) -> str:
    return terminal.json_text(value, allow_nan=False) + "\n"
