"""The options of `gpt2 batch`, and what becomes of them: the settings of a run."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt2cli.analysis.poolings import POOLINGS
from gpt2cli.console import choices, inputs
from gpt2cli.console import options as o
from gpt2cli.console.formoptions import FormOptions
from gpt2cli.console.groups import Options, given
from gpt2cli.errors import UsageError
from gpt2cli.generation.parameters import MAX_SEED, Limits, Sampling

if TYPE_CHECKING:
    from io import BufferedReader

    from gpt2cli.tokenizer.tokenizer import Tokenizer

_FORMATS = ("auto", "lines", "jsonl")


@dataclass(frozen=True)
class RowOptions(Options):
    heading = "Rows"

    file: Annotated[
        Path | None,
        typer.Argument(metavar="[IN]", help="A file of rows; - is stdin. Default: stdin.", show_default=False),
    ] = None
    format: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"{', '.join(_FORMATS)}. auto: by the file's name, else by its first line.",
            autocompletion=lambda incomplete: choices.beginning(incomplete, _FORMATS),
        ),
    ] = "auto"
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Only part I of N, by the hash of the ids; the parts make the whole.")
    ] = "1/1"
    unordered: Annotated[bool, typer.Option("--unordered", help="Write an answer as soon as it is there.")] = False
    rows: Annotated[
        int, typer.Option(metavar="N", min=0, max=256, help="Rows to compute at a time; 0: as memory allows, up to 16.")
    ] = 0

    def __post_init__(self) -> None:
        if self.format not in _FORMATS:
            raise UsageError(f"--format '{self.format}' is unknown", f"choose {', '.join(_FORMATS)}")

    @property
    def name(self) -> str:
        """In a sentence."""
        return "stdin" if self.file is None or str(self.file) == "-" else f"'{self.file}'"

    @contextlib.contextmanager
    def opened(self, note: Callable[[str], None]) -> Iterator["BufferedReader"]:
        """A file that can be read more than once; what is none is copied first. Raises UsageError."""
        with contextlib.ExitStack() as stack:
            try:
                if self.name != "stdin":
                    assert self.file is not None
                    stream: Any = stack.enter_context(self.file.open("rb"))
                elif sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
                    raise UsageError("no rows", "give a file: gpt2 batch prompts.txt, or a pipe")
                else:
                    inputs.note_silence(note)
                    stream = sys.stdin.buffer
                if not (stream.seekable() and self.name != "stdin"):
                    copy = stack.enter_context(tempfile.TemporaryFile())
                    shutil.copyfileobj(stream, copy)
                    stream = copy
            except OSError as reason:
                raise UsageError(
                    f"cannot read {self.name}: {reason.strerror or reason}", "check the path of the file"
                ) from None
            yield stream


@dataclass(frozen=True)
class InsteadOptions(Options):
    heading = "Instead of texts"

    score: Annotated[bool, typer.Option("--score", help="How probable each text is, as `gpt2 score` says.")] = False
    embed: Annotated[bool, typer.Option("--embed", help="Each text as a vector, as `gpt2 embed` makes it.")] = False
    pooling: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"With --embed: {', '.join(one for one in POOLINGS if one != 'none')}.",
            autocompletion=lambda incomplete: choices.beginning(incomplete, POOLINGS),
        ),
    ] = "mean"
    layer: Annotated[
        int, typer.Option(metavar="N", help="With --embed: the layer; 0: the embeddings, -1: the last.")
    ] = -1
    normalize: Annotated[bool, typer.Option("--normalize", help="With --embed: vectors of length 1.")] = False

    def __post_init__(self) -> None:
        if self.score and self.embed:
            raise UsageError("--score contradicts --embed", "choose one of them")
        if self.pooling == "none" or self.pooling not in POOLINGS:
            known = ", ".join(one for one in POOLINGS if one != "none")
            raise UsageError(f"--pooling '{self.pooling}' is unknown", f"choose {known}")

    @property
    def task(self) -> str:
        return "score" if self.score else "embed" if self.embed else "generate"


@dataclass(frozen=True)
class LengthOptions(FormOptions, o.LengthOptions):
    heading = "Length and number"

    num_samples: Annotated[
        int, typer.Option(*("-N", "--num-samples"), metavar="N", min=1, max=128, help="Texts for each row.")
    ] = 1
    beams: Annotated[int, typer.Option(metavar="N", min=1, help="Beam search with N beams.")] = 1
    special: o.Special = False
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse a prompt longer than the window, and a text without the form asked for."),
    ] = False
    escapes: Annotated[bool, typer.Option("-e", "--escapes", help="Read \\n, \\t, \\xHH ... in --stop.")] = False


@dataclass(frozen=True)
class SamplingOptions(o.SamplingOptions):
    seed: Annotated[
        int,
        typer.Option(
            *("-s", "--seed"),
            metavar="N",
            envvar="GPT2_SEED",
            min=-1,
            max=MAX_SEED - 1,
            help="From it and its id comes each row's own seed; -1: drawn.",
        ),
    ] = 0


@dataclass(frozen=True)
class PlaceOptions(o.ModelOptions):
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Compute on a Ray cluster: HOST:PORT, auto, or local. Needs gpt2cli[ray].",
            show_default=False,
        ),
    ] = None
    ray_engines: Annotated[
        int, typer.Option(metavar="N", min=0, help="Engines on the cluster; 0: one a machine. --threads: of each.")
    ] = 0


@dataclass(frozen=True)
class OutputOptions(Options):
    heading = "Output"

    output_file: Annotated[
        Path | None,
        typer.Option(
            *("-o", "--output-file"),
            metavar="FILE",
            help="Add to FILE line by line, and go on where it was cut.",
            show_default=False,
        ),
    ] = None
    restart: Annotated[bool, typer.Option("--restart", help="Begin FILE anew; what is there is lost.")] = False
    logprobs: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Each token's log-probability, and the N best.", show_default=False),
    ] = None

    receipt: Annotated[
        bool, typer.Option("--receipt", help="A record's answer says what it came from, for `gpt2 replay`.")
    ] = False

    def __post_init__(self) -> None:
        if self.restart and self.output_file is None:
            raise UsageError("--restart is for a file", "name it: -o FILE")


_OF_TEXTS = {one.name for group in (LengthOptions, SamplingOptions, Limits, Sampling) for one in fields(group)}
_OF_TEXTS = _OF_TEXTS - {"special"} | {"logprobs", "receipt"}
_OF_VECTORS = {"pooling", "layer", "normalize"}


def refuse_meaningless(context: typer.Context, instead: InsteadOptions) -> None:
    """Raises UsageError for an option on the command line that says nothing about what is made of the rows."""
    others = set() if instead.embed else _OF_VECTORS
    if instead.task != "generate":
        others = others | _OF_TEXTS
    for option in context.command.params:
        if option.name in others and given(context, option.name):
            called = f"--{option.name.replace('_', '-')}"
            if instead.task == "generate":
                raise UsageError(f"{called} is for vectors", "add --embed, or leave it out")
            raise UsageError(f"{called} means nothing with --{instead.task}", "leave one of them out")


def body(
    context: typer.Context,
    length: LengthOptions,
    limits: Limits,
    sampling: SamplingOptions,
    logprobs: int | None,
    tokenizer: "Tokenizer",
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a record does not say itself, by the names that it would say it by; and which of these the command line
    says. Raises UsageError."""
    chosen = replace(sampling.biased(tokenizer, escapes=length.escapes), seed=None)
    if limits.max_tokens is None and limits.max_length is None:
        raise UsageError("-n -1 gives texts without an end", "say how many tokens: -n 500")
    found: dict[str, Any] = {}
    for values in (chosen, limits):
        found |= {one.name: getattr(values, one.name) for one in fields(values)}
    found["logit_bias"] = {str(id): "-inf" if bias == -inf else bias for id, bias in chosen.logit_bias.items()}
    found["stop"] = list(limits.stop)
    found["max_tokens"] = -1 if limits.max_tokens is None else limits.max_tokens
    form = length.constraint(escapes=length.escapes)
    found["constraint"] = form and form.plain()
    found |= {"n": length.num_samples, "special": length.special, "strict": length.strict, "logprobs": logprobs}
    found = {name: value for name, value in found.items() if value not in (None, [], {})}
    said = {"n": "num_samples", "temperature": "greedy", "constraint": form.kind if form else "choice"}
    names = (name for name in found if given(context, name) or (name in said and given(context, said[name])))
    return found, tuple(names)
