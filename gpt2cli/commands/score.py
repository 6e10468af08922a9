"""gpt2 score: how probable texts are."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt2cli.console import inputs, lines, outputs, settings, terminal
from gpt2cli.console import options as o
from gpt2cli.console.bars import Bar
from gpt2cli.console.groups import Given, Options, given
from gpt2cli.console.pictures import PictureOptions
from gpt2cli.errors import EXIT_ABOVE, UsageError

if TYPE_CHECKING:
    from gpt2cli.analysis.scoring import Scorer
    from gpt2cli.console.scores import Reading
    from gpt2cli.model import Model

MORE = """\
Columns: perplexity, tokens, log-probability (natural), bits per byte, line, text. In the last two a backslash, a
tab, a newline and other control characters are written as -e reads them."""
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 score -f story.txt --top 5               the five strangest lines
  gpt2 score --sort logprob --top 1 "I ate a pear." "I ate a spear."
  gpt2 score --whole -f a.txt -f b.txt          a perplexity for each file
  gpt2 score --tokens "The cat sat on the moon."
  gpt2 score --by document -f corpus.jsonl --histogram texts
  gpt2 score -m tiny -m gpt2 -f story.txt       two models side by side
  gpt2 score --whole -f story.txt --html page.html    coloured by surprise
  git log -1 --format=%s | gpt2 score -q --fail-above 5000
"""
_UNITS = ("line", "document")
_COUNTED = ("tokens", "texts")
_KEYS = ("perplexity", "bits_per_byte", "logprob", "tokens")


@dataclass(frozen=True)
class TextOptions(o.FieldOptions):
    by: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="line, or document: lines of JSON with the same `id` that follow each other are one text.",
            autocompletion=lambda incomplete: [name for name in _UNITS if name.startswith(incomplete)],
        ),
    ] = "line"

    @classmethod
    def settle(cls, values: dict[str, Any], given: Given) -> None:
        if values["by"] not in _UNITS:
            raise UsageError(f"--by '{values['by']}' is unknown", f"choose {' or '.join(_UNITS)}")
        if values["by"] == "document":
            if values["whole"]:
                raise UsageError("--whole contradicts --by document", "choose one of them")
            values["field"] = values["field"] or "text"

    def groups(self, note: Callable[[str], None]) -> Iterable[list[inputs.Text]]:
        """The texts, as they can be read. Raises UsageError and CannotMeet."""
        found = inputs.read_texts(
            self.text, self.file, command="score", whole=self.whole, escapes=self.escapes, note=note
        )
        if self.field is None:
            return found
        items = lines.from_json(found, self.field, several=True)
        return lines.documents(items) if self.by == "document" else lines.texts(items)


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

    def scorer(
        self, model: "Model", before: str, texts: TextOptions, note: Callable[[str], None], *, top: int | None
    ) -> "Scorer":
        """Of this model, with the context. Raises UsageError."""
        from gpt2cli.analysis.scoring import Scorer

        ids = model.tokenizer.encode(before, special=texts.special)
        scorer = Scorer(model, context=ids, start=self.start, stride=self.stride, top=top)
        if scorer.context < len(ids):
            note(f"of the context's {len(ids)} tokens the last {scorer.context} count")
        return scorer


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
    histogram: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Instead of rows: how many tokens, or texts, are how surprising.",
            autocompletion=lambda incomplete: [name for name in _COUNTED if name.startswith(incomplete)],
            show_default=False,
        ),
    ] = None
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
        if self.histogram is not None:
            if self.histogram not in _COUNTED:
                raise UsageError(f"--histogram '{self.histogram}' is unknown", f"choose {' or '.join(_COUNTED)}")
            self._refuse_beside_histogram()
        if self.reverse and self.sort is None and self.top is None:
            raise UsageError("--reverse without an order", "add --sort KEY or --top N")
        if self.fail_above is not None and not self.fail_above >= 0:
            raise UsageError(f"--fail-above {self.fail_above} is no perplexity", "give a number such as 1000")

    def _refuse_beside_histogram(self) -> None:
        """Raises UsageError for what a histogram has no room for."""
        others = {"tokens": self.tokens, "sort": self.sort is not None, "top": self.top is not None}
        for name in (*self._forms, *(name for name, wanted in others.items() if wanted)):
            raise UsageError(f"--histogram contradicts --{name}", "choose one of them")

    @property
    def _forms(self) -> list[str]:
        return ["json"] * self.as_json + ["jsonl"] * self.as_jsonl + ["tsv"] * self.tsv

    @property
    def form(self) -> str | None:
        """The one that was asked for."""
        return next(iter(self._forms), None)


