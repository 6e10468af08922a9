"""gpt2 score: how probable texts are."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt2cli.console import inputs, outputs, terminal
from gpt2cli.console import options as o
from gpt2cli.console.bars import Bar
from gpt2cli.console.groups import Options, given
from gpt2cli.console.pictures import PictureOptions
from gpt2cli.errors import EXIT_ABOVE, UsageError

if TYPE_CHECKING:
    from gpt2cli.analysis.scoring import Scorer
    from gpt2cli.model import Model

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
  gpt2 score --whole -f story.txt --html page.html    coloured by surprise
  git log -1 --format=%s | gpt2 score -q --fail-above 5000
"""
_KEYS = ("perplexity", "bits_per_byte", "logprob", "tokens")


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
        int, typer.Option(metavar="N", min=0, help="With --tokens, --html or --svg: the N most probable tokens.")
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
        if len(self._forms) > 1:
            raise UsageError(f"--{self._forms[0]} contradicts --{self._forms[1]}", "choose one of them")
        if self.sort is not None and self.sort not in _KEYS:
            raise UsageError(f"--sort '{self.sort}' is no column", f"choose {', '.join(_KEYS)}")
        if self.reverse and self.sort is None and self.top is None:
            raise UsageError("--reverse without an order", "add --sort KEY or --top N")
        if self.fail_above is not None and not self.fail_above >= 0:
            raise UsageError(f"--fail-above {self.fail_above} is no perplexity", "give a number such as 1000")

    @property
    def _forms(self) -> list[str]:
        return ["json"] * self.as_json + ["jsonl"] * self.as_jsonl + ["tsv"] * self.tsv

    @property
    def form(self) -> str | None:
        """The one that was asked for."""
        return next(iter(self._forms), None)


def score(
    context_: typer.Context,
    texts: o.TextOptions,
    scoring: ScoringOptions,
    shown: OutputOptions,
    drawing: PictureOptions,
    model: o.ModelOptions,
    talk: o.TalkOptions,
) -> int:
    tokens = shown.tokens or drawing.wanted
    _refuse_contradictions(texts, scoring, alternatives=given(context_, "alternatives") and not tokens)
    note = talk.note
    # the context first: it may be what waits on stdin
    before = "" if scoring.context is None else inputs.read_context(scoring.context)
    groups = inputs.read_texts(
        texts.text, texts.file, command="score", whole=texts.whole, escapes=texts.escapes, note=note
    )

    # NumPy: 60 ms that --help and usage errors do not pay
    from gpt2cli.analysis.scoring import Scorer
    from gpt2cli.console import drawn, scores
    from gpt2cli.drawing import scores as drawing_of_scores

    opened = model.open(talk)
    ids = opened.tokenizer.encode(before, special=texts.special)
    top = shown.alternatives if tokens else None
    scorer = Scorer(opened, context=ids, start=scoring.start, stride=scoring.stride, top=top)
    if scorer.context < len(ids):
        note(f"of the context's {len(ids)} tokens the last {scorer.context} count")
    with drawing.opened() as pictures, outputs.Output() as output, Bar(quiet=talk.quiet) as bar:
        reading = scores.Reading(
            scorer,
            opened.tokenizer,
            bar,
            whole=texts.whole,
            special=texts.special,
            tokens=shown.tokens,
            fail_above=shown.fail_above,
            size=inputs.size_of(texts.text, texts.file),
            keep=drawing_of_scores.PAGE_MOST if drawing.wanted else 0,
        )
        rows = reading.rows(groups)
        if shown.sort is not None or shown.top is not None:
            rows = scores.arranged(rows, shown.sort or "perplexity", reverse=shown.reverse, top=shown.top)
        kept = drawn.Kept(reading)
        if drawing.wanted:
            rows = kept.watch(rows)
        several = len(texts.file) > 1 or "-" in texts.text
        common = _common(opened, scorer, start=scoring.start)
        write = bar.before(output.write)
        reason = scores.write(write, rows, reading, common, form=shown.form or scores.plain_form(), several=several)
        if drawing.wanted:
            pictures.draw(drawing_of_scores, kept.plain(common, reason), note)
    if reading.partial is not None:
        row = reading.partial
        note(f"interrupted: scored {scores.counted(row.score.tokens, 'token')} of {row.text.name}")
    if shown.stats:
        terminal.tell(reading.summary())
    if reason is not None:
        raise reason
    if reading.above:
        have = "has" if reading.above == 1 else "have"
        of = scores.counted(reading.count, "text")
        note(f"{reading.above} of {of} {have} a perplexity above {shown.fail_above:g}")
        return EXIT_ABOVE
    return 0


def _common(model: "Model", scorer: "Scorer", *, start: bool) -> dict[str, Any]:
    """What all texts have in common, for JSON."""
    return {
        "model": model.name,
        "revision": model.revision,
        "precision": model.precision,
        "device": model.device,
        "window": model.engine.window,
        "stride": scorer.stride,
        "start": start and model.start is not None,
        "context_tokens": scorer.context,
    }


def _refuse_contradictions(texts: o.TextOptions, scoring: ScoringOptions, *, alternatives: bool) -> None:
    """Between the groups; `alternatives` says whether that option was given for nothing."""
    if alternatives:
        raise UsageError("--alternatives has nowhere to go", "add --tokens, --html FILE or --svg FILE")
    named = texts.text or [str(file) for file in texts.file] or ["-"]
    if str(scoring.context) == "-" and "-" in named:
        raise UsageError("stdin cannot be both --context and text", "give one of them as a file: --context FILE")
