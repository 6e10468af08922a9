"""gpt2 batch: a file of prompts, each answered once."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gpt2cli.console import options as o
from gpt2cli.console import outputs, terminal
from gpt2cli.console.bars import Bar, time_left
from gpt2cli.console.batchoptions import (
    InsteadOptions,
    LengthOptions,
    OutputOptions,
    PlaceOptions,
    RowOptions,
    SamplingOptions,
    body,
    refuse_meaningless,
)
from gpt2cli.errors import SomeFailed, Terminated, UsageError

if TYPE_CHECKING:
    from gpt2cli.batch.answers import Answer
    from gpt2cli.batch.growing import Growing
    from gpt2cli.batch.order import Answering
    from gpt2cli.batch.rows import Row, Source
    from gpt2cli.batch.wishes import Settings
    from gpt2cli.model import Model

MORE = """\
A row is a line of text, {"prompt": ..., "max_tokens": ..., "custom_id": ...} with any setting of its own, or a line of
OpenAI's batch format. The same command goes on where it was cut; docs/batch.md tells more."""
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 batch prompts.txt -o answers.jsonl       the same again goes on after a crash
  gpt2 batch rows.jsonl -n 40 --greedy | jq -r .text
  gpt2 batch reviews.jsonl --embed -o vectors.jsonl
  gpt2 batch rows.jsonl --shard 3/8 -o part3.jsonl
  gpt2 batch rows.jsonl --ray auto -o answers.jsonl