def score(
    context_: typer.Context,
    texts: TextOptions,
    scoring: ScoringOptions,
    shown: OutputOptions,
    drawing: PictureOptions,
    model: o.ModelsOptions,
    talk: o.TalkOptions,
) -> int:
    tokens = shown.tokens or drawing.wanted
    _refuse_contradictions(texts, scoring, alternatives=given(context_, "alternatives") and not tokens)
    if len(model.model) > 1:
        _refuse_several(shown, drawing)
    note = talk.note
    # the context first: it may be what waits on stdin
    before = "" if scoring.context is None else inputs.read_context(scoring.context)
    groups = texts.groups(note)

    # NumPy: 60 ms that --help and usage errors do not pay
    from gpt2cli.console import drawn, scorerows, scores, sidescores
    from gpt2cli.console.histogram import Histogram
    from gpt2cli.drawing import scores as drawing_of_scores

    models = list(model.each(talk, settings.named_model(context_)))
    scorers = [scoring.scorer(one, before, texts, note, top=shown.alternatives if tokens else None) for one in models]
    with drawing.opened() as pictures, outputs.Output() as output, Bar(quiet=talk.quiet) as bar:
        keep = drawing_of_scores.PAGE_MOST if drawing.wanted else 0
        reading = _reading(models, scorers, bar, texts, shown, keep)
        rows = sidescores.rows(reading, groups) if reading.others else reading.rows(groups)
        if shown.sort is not None or shown.top is not None:
            rows = scores.arranged(rows, shown.sort or "perplexity", reverse=shown.reverse, top=shown.top)
        kept = drawn.Kept(reading)
        if drawing.wanted:
            rows = kept.watch(rows)
        several = len(texts.file) > 1 or "-" in texts.text or texts.field is not None
        commons = [
            scorerows.common_of(one, scorer, start=scoring.start) for one, scorer in zip(models, scorers, strict=True)
        ]
        common = commons[0] if len(commons) == 1 else {"models": commons}
        write = bar.before(output.write)
        if shown.histogram is None:
            form = shown.form or scorerows.plain_form()
            reason = scorerows.write(write, rows, reading, common, form=form, several=several)
        else:
            bars = Histogram(shown.histogram)
            reason = bars.count(rows)
            write("".join(f"{line}\n" for line in bars.lines()))
        if drawing.wanted:
            pictures.draw(drawing_of_scores, kept.plain(common, reason), note)
    return _told(reading, shown, note, reason)


def _reading(
    models: "list[Model]", scorers: "list[Scorer]", bar: Bar, texts: TextOptions, shown: OutputOptions, keep: int
) -> "Reading":
    """With the first model; those with the others are its `others`."""
    from gpt2cli.console.scores import Reading

    reading, *others = [
        Reading(
            scorer,
            model.tokenizer,
            bar,
            whole=texts.whole,
            special=texts.special,
            tokens=shown.tokens or shown.histogram == "tokens",
            fail_above=shown.fail_above,
            size=inputs.size_of(texts.text, texts.file),
            keep=keep,
            name=model.name,
        )
        for model, scorer in zip(models, scorers, strict=True)
    ]
    reading.others = others
    return reading


def _told(reading: "Reading", shown: OutputOptions, note: Callable[[str], None], reason: BaseException | None) -> int:
    """What is said at the end; the exit code. Raises the reason why it ended early."""

    if reading.partial is not None:
        row = reading.partial
        note(f"interrupted: scored {terminal.counted(row.score.tokens, 'token')} of {row.text.name}")
    if shown.stats:
        terminal.tell(reading.summary())
    if reason is not None:
        raise reason
    if reading.above:
        have = "has" if reading.above == 1 else "have"
        of = terminal.counted(reading.count, "text")
        note(f"{reading.above} of {of} {have} a perplexity above {shown.fail_above:g}")
        return EXIT_ABOVE
    return 0


def _refuse_contradictions(texts: TextOptions, scoring: ScoringOptions, *, alternatives: bool) -> None:
    """Between the groups; `alternatives` says whether that option was given for nothing."""
    if alternatives:
        raise UsageError("--alternatives has nowhere to go", "add --tokens, --html FILE or --svg FILE")
    named = texts.text or [str(file) for file in texts.file] or ["-"]
    if str(scoring.context) == "-" and "-" in named:
        raise UsageError("stdin cannot be both --context and text", "give one of them as a file: --context FILE")


def _refuse_several(shown: OutputOptions, drawing: PictureOptions) -> None:
    """What there is of one model only."""
    wanted = {
        "--tokens": shown.tokens,
        "--histogram": shown.histogram is not None,
        "--fail-above": shown.fail_above is not None,
        "--stats": shown.stats,
        "--html or --svg": drawing.wanted,
    }
    for name, value in wanted.items():
        if value:
            raise UsageError(f"{name} is of one model, and there are several", "leave it out, or give -m once")
