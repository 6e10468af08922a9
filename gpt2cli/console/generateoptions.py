"""The options of `gpt2 generate`, and which of them contradict each other."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpt2cli.console import choices, display, inputs, outputs, written
from gpt2cli.console import options as o
from gpt2cli.console.formoptions import FormOptions
from gpt2cli.console.groups import Options, given
from gpt2cli.console.receipts import ReceiptOptions
from gpt2cli.errors import UsageError

if TYPE_CHECKING:
    from gpt2cli.generation.parameters import Sampling
    from gpt2cli.generation.speculation import Drafter
    from gpt2cli.model import Model


@dataclass(frozen=True)
class PromptOptions(Options):
    heading = "Prompt"

    prompt: Annotated[
        list[str],
        typer.Argument(
            metavar="[PROMPT]...", help="Text to continue; - is stdin's text. Default: stdin.", show_default=False
        ),
    ] = field(default_factory=list)
    file: o.Files = field(default_factory=list)
    escapes: o.EscapesAndStops = False
    ids: Annotated[
        str | None, typer.Option("--ids", metavar="IDS", help="The prompt as token ids.", show_default=False)
    ] = None
    special: o.Special = False
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Refuse a prompt longer than the window, and a text that does not meet its form (exit code 6).",
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.ids is not None and (self.prompt or self.file):
            raise UsageError("a prompt as ids and as text", "give --ids or a text, not both")

    def read(self, talk: o.QuietOptions) -> str | list[int]:
        """The text, or the ids. Raises UsageError and CannotMeet."""
        if self.ids is not None:
            ids = written.token_ids(self.ids)
            inputs.note_unused(talk.note)
            return ids
        text = inputs.read_prompt(self.prompt, self.file, escapes=self.escapes, note=talk.note)
        if text.endswith(" "):
            talk.note("the prompt ends in a space; the model's words bring their own")
        return text


@dataclass(frozen=True)
class TextOptions(FormOptions, o.LengthOptions):
    heading = "Length and number"

    num_samples: Annotated[
        int,
        typer.Option(
            *("-N", "--num-samples", "--nsamples", "--num-return-sequences", "--branches"),
            metavar="N",
            min=1,
            help="Texts to generate, as one batch.",
        ),
    ] = 1
    beams: Annotated[
        int, typer.Option(metavar="N", min=1, help="Beam search with N beams; the text comes at the end.")
    ] = 1


@dataclass(frozen=True)
class GuessOptions(Options):
    heading = "Guessing ahead"

    lookup: Annotated[
        bool | None,
        typer.Option(
            "--lookup/--no-lookup",
            help="Greedy: guess from what the text has said before. Default: on at fp32.",
            show_default=False,
        ),
    ] = None
    draft_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A smaller model with the same tokenizer that guesses.",
            autocompletion=choices.models,
            show_default=False,
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.lookup and self.draft_model:
            raise UsageError("--lookup contradicts --draft-model", "choose one of them")

    def drafter(self, small: "Model | None", model: "Model", *, pays: bool) -> "Drafter | None":
        """What guesses for the model; `pays` says whether lookup is on by itself."""
        from gpt2cli.generation import speculation

        if small is not None:
            return speculation.DraftModel(small, model)
        return speculation.Lookup() if self.lookup or (self.lookup is None and pays) else None


@dataclass(frozen=True)
class PlaceOptions(o.ModelOptions):
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="GPT2_SERVER",
            help="Let a running `gpt2 serve` do it: http://HOST:PORT, or unix:PATH. Default: none.",
            show_default=False,
        ),
    ] = None

    def refuse_contradictions(
        self, context: typer.Context, length: TextOptions, guess: GuessOptions, receipt: Path | None
    ) -> None:
        """Raises UsageError for what a server decides, or does not do."""
        if not self.server:
            return
        if receipt is not None:
            raise UsageError("--receipt contradicts --server", "a receipt is of a model of this machine")
        for name in ("precision", "device", "threads", "source", "offline"):
            if given(context, name):
                raise UsageError(f"`{name}` contradicts --server", "how a model runs, its server has decided")
        if length.beams > 1:
            raise UsageError("--beams contradicts --server", "servers draw: leave one out")
        if guess.lookup or guess.draft_model:
            name = "--lookup" if guess.lookup else "--draft-model"
            raise UsageError(f"{name} contradicts --server", "servers do not guess ahead: leave one out")


@dataclass(frozen=True)
class OutputOptions(ReceiptOptions):
    heading = "Output"

    output_file: o.OutputFile = None
    echo: Annotated[
        bool | None,
        typer.Option(
            *("--echo/--no-echo", "--display-prompt/--no-display-prompt"),
            help="Print the prompt before the text. Default: on a terminal.",
            show_default=False,
        ),
    ] = None
    no_wrap: o.NoWrap = False
    null: Annotated[bool, typer.Option("-0", "--null", help="End each text with a NUL byte.")] = False
    as_json: o.Json = False
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a sample, each on a line.")] = False
    logprobs: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="With JSON: each token's log-probability, and the N best.", show_default=False
        ),
    ] = None
    stats: Annotated[bool, typer.Option("--stats", help="Print seed, counts and speed to stderr.")] = False

    def __post_init__(self) -> None:
        if self.as_json and self.as_jsonl:
            raise UsageError("--json contradicts --jsonl", "choose one of them")
        if self.null and self.structured:
            raise UsageError(f"--null contradicts {self.structured}", "JSON needs no separators: leave out -0")
        if self.logprobs is not None and not self.structured:
            raise UsageError("--logprobs has nowhere to go in plain text", "add --json or --jsonl")
        self.refuse_contradictions(as_json=self.as_json, text=self.path)

    @property
    def structured(self) -> str:
        """The flag of the JSON that is wanted; empty where it is text."""
        return "--json" if self.as_json else "--jsonl" if self.as_jsonl else ""

    @property
    def path(self) -> Path | None:
        return None if str(self.output_file) == "-" else self.output_file

    def texts(self, output: outputs.Output, samples: int, prompt: str) -> outputs.Texts | None:
        """What prints the texts as they come; None where JSON is wanted."""
        if self.structured:
            return None
        echo = self.echo
        if echo is None:
            echo = outputs.is_stdout(self.path) and display.stdout_is_terminal()
        return outputs.Texts(output, samples, prompt=prompt if echo else "", null=self.null, wrap=not self.no_wrap)


def refuse_contradictions(
    length: TextOptions, sampling: "Sampling", guess: GuessOptions, output: OutputOptions, drawn: list[str]
) -> None:
    """Between the groups; `drawn` are the options given that say how tokens are drawn. Raises UsageError."""
    if length.values.max_tokens is None and length.values.max_length is None:
        for present, what in (
            (output.structured, output.structured),
            (length.num_samples > 1, "-N"),
            (length.beams > 1, "--beams"),
        ):
            if present:
                raise UsageError(f"-n -1 contradicts {what}", "say how many tokens: -n 500")
    if guess.lookup and not sampling.greedy:
        raise UsageError("--lookup guesses greedy text only", "add --greedy, or use --draft-model")
    if length.beams > 1 and drawn:
        raise UsageError(f"--beams contradicts `{drawn[0]}`", "beam search draws nothing: leave one out")
