"""gpt2 score: how probable texts are."""

import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from gpt2cli.console import inputs, terminal
from gpt2cli.console import options as o
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
_WIDTHS = (12, 7, 11, 9, 6, 0)


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
    text: o.Texts = None,
    file: o.Files = None,
    whole: o.Whole = False,
    context: o.Context = None,
    start: o.Start = True,
    escapes: o.Escapes = False,
    special: o.SpecialText = False,
    stride: o.Stride = None,
    model: o.ModelName = None,
    precision: o.Precision = "auto",
    source: o.ModelSource = "auto",
    offline: o.Offline = False,
    device: o.Device = "auto",
    threads: o.Threads = 0,
    tokens: o.EachToken = False,
    alternatives: o.Alternatives = 3,
    sort: o.Sort = None,
    reverse: o.Reverse = False,
    top: o.Top = None,
    fail_above: o.FailAbove = None,
    as_json: o.Json = False,
    as_jsonl: o.TextLines = False,
    tsv: o.Tsv = False,
    stats: o.Totals = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    _refuse_contradictions(context_)
    note = terminal.silent if quiet else terminal.note
    # the context first: it may be what waits on stdin
    before = "" if context is None else inputs.read_context(context)
    texts = inputs.read_texts(text or [], file or [], whole=whole, escapes=escapes, note=note)

    # NumPy, ONNX Runtime, tokenizers: 200 ms that --help and usage errors do not pay
    from gpt2cli.analysis.scoring import Score, Scorer
    from gpt2cli.model import load
    from gpt2cli.store.store import Listener

    with terminal.progress(quiet=quiet) as update:
        listener = Listener(update, note, terminal.note)
        opened = load(
            model,
            precision=precision,
            source=source,
            device=device,
            threads=threads,
            offline=offline,
            listener=listener,
        )
    tokenizer = opened.tokenizer
    if verbose:
        terminal.note(f"{opened.name}, {opened.precision} on {opened.device}, from {opened.folder}")
    ids = tokenizer.encode(before, special=special)
    scorer = Scorer(opened, context=ids, start=start, stride=stride, top=alternatives if tokens else None)
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
        for group in texts:
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
                above += fail_above is not None and (result.perplexity or 0) > fail_above

    found = rows()
    if sort is not None or top is not None:
        found = _arranged(found, sort or "perplexity", reverse=reverse, top=top)
    common = {
        "model": opened.name,
        "revision": opened.revision,
        "precision": opened.precision,
        "device": opened.device,
        "window": opened.engine.window,
        "stride": scorer.stride,
        "start": start and opened.start is not None,
        "context_tokens": scorer.context,
    }
    with terminal.Output() as output:
        if as_json:
            _json(output, common, found, total, tokenizer, tokens=tokens)
        elif as_jsonl:
            for row in found:
                output.write(_line(common | _plain(row, tokenizer, tokens=tokens)))
        else:
            _columns(output, found, tokenizer, tokens=tokens, aligned=terminal.stdout_is_terminal() and not tsv)
    if stats:
        seconds = time.monotonic() - begun
        perplexity, _, logprob, _ = _cells(total)
        terminal.say(
            f"{count} texts · {total.tokens} tokens · perplexity {perplexity} · logprob {logprob}"
            f" · {total.tokens / max(seconds, 1e-9):.0f} tokens/s"
        )
    if above:
        note(f"{above} of {count} texts have a perplexity above {fail_above:g}")
        return EXIT_ABOVE
    return 0


def _refuse_contradictions(context: typer.Context) -> None:
    values = context.params
    formats = [flag for flag in ("json", "jsonl") if values[f"as_{flag}"]] + ["tsv"] * values["tsv"]
    if len(formats) > 1:
        raise UsageError(f"--{formats[0]} contradicts --{formats[1]}", "choose one of them")
    if values["quiet"] and values["verbose"]:
        raise UsageError("--quiet contradicts --verbose", "choose one of them")
    if values["sort"] is not None and values["sort"] not in o.SORT_KEYS:
        raise UsageError(f"--sort '{values['sort']}' is no column", f"choose {', '.join(o.SORT_KEYS)}")
    if values["reverse"] and values["sort"] is None and values["top"] is None:
        raise UsageError("--reverse without an order", "add --sort KEY or --top N")
    if o.given(context, "alternatives") and not values["tokens"]:
        raise UsageError("--alternatives has nowhere to go", "add --tokens")
    if values["fail_above"] is not None and not values["fail_above"] >= 0:
        raise UsageError(f"--fail-above {values['fail_above']} is no perplexity", "give a number such as 1000")
    if str(values["context"]) == "-":
        texts = values["text"] or [str(file) for file in values["file"] or ["-"]]
        if "-" in texts:
            raise UsageError("stdin cannot be both --context and text", "give one of them as a file: --context FILE")
    if values["whole"] and values["text"]:
        raise UsageError("--whole with texts as arguments", "leave it out: each argument is one text anyway")


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