"""
_FEW = 10  # rows, from which on it can be told how long the others will take
_WORD_SECONDS = 30.0  # between two lines on how far it has come, where there is no terminal


def batch(
    context: typer.Context,
    rows: RowOptions,
    instead: InsteadOptions,
    length: LengthOptions,
    sampling: SamplingOptions,
    model: PlaceOptions,
    output: OutputOptions,
    talk: o.TalkOptions,
) -> int:
    refuse_meaningless(context, instead)
    limits = length.limits(talk.note, escapes=length.escapes)
    if model.ray is not None:
        from gpt2cli.batch import cluster as _  # noqa: F401 - without Ray it is said at once
    # NumPy and the model: 200 ms that --help and usage errors do not pay
    from gpt2cli.batch import rows as reading
    from gpt2cli.batch.growing import Growing
    from gpt2cli.batch.running import Runner
    from gpt2cli.batch.wishes import Settings

    shard = reading.Shard.parse(rows.shard)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(rows.opened(talk.note))
        _refuse_same_file(rows, output)
        source = reading.survey(file, rows.name, rows.format, shard)
        opened = model.open(talk)
        found, said = body(context, length, limits, sampling, output.logprobs, opened.tokenizer)
        settings = Settings(
            task=instead.task,
            seed=_seed(sampling.seed),
            body=found,
            given=said,
            beams=length.beams,
            receipt=output.receipt,
            pooling=instead.pooling,
            layer=instead.layer,
            normalize=instead.normalize,
        )
        run, ordered = _identity(opened, settings, source, rows), not rows.unordered
        made = partial(Growing, run=run, source=source, ordered=ordered, restart=output.restart)
        bar = stack.enter_context(Bar(quiet=talk.quiet))
        runner = Runner(opened, settings, rows.rows)  # also where others compute: settings that cannot be are refused
        sink = _sink(stack, bar, output.output_file, made)
        answering: Answering = runner.answers
        if model.ray is not None:
            answering = _cluster(stack, opened, settings, rows, model)
            del runner, opened
        progress = _Progress(source.count, talk, sink, bar)
        _run(source, answering, progress, ordered=ordered)
    return 0


def _refuse_same_file(rows: RowOptions, output: OutputOptions) -> None:
    with contextlib.suppress(OSError):
        if rows.file is not None and output.output_file is not None and rows.file.samefile(output.output_file):
            raise UsageError(f"'{output.output_file}' is both read and written", "give -o another file")


def _seed(given: int) -> int:
    from gpt2cli.generation.parameters import Sampling

    return Sampling(seed=None if given == -1 else given).seeded().seed or 0


def _identity(model: "Model", settings: "Settings", source: "Source", rows: RowOptions) -> dict[str, Any]:
    """What the answers of a run depend on, and their order."""
    from gpt2cli.batch import identity

    return {
        "model": identity.of(model),
        "settings": settings.plain(),
        "rows": {"rows_sha256": source.sha256, "json": source.is_json},
        "shard": str(source.shard),
        "unordered": rows.unordered,
    }


@dataclass
class _Sink:
    """Where the answers go. `growing` is None for stdout."""

    write: Callable[[list["Answer"]], None]
    growing: "Growing | None" = None
    name: str = "stdout"


def _sink(stack: contextlib.ExitStack, bar: Bar, path: Path | None, made: "Callable[[Path], Growing]") -> _Sink:
    """stdout, or a file that grows."""
    if path is None or outputs.is_stdout(path):
        file = stack.enter_context(outputs.Output())
        write = bar.before(file.write)
        return _Sink(lambda answers: write("".join(f"{one.line}\n" for one in answers)))
    growing = stack.enter_context(made(path))
    return _Sink(growing.add, growing, f"'{path}'")


def _cluster(
    stack: contextlib.ExitStack,
    opened: "Model",
    settings: "Settings",
    rows: RowOptions,
    model: PlaceOptions,
) -> "Answering":
    """The same model on the machines of a cluster."""
    from gpt2cli.batch import identity
    from gpt2cli.batch.cluster import Cluster
    from gpt2cli.batch.places import Place, Sizes

    assert model.ray is not None
    name = f"{identity.name_of(opened)}@{opened.revision}"
    if opened.revision is None:
        folder = Path(model.model or opened.folder)
        name = str(folder.resolve() if folder.exists() else folder)
    place = Place(name, opened.precision, opened.device, model.source, model.offline)
    sizes = Sizes(model.ray_engines, model.threads)
    engines = Cluster(model.ray, place, settings, model=identity.of(opened), rows=rows.rows, sizes=sizes)
    return stack.enter_context(engines).answers


def _run(source: "Source", answering: "Answering", progress: "_Progress", *, ordered: bool) -> None:
    """Answer what has not been answered. Raises SomeFailed at the end where rows are wrong."""
    from gpt2cli.batch.order import answers

    growing = progress.sink.growing
    there = growing.there if growing else set[int]()
    if growing and growing.done:
        progress.talk.note(f"{growing.done:,} of {terminal.counted(f'{source.count:,}', 'row')} are there already")
        progress.begin_with(growing.done, growing.failed)
    left: Iterator[Row] = (row for row in source.rows() if row.key not in there)
    try:
        for some in answers(left, answering, ordered=ordered):
            progress.write(some)
    except (KeyboardInterrupt, Terminated):
        progress.tell_end()
        raise
    progress.finish()


@dataclass
class _Progress:
    """How far a run has come: the bar, lines where there is no terminal, and the last words."""

    total: int
    talk: o.TalkOptions
    sink: _Sink
    bar: Bar
    done: int = 0
    failed: int = 0
    incomplete: int = 0  # texts, since the command began
    _tokens: int = 0
    _before: int = 0  # rows that were there
    _begun: float = field(default_factory=time.monotonic)
    _next: float = field(default_factory=lambda: time.monotonic() + _WORD_SECONDS)
    _strange: set[str] = field(default_factory=set)  # fields that mean nothing

    def begin_with(self, done: int, failed: int) -> None:
        self.done = self._before = done
        self.failed = failed

    def write(self, some: list["Answer"]) -> None:
        self.sink.write(some)
        self.done += len(some)
        self.failed += sum(one.failed for one in some)
        self.incomplete += sum(one.incomplete for one in some)
        self._tokens += sum(one.tokens for one in some)
        for one in some:
            self._note_strange(one)
        self.bar.update("rows", self.done, self.total, self._told)
        if not self.talk.quiet and not self.bar.wanted and time.monotonic() > self._next:
            self._next = time.monotonic() + _WORD_SECONDS
            self.talk.note(self._told())

    def _note_strange(self, one: "Answer") -> None:
        for name in one.unknown:
            if name not in self._strange and len(self._strange) < 10:
                self._strange.add(name)
                self.bar.hide()
                self.talk.note(f"line {one.number}: the field '{name[:40]}' means nothing, here and in other rows")

    def _told(self) -> str:
        seconds = max(time.monotonic() - self._begun, 1e-9)
        fresh = self.done - self._before
        left = time_left(seconds, fresh, self.total - self._before) if fresh >= _FEW else ""
        speed = f"{self.done:,} of {self.total:,} rows · {self._tokens / seconds:,.0f} tokens/s"
        return f"{speed} · {left}" if left else speed

    def tell_end(self) -> None:
        self.bar.hide()
        way = "; the same command goes on" if self.sink.growing else ""
        self.talk.note(f"interrupted: {self.done:,} of {self.total:,} rows are in {self.sink.name}{way}")

    def finish(self) -> None:
        """Raises SomeFailed."""
        self.bar.hide()
        if self.incomplete:
            what = "a text does" if self.incomplete == 1 else f"{self.incomplete:,} texts do"
            self.talk.note(f'{what} not have the form that was asked for: finish_reason is "incomplete"')
        if self.failed:
            show = "jq -c 'select(.error)'"
            raise SomeFailed(
                f"{self.failed:,} of {terminal.counted(f'{self.total:,}', 'row')} failed",
                f"{show} {self.sink.name} shows why" if self.sink.growing else f"their lines say why: | {show}",
            )
        if self.sink.growing and self.done > self._before:
            self.talk.note(self._told())
