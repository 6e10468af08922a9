"""What `gpt2 eval` is to measure: tasks and files, and which of their items. What is wrong with them is told before
anything is downloaded, where that can be known, and before anything is computed."""

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpt2cli.console import bars, choices, terminal
from gpt2cli.console.groups import Options
from gpt2cli.console.options import TalkOptions
from gpt2cli.errors import UsageError

if TYPE_CHECKING:
    from gpt2cli.analysis.evaluation.protocols import Task
    from gpt2cli.analysis.evaluation.running import Run

SAID = {
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
_WIKITEXT = ("hf-512", "hf-1024", "lm-eval")
# Here too, because completion does not wait for NumPy.
PROTOCOLS = {
    "lambada": ("lm-eval", "openai"),
    "wikitext2": _WIKITEXT,
    "wikitext103": _WIKITEXT,
    "ptb": ("stride-512",),
    "enwik8": ("stride-512",),
    "text8": ("stride-512",),
    "cbt-cn": ("sum",),
    "cbt-ne": ("sum",),
    "1bw": ("sentences",),
    "blimp": ("lm-eval",),
}


def _protocols(context: typer.Context, incomplete: str) -> choices.Choices:
    """Those of the tasks that stand on the line, or else all."""
    words = [*(context.params.get("what") or ()), *context.args]  # these, where the line ends in the option
    named = [name for name in words if name in PROTOCOLS] or [*PROTOCOLS]
    return choices.beginning(incomplete, {one: "" for name in named for one in PROTOCOLS[name]})


@dataclass(frozen=True)
class ItemOptions(Options):
    heading = "Items"

    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The task's data, where it is on this machine.", show_default=False),
    ] = None
    protocol: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="Only by this protocol of a task; may be repeated.",
            autocompletion=_protocols,
            show_default=False,
        ),
    ] = field(default_factory=list)
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Only the first N items (articles, sentences).", show_default=False),
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
class Asked:
    """A task or a file, where its data lies, and how large it is by each protocol, with all items read once: what is
    wrong with one is told before anything is computed."""

    task: "Task"
    paths: list[Path]
    sizes: dict[str, int]
    digests: list[str]


def asked(names: Sequence[str], items: ItemOptions, talk: TalkOptions, *, offline: bool) -> list[Asked]:
    """Raises UserError."""
    if items.data is not None and (len(names) > 1 or names[0] not in SAID):
        raise UsageError("--data is for one task", "for example: gpt2 eval lambada --data lambada_test.jsonl")
    tasks: dict[str, Task] = {}
    for name in names:
        if name in tasks:
            talk.note(f"'{name}' is named twice, and measured once")
        tasks[name] = tasks.get(name) or _task(name, items)
    return [_asked(name, task, items, talk, offline=offline) for name, task in tasks.items()]


def _task(name: str, items: ItemOptions) -> "Task":
    """What a name means, and whether the options go with it. Raises UsageError."""
    from gpt2cli.analysis.evaluation import protocols, tasks

    if name in tasks.TASKS:
        task = tasks.TASKS[name]
    else:
        if name == "-":
            raise UsageError("stdin can be read only once, and items are read more often", "write them into a file")
        path = Path(name)
        if not path.exists():
            near = difflib.get_close_matches(name, tasks.TASKS, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"'{name}' is no task, and no file", f"{meant}tasks: {', '.join(tasks.TASKS)}")
        task = protocols.of_file(path, stride=items.stride, delimiter=items.delimiter)
    _runs(task, [], items)
    return task


def _asked(name: str, task: "Task", items: ItemOptions, talk: TalkOptions, *, offline: bool) -> Asked:
    from gpt2cli.analysis.evaluation import protocols
    from gpt2cli.analysis.evaluation.items import first
    from gpt2cli.store import datasets
    from gpt2cli.store.choice import Listener

    paths = [Path(name)]
    if name in SAID:
        with bars.progress(quiet=talk.quiet) as update:
            listener = Listener(update, talk.note, terminal.note)
            paths = protocols.files(
                task, items.data, lambda data: datasets.fetch(data, offline=offline, listener=listener)
            )
    sizes = {run.protocol: sum(first(run.sizes(), items.limit)) for run in _runs(task, paths, items)}
    return Asked(task, paths, sizes, list(map(_digest, paths)))


def _runs(task: "Task", paths: Sequence[Path], items: ItemOptions) -> "list[Run]":
    """On a model whose window holds any stride. Raises UsageError."""
    window = (items.stride or 0) + 1
    return task.runs(paths, window, stride=items.stride, limit=items.limit, only=items.protocol)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
