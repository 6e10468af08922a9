"""The options of `gpt2 finetune`, by groups."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from gpt2cli.console import choices
from gpt2cli.console import options as o
from gpt2cli.console.groups import Given, Options
from gpt2cli.errors import UsageError

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
        shape = next((one for one in SHAPE if values[one] is not None), None)
        if shape and not values["from_scratch"] and not values["resume"]:
            raise UsageError(f"--{shape} is for a new model", "add --from-scratch, or leave it out")
        if values["from_scratch"] and given("model"):
            raise UsageError("--from-scratch contradicts --model", "choose one of them")
        if values["output"] is None:
            raise UsageError("how the new model is to be called is not said", "add -o NAME, or -o ./FOLDER")


SHAPE = ("layers", "heads", "width", "positions", "vocabulary")


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
        if self.lora_alpha == 0:
            raise UsageError("--lora-alpha 0 learns nothing", "leave it out, or choose one as 16")
        if self.lora is None:
            if self.lora_alpha is not None or self.lora_targets != "c_attn":
                raise UsageError("--lora-alpha and --lora-targets are for --lora", "add --lora 8, or leave them out")
        elif self.optimizer == "muon" or self.freeze:
            raise UsageError("--lora contradicts --optimizer muon and --freeze", "choose one of them")
        if unknown := set(self.targets) - {"c_attn", "c_proj", "c_fc"}:
            raise UsageError(f"--lora-targets '{min(unknown)}' is unknown", "choose of c_attn,c_proj,c_fc")

    @property
    def targets(self) -> tuple[str, ...]:
        """Beside which matrices LoRA learns."""
        return tuple(name.strip() for name in self.lora_targets.split(","))


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
