"""Options that several commands have, declared once: their names, environment variables and help. What only one command
has stands in its file."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt2cli.console import bars, choices, terminal, written
from gpt2cli.console.groups import Given, Options
from gpt2cli.errors import UsageError
from gpt2cli.generation.parameters import Limits, Sampling

if TYPE_CHECKING:
    from gpt2cli.model import Model

# What a process that ends with its command does not take down: of a session that takes 20 ms.
kept: list[object] | None = None

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A model: a name, owner/name, or a folder.", autocompletion=choices.models),
]
Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Models: names, owner/name, or folders.", autocompletion=choices.models),
]

Precision = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        envvar="GPT2_PRECISION",
        help="auto, fp32, int8, int4; fp16.",
        autocompletion=choices.precisions,
    ),
]
Source = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="auto, checkpoint, or onnx: prefer a ready-made ONNX export.",
        autocompletion=choices.sources,
    ),
]
Device = Annotated[
    str,
    typer.Option(metavar="NAME", envvar="GPT2_DEVICE", help="auto, cpu or cuda.", autocompletion=choices.devices),
]
Threads = Annotated[
    int, typer.Option(metavar="N", envvar="GPT2_THREADS", min=0, max=1024, help="CPU threads; 0: as many as cores.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Use what is on this machine; no network.")]
ModelName = Annotated[
    str | None,
    typer.Option(
        *("-m", "--model"),
        metavar="NAME",
        envvar="GPT2_MODEL",
        help="A name of `gpt2 list`, owner/name[@revision] on the hub, or a folder. Default: gpt2.",
        autocompletion=choices.models,
        show_default=False,
    ),
]

Files = Annotated[
    list[Path],
    typer.Option(*("-f", "--file"), metavar="FILE", help="Read FILE; may be repeated.", show_default=False),
]
OutputFile = Annotated[
    Path | None,
    typer.Option("-o", "--output-file", metavar="FILE", help="Write to FILE, not to stdout.", show_default=False),
]
Joined = Annotated[
    list[str],
    typer.Argument(
        metavar="[TEXT]...", help="Joined by spaces; - is stdin's text. Default: stdin.", show_default=False
    ),
]
Special = Annotated[bool, typer.Option("--special", help="<|endoftext|> in a text is the token, not text.")]
Escapes = Annotated[bool, typer.Option("-e", "--escapes", help="Read \\n, \\t, \\xHH ... in arguments.")]
EscapesAndStops = Annotated[
    bool, typer.Option("-e", "--escapes", help="Read \\n, \\t, \\xHH ... in arguments and --stop.")
]

NoWrap = Annotated[bool, typer.Option("--no-wrap", help="Let the terminal break long lines, also inside words.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="No progress and no notes on stderr, but which model answers by default.")
]


@dataclass(frozen=True)
class QuietOptions(Options):
    heading = "Messages"
    verbose = False

    quiet: Quiet = False

    @property
    def note(self) -> Callable[[str], None]:
        return terminal.silent if self.quiet else terminal.note


@dataclass(frozen=True)
class TalkOptions(QuietOptions):
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say on stderr what is used, and from where.")] = (
        False
    )

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise UsageError("--quiet contradicts --verbose", "choose one of them")


@dataclass(frozen=True)
class TextOptions(Options):
    """Many texts, one by one."""

    heading = "Texts"

    text: Annotated[
        list[str],
        typer.Argument(
            metavar="[TEXT]...", help="A text each; - is stdin's lines. Default: stdin.", show_default=False
        ),
    ] = field(default_factory=list)
    file: Files = field(default_factory=list)
    whole: Annotated[bool, typer.Option("--whole", help="Each file, or stdin, is one text, not a text a line.")] = False
    escapes: Escapes = False
    special: Special = False

    def __post_init__(self) -> None:
        if self.whole and self.text:
            raise UsageError("--whole with texts as arguments", "leave it out: each argument is one text anyway")


@dataclass(frozen=True)
class FieldOptions(TextOptions):
    """The same, or in a field of lines of JSON."""

    field: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Lines are JSON objects with the text in NAME, and perhaps an id in `id`.",
            show_default=False,
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.whole and self.field is not None:
            raise UsageError("--whole contradicts --field", "choose one of them")
        if self.field is not None and self.text not in ([], ["-"]):
            raise UsageError("--field with texts as arguments", "it is for lines of JSON: -f FILE, or stdin")


@dataclass(frozen=True)
class RunOptions(Options):
    """How a model runs, whichever it is."""

    heading = "Model"

    precision: Precision = "auto"
    device: Device = "auto"
    threads: Threads = 0
    source: Source = "auto"
    offline: Offline = False

    def opened(
        self,
        name: str | None,
        talk: QuietOptions,
        *,
        alternating: bool = False,
        text: bool = True,
        told: bool = True,
        meanwhile: Callable[[], object] | None = None,
    ) -> "Model":
        """The model of this name; what slow work does is shown. `told`: with --verbose, which it is. The rest are
        open_model's. Raises UserError."""
        # NumPy, ONNX Runtime, tokenizers: 200 ms that --help and usage errors do not pay
        from gpt2cli.model import open_model
        from gpt2cli.store.choice import Choice, Listener

        with bars.progress(quiet=talk.quiet) as update:
            opened = open_model(
                name,
                Choice(self.precision, self.source, self.device, self.offline),
                Listener(update, talk.note, terminal.note),
                threads=self.threads,
                text=text,
                alternating=alternating,
                meanwhile=meanwhile,
            )
        if talk.verbose and told:
            terminal.note(f"{opened.name}, {opened.precision} on {opened.device}, from {opened.folder}")
            if opened.why_cpu and self.device == "auto":
                terminal.note(f"on the CPU: {opened.why_cpu}")
        return opened


