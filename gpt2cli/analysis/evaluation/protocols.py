"""A task and its protocols: which items of which files are measured how. Files of one's own are such a task too."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpt2cli.analysis.evaluation import metrics
from gpt2cli.analysis.evaluation.items import LINES, SHAPES, Item, Passage, from_file
from gpt2cli.analysis.evaluation.metrics import Measure
from gpt2cli.analysis.evaluation.running import ROLLING, Moves, Run
from gpt2cli.errors import UsageError
from gpt2cli.store.datasets import DataFile


@dataclass(frozen=True)
class Protocol:
    """`read` makes items of a file of the task. The window moves on by its size divided by `parts`, after a start token
    or without; where there are none, as `windows` has it without a stride. What `joins` makes one item of many things:
    `read` is told how many. What is a `single` text has no first so many."""

    name: str
    read: Callable[..., Iterable[Item]]
    measures: Sequence[Measure]
    parts: int | None = None
    start: bool = False
    joins: bool = False
    single: bool = False

    def moves(self, window: int, stride: int | None = None) -> Moves:
        """In a model's window; a `stride` takes the place of the protocol's own."""
        return ROLLING if self.parts is None else Moves(stride or max(1, window // self.parts), self.start)

    def by(self, stride: int | None, window: int) -> "Protocol":
        """The protocol, or what it is by another stride: of that nothing is published."""
        if stride is None or self.parts is None or self.moves(window).stride == stride:
            return self
        kind, dash, _ = self.name.rpartition("-")
        measures = [replace(one, published={}) for one in self.measures]
        return replace(self, name=f"{kind}-{stride}" if dash else self.name, measures=measures)


@dataclass(frozen=True)
class Task:
    """`files` are on the hub; how to come by others, `where` says."""

    name: str
    protocols: Sequence[Protocol]
    files: Sequence[DataFile] = ()
    where: str = ""

    def runs(
        self,
        paths: Sequence[Path],
        window: int,
        *,
        stride: int | None = None,
        limit: int | None = None,
        only: Sequence[str] = (),
    ) -> list[Run]:
        """What is to be measured in the files of the task on a model of this `window`, by `only` these protocols where
        some are named. `limit` is how many items are wanted. Raises UsageError; reads nothing."""
        asked = self._chosen(only)
        if limit is not None and any(one.single for one in asked):
            raise UsageError(f"`limit` {limit}: {self.name} is one text, and has no first items", "leave it out")
        if stride is not None:
            _check_stride(self.name, asked, stride, window)
        found = dict[str, Run]()
        for protocol in asked:
            one = protocol.by(stride, window)
            read = functools.partial(one.read, limit=limit) if one.joins else one.read
            items = functools.partial(_chained, read, paths)
            run = Run(self.name, one.name, items, one.measures, one.moves(window, stride))
            # two strides of a task are one where a stride is given
            key = one.name if one.parts is None or stride is None else ""
            if key not in found or one is protocol:
                found[key] = run
        return list(found.values())

    def _chosen(self, only: Sequence[str]) -> list[Protocol]:
        known = [one.name for one in self.protocols]
        if unknown := [name for name in only if name not in known]:
            has = f"it has {', '.join(known)}" if self.files or self.where else "leave it out: it is for tasks"
            raise UsageError(f"{self.name} has no protocol '{unknown[0]}'", has)
        return [one for one in self.protocols if not only or one.name in only]


def _check_stride(name: str, asked: Sequence[Protocol], stride: int, window: int) -> None:
    """Raises UsageError. A window that begins with nothing known may move on by all of it, as the guide's does."""
    moving = [one for one in asked if one.parts is not None]
    if not moving:
        raise UsageError(f"`stride` {stride}: no window moves in {name}", "leave it out")
    most = window - any(one.start for one in moving)
    if stride > most:
        raise UsageError(f"`stride` {stride} does not fit the window of {window} tokens", f"choose 1 to {most}")


def _chained(read: Callable[[Path], Iterable[Item]], paths: Sequence[Path]) -> Iterable[Item]:
    return itertools.chain.from_iterable(map(read, paths))


def files(task: Task, data: Path | None, fetch: Callable[[DataFile], Path]) -> list[Path]:
    """Where the data of a task lies: at `data`, a file or a folder of files, or where `fetch` brings it from the hub.
    Raises UserError."""
    if data is not None and data.is_dir() and len(task.files) > 1:
        found = sorted(path for path in data.iterdir() if path.suffix.lower() in (".jsonl", ".parquet"))
        if not found:
            raise UsageError(f"the folder '{data}' has no .jsonl and no .parquet", "name the file itself: `data` FILE")
        return found
    if data is not None:
        return [plain(data)]
    if not task.files:
        raise UsageError(f"the data of {task.name} is not here", f"{task.where}, and name it: `data` FILE")
    return list(map(fetch, task.files))


def plain(path: Path) -> Path:
    """The path of a file, which is read several times. Raises UsageError."""
    if path.exists() and not path.is_file():
        kind = "folder" if path.is_dir() else "pipe or a device"
        raise UsageError(f"'{path}' is a {kind}, and no file", "what is in it is read more than once: name a file")
    return path


def of_file(path: Path, *, stride: int | None, delimiter: str) -> Task:
    """A file of one's own. Raises UsageError."""
    return own(str(path), functools.partial(from_file, delimiter=delimiter), plain(path), stride)


def own(name: str, read: Callable[[Path], Iterable[Item]], path: Path, stride: int | None) -> Task:
    """What `read` makes of the path, of which the first item says what is measured. Raises UsageError."""
    first = next(iter(read(path)), None)
    if first is None:
        raise UsageError(f"'{name}' is empty", f"a line is {SHAPES}")
    text = isinstance(first, Passage) and path.is_file() and path.suffix.lower() not in LINES
    if isinstance(first, Passage) and stride is not None:
        return Task(name, (Protocol("stride", read, metrics.STRIDING, parts=1, start=True, single=text),))
    return Task(name, (Protocol(metrics.NAMES[type(first)], read, metrics.MEASURES[type(first)], single=text),))
