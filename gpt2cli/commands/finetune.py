"""gpt2 finetune: a model that has learnt from your texts."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt2cli.console import choices, signals, terminal
from gpt2cli.console import options as o
from gpt2cli.console.bars import Bar
from gpt2cli.console.groups import Given, Options, given
from gpt2cli.errors import Terminated, UsageError

if TYPE_CHECKING:
    from gpt2cli.training.folder import Folder
    from gpt2cli.training.run import Run
    from gpt2cli.training.start import Asked

HELP = """Train a model on your texts: files, folders, lines of JSONL.

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
OPTIMIZERS = ("adamw", "muon")


def _count(metavar: str, help: str, *, least: int = 1) -> Any:
    return typer.Option(metavar=metavar, min=least, help=help, show_default=False)


@dataclass(frozen=True)
class TextOptions(Options):
    heading = "Text"

    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="[SOURCE]...", help="Files, folders of .txt, .md and .jsonl; - is stdin.", show_default=False
        ),
    ] = field(default_factory=list)
    validation: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Measure the loss on FILE, and learn from all of the text.", show_default=False
        ),
    ] = None
    split_on: Annotated[str, typer.Option(metavar="TEXT", help="What stands between documents.")] = "<|endoftext|>"

    def __post_init__(self) -> None:
        if not self.split_on:
            raise UsageError("--split-on is empty", "name what stands between two documents")


@dataclass(frozen=True)
class BaseOptions(Options):
    heading = "Model"

    model: o.ModelName = None
    output: Annotated[
        str | None,
        typer.Option(
            *("-o", "--output"),
            metavar="NAME",
            help="The model's name, or with a slash its folder: ./NAME.",
            show_default=False,
        ),
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in -o, exactly as if never cut.")] = False
    offline: o.Offline = False
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="A new model with a vocabulary of its own, from random weights.")
    ] = False
    layers: Annotated[int | None, _count("N", "Of a new model.")] = None
    heads: Annotated[int | None, _count("N", "Of a new model.")] = None
    width: Annotated[int | None, _count("N", "Of a new model.")] = None
    positions: Annotated[int | None, _count("N", "Of a new model: tokens that it sees.", least=16)] = None
    vocabulary: Annotated[int | None, _count("N", "Of a new model: tokens that it knows, 257 at least.", least=257)] = (
        None
    )

    @classmethod
    def settle(cls, values: dict[str, Any], given: Given) -> None:
        shape = next((one for one in _SHAPE if values[one] is not None), None)
        if shape and not values["from_scratch"] and not values["resume"]:
            raise UsageError(f"--{shape} is for a new model", "add --from-scratch, or leave it out")
        if values["from_scratch"] and given("model"):
            raise UsageError("--from-scratch contradicts --model", "choose one of them")
        if values["output"] is None:
            raise UsageError("how the new model is to be called is not said", "add -o NAME, or -o ./FOLDER")


_SHAPE = ("layers", "heads", "width", "positions", "vocabulary")


@dataclass(frozen=True)
class LengthOptions(Options):
    heading = "Length"

    steps: Annotated[int | None, _count("N", "So many steps.")] = None
    epochs: Annotated[float | None, _count("X", "Read the text so often.", least=0)] = None
    minutes: Annotated[float | None, _count("X", "So long.", least=0)] = None
    patience: Annotated[
        int, typer.Option(metavar="N", min=0, help="End after N losses that are no better; 0: never.")
    ] = 5

    def __post_init__(self) -> None:
        named = [name for name in ("steps", "epochs", "minutes") if getattr(self, name) is not None]
        if len(named) > 1:
            raise UsageError(f"--{named[0]} contradicts --{named[1]}", "choose one of them")
        if 0 in (self.epochs, self.minutes):
            raise UsageError(f"--{named[0]} 0 learns nothing", "choose more")


@dataclass(frozen=True)
class LearningOptions(Options):
    heading = "Learning"

    rate: Annotated[float | None, _count("X", "The highest learning rate.", least=0)] = None
    batch: Annotated[int | None, _count("N", "Tokens of a step.")] = None
    length: Annotated[int | None, _count("N", "Tokens of a window. Default: 512.", least=8)] = None
    warmup: Annotated[int | None, _count("N", "Steps until the rate is highest.", least=0)] = None
    dropout: Annotated[float, typer.Option(metavar="X", min=0, max=0.9, help="Forget a part X while learning.")] = 0.0
    weight_decay: Annotated[float, typer.Option(metavar="X", min=0, help="Pull weights to zero.")] = 0.0
    clip: Annotated[float, typer.Option(metavar="X", min=0, help="The longest gradient; 0: any.")] = 1.0
    optimizer: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="adamw or muon.",
            autocompletion=lambda incomplete: choices.beginning(incomplete, dict.fromkeys(OPTIMIZERS, "")),
        ),
    ] = "adamw"
    freeze: Annotated[int, typer.Option(metavar="N", min=0, help="Keep the embeddings and N first layers.")] = 0
    lora: Annotated[int | None, _count("R", "Learn two narrow matrices of rank R beside the large ones.")] = None
    lora_alpha: Annotated[float | None, _count("X", "Their scale, times R. Default: twice R.", least=0)] = None
    lora_targets: Annotated[str, typer.Option(metavar="NAMES", help="Beside which: c_attn, c_proj, c_fc.")] = "c_attn"
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of order, dropout and new weights.")] = 0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UsageError(f"--optimizer '{self.optimizer}' is unknown", f"choose {' or '.join(OPTIMIZERS)}")
        if self.rate == 0:
            raise UsageError("--rate 0 learns nothing", "leave it out, or choose one as 1e-4")
        if self.lora is None:
            if self.lora_alpha is not None or self.lora_targets != "c_attn":
                raise UsageError("--lora-alpha and --lora-targets are for --lora", "add --lora 8, or leave them out")
        elif self.optimizer == "muon" or self.freeze:
            raise UsageError("--lora contradicts --optimizer muon and --freeze", "choose one of them")
        if unknown := set(self.lora_targets.split(",")) - {"c_attn", "c_proj", "c_fc"}:
            raise UsageError(f"--lora-targets '{unknown.pop()}' is unknown", "choose of c_attn,c_proj,c_fc")


