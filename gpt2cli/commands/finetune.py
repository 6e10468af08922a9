"""gpt2 finetune: a model that has learnt from your texts."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from gpt2cli.console import signals, terminal
from gpt2cli.console.bars import Bar
from gpt2cli.console.groups import given
from gpt2cli.console.learningoptions import (
    SHAPE,
    BaseOptions,
    LearningOptions,
    LengthOptions,
    MachineOptions,
    TalkOptions,
    TextOptions,
)
from gpt2cli.errors import Terminated, UsageError

if TYPE_CHECKING:
    from gpt2cli.training.folder import Folder
    from gpt2cli.training.run import Run
    from gpt2cli.training.start import Asked

MORE = """\
A document is a file, a line of JSONL, or what stands between two <|endoftext|>. The last 5 % are not learnt from: by
them the best state is chosen. Needs PyTorch: pip install 'gpt2cli[train]'."""
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 finetune letters.txt -o letters          then: gpt2 generate -m letters "Dear"
  gpt2 finetune poems/ -m gpt2-medium --lora 8 --minutes 30 -o ./poet
  gpt2 finetune --resume -o letters             go on where it was cut
  gpt2 finetune book.txt --from-scratch --layers 4 --width 256 -o small
"""


def finetune(
    context: typer.Context,
    text: TextOptions,
    base: BaseOptions,
    length: LengthOptions,
    learning: LearningOptions,
    machine: MachineOptions,
    talk: TalkOptions,
) -> int:
    groups = (text, base, length, learning, machine)
    values = {one.name: _plain(getattr(group, one.name)) for group in groups for one in fields(group)}
    from gpt2cli import finetuning

    assert base.output is not None
    path = finetuning.place(base.output)
    finetuning.check_torch()
    if machine.threads:
        import torch

        torch.set_num_threads(machine.threads)
    from gpt2cli.training.folder import Folder

    folder = Folder(path)
    if folder.begun:
        _check_resumed(context, folder, values, resume=base.resume)
    elif base.resume and not text.sources:
        raise UsageError(f"there is no run in '{folder.path}'", "to begin one, name its text")
    sources = () if folder.begun else _sources(text)
    with Bar(quiet=talk.quiet, patience=0.2) as bar:
        from gpt2cli.console.learning import Show

        show = Show(bar, quiet=talk.quiet)

        def begin() -> None:
            asked = _asked(sources, text, base, length, learning, machine, talk)
            finetuning.begin_run(folder, asked, values, show.preparing)

        with folder.entered(begin, resume=base.resume):
            return _run(folder, base.output, show, talk)


def _sources(text: TextOptions) -> tuple[Path, ...]:
    if text.sources:
        return tuple(text.sources)
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("there is no text to learn from", "name files or folders: gpt2 finetune FILE -o NAME")
    return (Path("-"),)


def _plain(value: Any) -> Any:
    return list(map(str, value)) if isinstance(value, list) else str(value) if isinstance(value, Path) else value


# What a run that goes on may have otherwise.
_FREE = ("output", "resume", "offline", "threads", "device", "model")


def _check_resumed(context: typer.Context, folder: "Folder", values: dict[str, Any], *, resume: bool) -> None:
    """Raises UsageError where a run that is to go on was begun with other options."""
    before = folder.plan().get("options", {}) if resume else values
    for name, value in values.items():
        if name not in _FREE and given(context, name) and value != before.get(name, value):
            said = "other sources" if name == "sources" else f"`{name}` {before[name]}"
            raise UsageError(f"the run was begun with {said}", "leave it out: --resume goes on as it was begun")


def _asked(
    sources: tuple[Path, ...],
    text: TextOptions,
    base: BaseOptions,
    length: LengthOptions,
    learning: LearningOptions,
    machine: MachineOptions,
    talk: TalkOptions,
) -> "Asked":
    """What the options say, with the base on this machine. Raises UserError."""
    from gpt2cli.training.lora import LoRA
    from gpt2cli.training.recipe import Shape, Wishes
    from gpt2cli.training.start import Asked

    wanted = asdict(learning) | asdict(length)
    rank = wanted.pop("lora")
    alpha, _ = wanted.pop("lora_alpha"), wanted.pop("lora_targets")
    lora = LoRA(rank, 2.0 * rank if alpha is None else alpha, learning.targets) if rank else None
    name, folder = ("", None) if base.from_scratch else _located(base, talk)
    return Asked(
        sources=sources,
        base=folder,
        base_name=name,
        shape=Shape(**{one: getattr(base, one) for one in SHAPE}),
        validation=text.validation,
        split_on=text.split_on,
        wishes=Wishes(**wanted, lora=lora, compiled=machine.compile),
        device=machine.device,
        command=tuple(sys.argv[1:]),
    )


def _located(base: BaseOptions, talk: TalkOptions) -> tuple[str, Path]:
    from gpt2cli import finetuning
    from gpt2cli.console import bars
    from gpt2cli.store.choice import Choice, Listener

    with bars.progress(quiet=talk.quiet) as update:
        choice = Choice(prefer="checkpoint", offline=base.offline)
        return finetuning.located(base.model, choice, Listener(update, talk.note, terminal.note))


def _run(folder: "Folder", name: str, show: Any, talk: TalkOptions) -> int:
    from gpt2cli.training import start
    from gpt2cli.training.run import INTERRUPTED, Ended

    run, facts = start.opened(folder, samples=not talk.quiet, told=show.measuring)
    show.begin(facts, run.training)
    ended = None
    with _stopping(run) as stopped:
        for event in run.events():
            show.event(event, run.training)
            if isinstance(event, Ended):
                ended = event
    assert ended is not None
    from gpt2cli.console.learning import draw

    metrics = folder.told()
    show.curve(metrics)
    draw(f"{folder.path.name}: loss", metrics, folder.path / "loss.svg")
    _tell(folder, name, run, ended.reason, facts, talk)
    if ended.reason == INTERRUPTED:
        terminal.note(f"saved after step {ended.step:,}; to go on: gpt2 finetune --resume -o {name}")
        raise KeyboardInterrupt if stopped[0] == signal.SIGINT else Terminated(stopped[0])
    return 0


@contextlib.contextmanager
def _stopping(run: "Run") -> Iterator[list[int]]:
    """While this lasts, Ctrl-C and what asks to leave let the step be finished and saved; a second Ctrl-C does not
    wait. Gives the numbers of the signals that came."""
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(number)
        run.stop()

    with signals.handled(stop, signal.SIGINT, *signals.leaving()):
        yield came


def _tell(folder: "Folder", name: str, run: "Run", reason: str, facts: dict[str, Any], talk: TalkOptions) -> None:
    """The result on stdout, and what there is to note of it."""
    best, before = run.standing.best, run.standing.before
    if talk.json:
        terminal.say_json(
            {
                "name": name,
                "folder": str(folder.path.resolve()),
                "base": facts["base"] or None,
                "ended": reason,
                "steps": run.training.step,
                "tokens": run.training.tokens,
                "seconds": round(run.training.seconds, 3),
                "before": before,
                "best": best,
            }
        )
    elif best and before and not talk.quiet:
        terminal.say_sentence(
            f"{name}: step {best['step']:,} is the best: loss {best['validation']:.4f}"
            f" (before {before['validation']:.4f}), perplexity {best['perplexity']:.4g} ({before['perplexity']:.4g})"
        )
    if reason == "patience":
        talk.note(f"ended early: {run.training.plan.patience} losses in a row were no better (--patience)")
    if best and before and best["validation"] > before["validation"]:
        talk.note("on what it did not learn from it is worse than before: try a smaller --rate, or more text")
