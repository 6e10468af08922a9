"""gpt2 eval: how well a model does what a test asks."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt2cli.console import choices, outputs, settings, terminal
from gpt2cli.console import options as o
from gpt2cli.console.bars import Bar, time_left
from gpt2cli.console.evalitems import SAID, Asked, ItemOptions, asked
from gpt2cli.console.groups import Options
from gpt2cli.errors import Terminated, UsageError, UserError

if TYPE_CHECKING:
    from gpt2cli.analysis.evaluation.running import Run
    from gpt2cli.analysis.evaluation.samples import Samples
    from gpt2cli.console.evaluation import Sheet
    from gpt2cli.model import Model

MORE = """\
Lines of FILE.jsonl, .ndjson or .json: {"context", "target"}, {"context", "choices", "answer"}, {"good", "bad"} or
{"text"}; any other file is one text. Each figure is named with its protocol; docs/eval.md has the tasks."""
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 eval lambada wikitext2
  gpt2 eval lambada --limit 500 -m gpt2 -m distilgpt2
  gpt2 eval lambada --precision fp32,int8       what does rounding cost?
  gpt2 eval questions.jsonl --samples done.jsonl  go on where it was ended
  gpt2 eval wikitext2 --data wiki.test.raw --protocol lm-eval --json
"""
What = Annotated[
    list[str],
    typer.Argument(
        metavar="TASK|FILE...",
        help=f"{', '.join(SAID)}; or files.",
        autocompletion=lambda incomplete: choices.beginning(incomplete, SAID),
    ),
]


@dataclass(frozen=True)
class ModelsOptions(o.RunOptions):
    """Several models, each at several precisions."""

    heading = "Models"

    model: Annotated[
        list[str],
        typer.Option(
            *("-m", "--model"),
            metavar="NAME",
            help="A name of `gpt2 list`, owner/name[@revision], or a folder; may be repeated. Default: gpt2.",
            autocompletion=choices.models,
            show_default=False,
        ),
    ] = field(default_factory=list)
    precision: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            envvar="GPT2_PRECISION",
            help="auto, fp32, int8, int4; fp16; several with commas.",
            autocompletion=choices.several_precisions,
        ),
    ] = "auto"

    def each(self, default: str | None, note: Callable[[str], None]) -> list[o.ModelOptions]:
        """The options of each model, of which none stands twice. `default` is that of the settings. Raises UserError
        for what has no meaning; whether it can be had is seen when it is opened."""
        from gpt2cli.store import sources
        from gpt2cli.store.choice import Choice

        precisions = [name.strip() for name in self.precision.split(",")]
        if not all(precisions):
            raise UsageError(f"--precision '{self.precision}' has an empty name", "for example: --precision fp32,int8")
        for precision in precisions:
            choice = Choice(precision, self.source, self.device, self.offline)
            if self.device == "cuda":
                from gpt2cli.model import why_not_cuda  # NumPy, ONNX Runtime

                why_not_cuda(choice)
        names = dict[object, str | None]()
        for name in self.model:
            source = sources.resolve(name)
            if (key := (source.model, source.repository)) in names:
                note(f"'{name}' is named twice, and measured once")
            names.setdefault(key, name)
        if len(set(precisions)) < len(precisions):
            note(f"--precision '{self.precision}' has a name twice: it is measured once")
        return [
            o.ModelOptions(precision, self.device, self.threads, self.source, self.offline, name)
            for name in names.values() or [default]
            for precision in dict.fromkeys(precisions)
        ]


@dataclass(frozen=True)
class OutputOptions(Options):
    heading = "Output"

    as_json: o.Json = False


def eval(
    context_: typer.Context,
    what: What,
    items: ItemOptions,
    models: ModelsOptions,
    shown: OutputOptions,
    talk: o.TalkOptions,
) -> int:
    each = models.each(settings.model(context_), talk.note)

    # NumPy: 60 ms that --help and usage errors do not pay
    from gpt2cli.analysis.evaluation.samples import Samples
    from gpt2cli.console.evaluation import Sheet

    found = asked(what, items, talk, offline=models.offline)
    reason: BaseException | None = None
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(outputs.Output())
        samples = None if items.samples is None else stack.enter_context(contextlib.closing(Samples(items.samples)))
        bar = stack.enter_context(Bar(quiet=talk.quiet))
        common = {"seed": items.seed, "limit": items.limit}
        sheet = Sheet(bar.before(output.write), "json" if shown.as_json else "table", len(each) > 1, common)
        work = Work(items, samples, bar, talk)
        try:
            for options in each:
                work.measure(options.open(talk), found, sheet)
        except (KeyboardInterrupt, Terminated, UserError) as error:
            reason = error
            if isinstance(error, UserError) and not sheet.found:
                raise
        sheet.finish(interrupted=reason is not None)
    if reason is not None:
        if not isinstance(reason, UserError):
            work.tell_end()
        raise reason
    return 0


@dataclass
class Work:
    """What is under way, for the bar and for the last words."""

    items: ItemOptions
    samples: "Samples | None"
    bar: Bar
    talk: o.TalkOptions
    _run: "Run | None" = None
    _begun: float = 0
    _done: list[int] = field(default_factory=lambda: [0, 0])  # bytes that were there, and bytes that were computed
    _total: int = 0

    def measure(self, model: "Model", asked: list[Asked], sheet: "Sheet") -> None:
        """Everything on one model. Raises UserError."""
        from gpt2cli.analysis.evaluation.running import run
        from gpt2cli.console.evaluation import Found

        facts = model.plain()
        window = model.engine.window
        for one in asked:
            data = [{"file": str(path), "sha256": digest} for path, digest in zip(one.paths, one.digests, strict=True)]
            for started in one.task.runs(
                one.paths, window, stride=self.items.stride, limit=self.items.limit, only=self.items.protocol
            ):
                self._run, self._begun = started, time.monotonic()
                self._done, self._total = [0, 0], one.sizes[started.protocol]
                result = run(
                    model,
                    started,
                    samples=self.samples,
                    limit=self.items.limit,
                    seed=self.items.seed,
                    advance=lambda nbytes, computed: self._advance(facts, nbytes, computed=computed),
                )
                if result.cut:
                    self.bar.hide()
                    held = terminal.counted(f"{result.cut:,}", "context")
                    self.talk.note(f"{result.task}: the window of {window:,} tokens holds only the end of {held}")
                sheet.add(Found(facts, {"data": data}, result))

    def _advance(self, facts: dict[str, Any], nbytes: int, *, computed: bool) -> None:
        self._done[computed] += nbytes
        assert self._run is not None
        title = f"{Path(self._run.name).name[:16]} {self._run.protocol}, {facts['precision']}"
        self.bar.update(terminal.printable(title), sum(self._done), self._total, self._told)

    def _told(self) -> str:
        """What stands behind the bar."""
        there, computed = self._done
        share = 100 * sum(self._done) // max(1, self._total)
        left = time_left(time.monotonic() - self._begun, computed, self._total - there)
        return f"{min(100, share)}%" + (f" · {left}" if left else "")

    def tell_end(self) -> None:
        """Of a run that has ended early."""
        if self._run is None:
            return
        how = "the same command goes on" if self.samples else "with --samples FILE it would go on where it was"
        self.talk.note(f"interrupted in {self._run.name} {self._run.protocol}: {how}")