@dataclass(frozen=True)
class MachineOptions(Options):
    heading = "Machine"

    device: o.Device = "auto"
    threads: o.Threads = 0
    compile: Annotated[bool, typer.Option("--compile", help="Let PyTorch compile the model first.")] = False

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"no device '{self.device}'", "choose auto, cpu or cuda")


@dataclass(frozen=True)
class TalkOptions(o.QuietOptions):
    json: o.Json = False


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
    from gpt2cli.store import own

    assert base.output is not None
    named = "/" not in base.output and "\\" not in base.output
    path = own.place(base.output) if named else Path(base.output).expanduser()
    _check_torch()
    if machine.threads:
        import torch

        torch.set_num_threads(machine.threads)
    from gpt2cli.training.folder import Folder

    folder = Folder(path)
    if not folder.begun:
        sources = _sources(text)
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Bar(quiet=talk.quiet, patience=0.2))
        from gpt2cli.console.learning import Show

        show = Show(bar, quiet=talk.quiet)
        if folder.begun:
            _check_resumed(context, folder, values, resume=base.resume)
            stack.enter_context(folder.held())
        else:
            folder.prepare()
            stack.enter_context(folder.held())
            try:
                asked = _asked(sources, text, base, length, learning, machine, talk)
                _begin(folder, asked, values, show)
            except BaseException:
                folder.discard()
                raise
        return _run(folder, base.output, show, talk)


def _check_torch() -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise UsageError("PyTorch is not installed, and nothing else here can train", "pip install 'gpt2cli[train]'")


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
    """Raises UsageError where a run is here that is not to go on, or was begun with other options."""
    where = f"a run is in '{folder.path}' already"
    if not resume:
        ended = folder.ended
        raise UsageError(
            f"{where}{', and has ended' if ended else ''}",
            "choose another -o" if ended else "go on with it: --resume; or choose another -o",
        )
    before = folder.plan().get("options", {})
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
    alpha, targets = wanted.pop("lora_alpha"), tuple(wanted.pop("lora_targets").split(","))
    lora = LoRA(rank, alpha or 2.0 * rank, targets) if rank else None
    name, folder = ("", None) if base.from_scratch else _located(base, talk)
    return Asked(
        sources=sources,
        base=folder,
        base_name=name,
        shape=Shape(**{one: getattr(base, one) for one in _SHAPE}),
        validation=text.validation,
        split_on=text.split_on,
        wishes=Wishes(**wanted, lora=lora, compiled=machine.compile),
        device=machine.device,
        command=tuple(sys.argv[1:]),
    )


def _located(base: BaseOptions, talk: TalkOptions) -> tuple[str, Path]:
    from gpt2cli.console import bars
    from gpt2cli.store import own, store
    from gpt2cli.store.choice import Choice, Listener

    choice = Choice(prefer="checkpoint", offline=base.offline)
    with bars.progress(quiet=talk.quiet) as update:
        listener = Listener(update, talk.note, terminal.note)
        source = store.find(base.model, choice, listener)
        folder = source.folder if source.entry is None and own.find(source.name) != source.folder else None
        return str(folder.resolve()) if folder else source.name, store.located(source, choice, listener)


def _begin(folder: "Folder", asked: "Asked", values: dict[str, Any], show: Any) -> None:
    from gpt2cli.training import start

    start.begin(folder, asked, values, show.preparing)


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
        terminal.say_out(
            f"{name}: step {best['step']:,} is the best: loss {best['validation']:.4f}"
            f" (before {before['validation']:.4f}), perplexity {best['perplexity']:.4g} ({before['perplexity']:.4g})"
        )
    if reason == "patience":
        talk.note(f"ended early: {run.training.plan.patience} losses in a row were no better (--patience)")
    if best and before and best["validation"] > before["validation"]:
        talk.note("on what it did not learn from it is worse than before: try a smaller --rate, or more text")