@dataclass(frozen=True)
class ModelOptions(RunOptions):
    model: ModelName = None

    def open(
        self,
        talk: QuietOptions,
        *,
        name: str | None = None,
        alternating: bool = False,
        text: bool = True,
        meanwhile: Callable[[], object] | None = None,
    ) -> "Model":
        """The model, or another `name` in the same way. Otherwise as `opened`."""
        chosen = self.model if name is None else name
        told = name is None
        return self.opened(chosen, talk, alternating=alternating, text=text, told=told, meanwhile=meanwhile)


@dataclass(frozen=True)
class ModelsOptions(RunOptions):
    """Several models, side by side."""

    model: Annotated[
        list[str],
        typer.Option(
            *("-m", "--model"),
            metavar="NAME",
            help="A name of `gpt2 list`, owner/name[@revision], or a folder; several, side by side: -m A -m B.",
            autocompletion=choices.models,
            show_default=False,
        ),
    ] = field(default_factory=list)

    def each(self, talk: QuietOptions, default: str | None) -> "Iterator[Model]":
        """The models, or the `default`. Raises UserError."""
        names: Sequence[str | None] = self.model or [default]
        return (self.opened(name, talk) for name in names)


@dataclass(frozen=True)
class SamplingOptions(Options):
    heading = "Sampling"

    greedy: Annotated[bool, typer.Option("--greedy", help="Always the most probable token.")] = False
    values: Sampling = field(default_factory=Sampling)
    logit_bias: Annotated[
        list[str],
        typer.Option(
            metavar="TOKEN=X",
            help="Add X to the logit of TOKEN, an id or a text; -inf bans it. May be repeated.",
            show_default=False,
        ),
    ] = field(default_factory=list)

    @classmethod
    def settle(cls, values: dict[str, Any], given: Given) -> None:
        temperature = values["temperature"]
        if values["greedy"] and temperature != 0 and given("temperature"):
            raise UsageError(
                f"--greedy contradicts --temperature {temperature}", "greedy is temperature 0: leave one out"
            )
        if values["greedy"]:
            values["temperature"] = 0.0

    def biased(self, tokenizer: written.Encoder, *, escapes: bool) -> Sampling:
        """The values, with the biases as this tokenizer's ids. Raises UsageError."""
        return replace(self.values, logit_bias=written.logit_bias(self.logit_bias, tokenizer, escapes=escapes))


@dataclass(frozen=True)
class LengthOptions(Options):
    heading = "Length"

    values: Limits = field(default_factory=Limits)

    @classmethod
    def settle(cls, values: dict[str, Any], given: Given) -> None:
        if values["max_length"] is not None and not given("max_tokens"):
            values["max_tokens"] = -1  # nothing else ends the text

    def limits(self, note: Callable[[str], None], *, escapes: bool) -> Limits:
        """The values, with the escapes of the stop strings read. Raises UsageError."""
        for one in self.values.stop:
            with contextlib.suppress(UsageError):  # it is no escape then
                if not escapes and written.text(one, escapes=True) != one:
                    note(f"--stop '{one}' is taken as it stands, with its backslash; -e reads it as an escape")
        return replace(self.values, stop=[written.text(one, escapes=escapes) for one in self.values.stop])
