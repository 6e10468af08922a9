"""gpt2 eval: how well a model does what a test asks."""

import contextlib
import difflib
import hashlib
import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt2cli.console import bars, choices, outputs, settings, terminal
from gpt2cli.console import options as o
from gpt2cli.console.bars import Bar, time_left
from gpt2cli.console.groups import Options
from gpt2cli.errors import Terminated, UsageError, UserError

if TYPE_CHECKING:
    from gpt2cli.analysis.evaluation.running import Run
    from gpt2cli.analysis.evaluation.samples import Samples
    from gpt2cli.analysis.evaluation.tasks import Task
    from gpt2cli.console.evaluation import Sheet
    from gpt2cli.model import Model

HELP = """Measure a model: on the usual tasks, or on items of your own.

Lines of FILE.jsonl: {"context", "target"}, {"context", "choices", "answer"}, {"good", "bad"} or {"text"}; any other
file is one text. Each figure is named with its protocol; docs/eval.md has the tasks."""
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 eval lambada wikitext2
  gpt2 eval lambada --limit 500 -m gpt2 -m distilgpt2
  gpt2 eval lambada --precision fp32,int8       what does rounding cost?
  gpt2 eval questions.jsonl --samples done.jsonl  go on where it was ended
  gpt2 eval wikitext2 --data wiki.test.raw --protocol lm-eval --json
"""
_TASKS = {
    "lambada": "the last word of a passage",
    "wikitext2": "articles of Wikipedia",
    "wikitext103": "the same text, with other published figures",
    "ptb": "the Penn Treebank",
    "enwik8": "bytes of Wikipedia",
    "text8": "letters of Wikipedia",
    "cbt-cn": "children's books: a common noun is missing",
    "cbt-ne": "children's books: a name is missing",
    "1bw": "sentences of news",
    "blimp": "grammatical or not",
}


What = Annotated[
    list[str],
    typer.Argument(
        metavar="TASK|FILE...",
        help=f"{', '.join(_TASKS)}; or files.",
        autocompletion=lambda incomplete: choices.beginning(incomplete, _TASKS),
    ),
]


@dataclass(frozen=True)
class ItemOptions(Options):
    heading = "Items"

    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The task's data, where it is on this machine.", show_default=False),
    ] = None
    protocol: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="Only by this protocol of a task; may be repeated.", show_default=False),
    ] = field(default_factory=list)
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only the first N items.", show_default=False)
    ] = None
    stride: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Tokens by which the window moves on in a text.", show_default=False),
    ] = None
    delimiter: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Between a context and what follows, where neither has white space there. Default: a space.",
            show_default=False,
        ),
    ] = " "
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the bootstrap, for standard errors.")] = 0
    samples: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep each item's result there, and compute none twice.", show_default=False),
    ] = None


@dataclass(frozen=True)
class ModelsOptions(Options):
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
            autocompletion=choices.precisions,
        ),
    ] = "auto"
    device: o.Device = "auto"
    threads: o.Threads = 0
    source: o.Source = "auto"
    offline: o.Offline = False

    def each(self, default: str | None) -> list[o.ModelOptions]:
        """The options of each model. `default` is that of the settings."""
        precisions = [name.strip() for name in self.precision.split(",")]
        if not all(precisions):
            raise UsageError(f"--precision '{self.precision}' has an empty name", "for example: --precision fp32,int8")
        names: list[str | None] = [*self.model] or [default]
        return [
            o.ModelOptions(precision, self.device, self.threads, self.source, self.offline, name)
            for name, precision in itertools.product(names, precisions)
        ]


@dataclass(frozen=True)
class OutputOptions(Options):
    heading = "Output"

    as_json: o.Json = False


@dataclass(frozen=True)
class Asked:
    """A task or a file, where its data lies, and how large it is by each protocol, with all items read once: what is
    wrong with one is told before anything is computed."""

    task: "Task"
    paths: list[Path]
    sizes: dict[str, int]
    digests: list[str]


def eval(
    context_: typer.Context,
    what: What,
    items: ItemOptions,
    models: ModelsOptions,
    shown: OutputOptions,
    talk: o.TalkOptions,
) -> int:
    if items.data is not None and (len(what) > 1 or what[0] not in _TASKS):
        raise UsageError("--data is for one task", "for example: gpt2 eval lambada --data lambada_test.jsonl")
    each = models.each(settings.model(context_))

    # NumPy: 60 ms that --help and usage errors do not pay
    from gpt2cli.analysis.evaluation.samples import Samples
    from gpt2cli.console.evaluation import Sheet

    asked = [_asked(name, items, models, talk) for name in what]
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
                work.measure(options.open(talk), asked, sheet)
        except (KeyboardInterrupt, Terminated, UserError) as error:
            reason = error
            if isinstance(error, UserError) and not sheet.found:
                raise
        sheet.finish(interrupted=reason is not None)
    if reason is not None:
        work.tell_end()
        raise reason
    return 0


def _asked(name: str, items: ItemOptions, models: ModelsOptions, talk: o.TalkOptions) -> Asked:
    """Raises UserError."""
    from gpt2cli.analysis.evaluation import tasks
    from gpt2cli.store import datasets
    from gpt2cli.store.choice import Listener

    if name in tasks.TASKS:
        task = tasks.TASKS[name]
        with bars.progress(quiet=talk.quiet) as update:
            listener = Listener(update, talk.note, terminal.note)
            paths = tasks.files(
                task, items.data, lambda data: datasets.fetch(data, offline=models.offline, listener=listener)
            )
    else:
        paths = [Path(name)]
        if not paths[0].exists():
            near = difflib.get_close_matches(name, tasks.TASKS, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"'{name}' is no task, and no file", f"{meant}tasks: {', '.join(tasks.TASKS)}")
        task = tasks.of_file(paths[0], stride=items.stride, delimiter=items.delimiter)
    known = [one.name for one in task.protocols]
    if unknown := [one for one in items.protocol if one not in known]:
        raise UsageError(f"{name} has no protocol '{unknown[0]}'", f"it has {', '.join(known)}")
    if items.stride is not None and all(one.parts is None for one in task.protocols):
        raise UsageError(f"--stride {items.stride}: no window moves in {name}", "leave it out")
    runs = task.runs(paths, 1, only=items.protocol)
    sizes = {run.protocol: sum(itertools.islice(run.sizes(), items.limit)) for run in runs}
    return Asked(task, paths, sizes, list(map(_digest, paths)))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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

        facts = {
            "model": model.name,
            "revision": model.revision,
            "precision": model.precision,
            "device": model.device,
        }
        window = model.engine.window
        if self.items.stride is not None and self.items.stride > window:
            raise UsageError(
                f"--stride {self.items.stride} does not fit the window of {window} tokens", f"choose 1 to {window}"
            )
        for one in asked:
            data = [{"file": str(path), "sha256": digest} for path, digest in zip(one.paths, one.digests, strict=True)]
            for started in one.task.runs(one.paths, window, stride=self.items.stride, only=self.items.protocol):
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
                    self.talk.note(
                        f"{result.task}: of {result.cut:,} contexts only the end counts, which the window of {window:,}"
                        " tokens holds"
                    )
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
