"""evaluate(model, what) -> results: the whole of it for Python."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2cli.analysis.evaluation import protocols, tasks
from gpt2cli.analysis.evaluation.items import Choice, Continuation, Item, Passage, from_objects
from gpt2cli.analysis.evaluation.running import Evaluation, run
from gpt2cli.analysis.evaluation.samples import Samples
from gpt2cli.errors import UsageError
from gpt2cli.generation.parameters import is_whole
from gpt2cli.generation.texts import check_types
from gpt2cli.model import Model
from gpt2cli.store import datasets


def evaluate(
    model: Model,
    what: str | Path | Iterable[Item | Mapping[str, Any]],
    *,
    data: str | Path | None = None,
    stride: int | None = None,
    limit: int | None = None,
    delimiter: str = " ",
    samples: str | Path | None = None,
    seed: int = 0,
) -> list[Evaluation]:
    """How well the model does what a test asks: a result for each of its protocols.

    `what` is a task of `gpt2 eval`, whose data is downloaded unless `data` names it; a file of JSON lines, or of text;
    or items: mappings such as those lines, or Continuation, Choice and Passage. `stride` is how far the window moves on
    in a passage; `limit` the number of items; `delimiter` stands between a context and what follows it, unless there is
    white space; `samples` a file of what has been computed, from which a run that was ended goes on; `seed` the
    bootstrap's. Raises UserError."""
    check_types(model=(model, Model), delimiter=(delimiter, str))
    for name, value in ("stride", stride), ("limit", limit), ("seed", seed):
        if value is not None and (not is_whole(value) or value < (name != "seed")):
            raise UsageError(
                f"`{name}` is {value!r}", f"`{name}` must be a whole number, {int(name != 'seed')} or more"
            )
    if data is not None and not (isinstance(what, str) and what in tasks.TASKS):
        raise UsageError("`data` is for a task", f"tasks are {', '.join(tasks.TASKS)}")
    paths: Sequence[Path] = ()
    if isinstance(what, str) and what in tasks.TASKS:
        task = tasks.TASKS[what]
        paths = protocols.files(task, None if data is None else Path(data), datasets.fetch)
    elif isinstance(what, str | Path):
        paths = [Path(what)]
        task = protocols.of_file(paths[0], stride=stride, delimiter=delimiter)
    else:
        paths = [Path()]
        items = list(_items(what, delimiter))
        task = protocols.own("the items", lambda _: items, paths[0], stride)
    asked = task.runs(paths, model.engine.window, stride=stride, limit=limit)
    with contextlib.nullcontext() if samples is None else contextlib.closing(Samples(Path(samples))) as opened:
        return [run(model, one, samples=opened, limit=limit, seed=seed) for one in asked]


def _items(what: Iterable[Item | Mapping[str, Any]], delimiter: str) -> Iterable[Item]:
    given = [(f"item {number}", one) for number, one in enumerate(what, 1)]
    if all(isinstance(one, Continuation | Choice | Passage) for _, one in given):
        return [one for _, one in given if isinstance(one, Continuation | Choice | Passage)]
    return from_objects(given, delimiter)
