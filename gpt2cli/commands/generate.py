"""gpt2 generate: continue a text."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpt2cli.console import display, inputs, outputs, terminal, written
from gpt2cli.console import options as o
from gpt2cli.console.formoptions import FormOptions
from gpt2cli.console.groups import Options, given
from gpt2cli.console.receipts import Paper, ReceiptOptions
from gpt2cli.errors import CannotMeet, CorruptFile, NetworkError, Terminated, UsageError, UserError

if TYPE_CHECKING:
    from gpt2cli.analysis.choosing import Choice
    from gpt2cli.console.record import Record, Speaker
    from gpt2cli.generation.forms import Constraint
    from gpt2cli.generation.parameters import Limits, Sampling
    from gpt2cli.generation.receipts import Receipts
    from gpt2cli.generation.requests import Piece, Request
    from gpt2cli.generation.speculation import Drafter
    from gpt2cli.model import Model

HELP = "Continue a text, streaming."
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 generate "Once upon a time"
  gpt2 generate -n 60 --stop "." -N 3 "The old man said"
  cat story.txt | gpt2 generate - "And then" > more.txt
  gpt2 generate --greedy --json "The cat" | jq -r '.samples[0].text'
  gpt2 generate --json-schema "name, age int" "A person:" | jq .name
"""


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
            autocompletion=o.choices.models,
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


def generate(
    context: typer.Context,
    prompt: PromptOptions,
    length: TextOptions,
    sampling: o.SamplingOptions,
    model: PlaceOptions,
    guess: GuessOptions,
    output: OutputOptions,
    talk: o.TalkOptions,
) -> int:
    drawn = [name for name in ("temperature", "top_k", "top_p", "min_p", "typical", "seed") if given(context, name)]
    _refuse_contradictions(length, sampling.values, guess, output, drawn)
    model.refuse_contradictions(context, length, guess, output.receipt)
    whole = prompt.read(talk)
    limits = length.limits(talk.note, escapes=prompt.escapes)
    wish = _Wish(whole, limits, length.constraint(escapes=prompt.escapes), prompt, length, sampling, output, talk)
    started = time.monotonic()
    from gpt2cli.console.record import Record

    with outputs.Output(output.path) as file, output.file() as paper:
        begun = wish.there(model.server, model.model) if model.server else wish.here(model, guess)
        record = Record(
            *(begun.model, begun.text, begun.request),
            draft_model=guess.draft_model,
            keep=bool(output.structured or output.receipt),
            started=started,
            choices=begun.choices,
        )
        making = partial(output.made, begun.receipts, begun.request, record, special=prompt.special)
        _write(record, begun, file, output, Paper(output.inside, paper, making))
    if record.incomplete:
        _tell_incomplete(record.incomplete, limits, talk, strict=prompt.strict)
    return 0


def _tell_incomplete(count: int, limits: "Limits", talk: o.TalkOptions, *, strict: bool) -> None:
    """Raises CannotMeet where that is a failure."""
    what = f"{'the text does' if count == 1 else f'{count} texts do'} not have the form that was asked for"
    why = (
        f"{limits.max_tokens} tokens were not enough" if limits.max_tokens is not None else "there was no room for more"
    )
    if strict:
        raise CannotMeet(f"{what}: {why}", "raise `max_tokens`, or limit how long parts may be: [a-z]{1,20}, maxLength")
    talk.note(f"{what}: {why}")


@dataclass(frozen=True)
class _Begun:
    """Texts under way."""

    model: "Speaker"
    text: str  # the prompt
    request: "Request"
    pieces: "Iterable[Piece]"
    receipts: "Callable[[], Receipts] | None" = None  # of a model of this process
    choices: "list[Choice] | None" = None


@dataclass(frozen=True)
class _Wish:
    """What is wanted, whoever does it."""

    whole: str | list[int]
    limits: "Limits"
    constraint: "Constraint | None"
    prompt: PromptOptions
    length: TextOptions
    sampling: o.SamplingOptions
    output: OutputOptions
    talk: o.TalkOptions

    def request(self, ids: list[int], sampling: "Sampling", drafter: "Drafter | None" = None) -> "Request":
        from gpt2cli.generation.requests import Request

        length = self.length
        return Request(
            *(ids, sampling, self.limits, length.num_samples, length.beams, self.output.logprobs, drafter),
            constraint=self.constraint,
        )

    def here(self, model: o.ModelOptions, guess: GuessOptions) -> _Begun:
        """On a model of this process."""
        # NumPy: 60 ms that --help, usage errors and clients of a server do not pay
        from gpt2cli.generation import texts

        prompt, whole, keep = self.prompt, self.whole, self.limits.keep
        opening = partial(model.open, self.talk, alternating=guess.draft_model is not None, text=isinstance(whole, str))
        opened = opening()
        small = None if guess.draft_model is None else opening(name=guess.draft_model)
        chosen = self.sampling.biased(opened.tokenizer, escapes=prompt.escapes).seeded()
        drafter = guess.drafter(small, opened, pays=_lookup_pays(opened, chosen, self.length))
        fed = texts.fit(opened, whole, special=prompt.special, keep=keep, strict=prompt.strict)
        if fed.cut:
            self.note_cut(len(fed.ids))
        request = self.request(fed.ids, chosen, drafter)
        text = whole if isinstance(whole, str) else opened.tokenizer.decode(fed.ids)
        pieces = texts.stream(opened, request)
        receipts = partial(_receipts, opened, small)
        return _Begun(opened, text, request, pieces, receipts, self.choices(opened, request))

    def choices(self, model: "Model", request: "Request") -> "list[Choice] | None":
        """How probable each is, where that is asked for."""
        if not self.output.structured or not self.constraint or not self.constraint.choices:
            return None
        from gpt2cli.analysis import choosing

        return choosing.choices(model, request.ids, self.constraint.choices)

    def there(self, url: str, model: str | None) -> _Begun:
        """On a server."""
        from gpt2cli.server import client

        served = client.Served(url, os.environ.get("GPT2_API_KEY"))
        chosen = self.sampling.biased(served.tokenizer, escapes=self.prompt.escapes).seeded()
        request = self.request(served.prompt_ids, chosen)
        text = self.whole if isinstance(self.whole, str) else served.text(self.whole)
        asked = client.body_of(self.whole, request, model=model, special=self.prompt.special, strict=self.prompt.strict)
        pieces = served.pieces(asked)
        if served.window:
            self.note_cut(served.window)
        return _Begun(served, text, request, pieces)

    def note_cut(self, window: int) -> None:
        keep = self.limits.keep
        lost = "its beginning" if keep <= 0 else f"what follows its first {keep} tokens"
        self.talk.note(f"the prompt is longer than the model's window of {window} tokens: {lost} was cut off")


def _receipts(model: "Model", draft: "Model | None") -> "Receipts":
    from gpt2cli.generation.receipts import Receipts  # 10 ms, when the text is there

    return Receipts(model, draft)


def _write(record: "Record", begun: _Begun, file: outputs.Output, output: OutputOptions, paper: Paper) -> None:
    """What there is belongs to the user, however it comes to an end."""
    printed = output.texts(file, len(record.held), begun.text)
    cut_short: BaseException | None = None
    try:
        for piece in record.watch(begun.pieces):
            if printed:
                printed.push(piece.row, piece.text, done=piece.finish is not None)
    except (KeyboardInterrupt, Terminated, CannotMeet, CorruptFile, NetworkError) as reason:
        cut_short = reason
    if printed:
        for row, held in enumerate(record.held):
            if held:
                printed.push(row, held, done=True)
        printed.finish()
    elif record.tokens or not isinstance(cut_short, UserError):
        file.write(record.json_object(**paper.field()) if output.as_json else record.json_lines())
    if record.tokens or cut_short is None:
        file.keep()
        paper.write()
        if output.stats:
            terminal.tell(record.summary())
    if cut_short is not None:
        raise cut_short


def _lookup_pays(model: "Model", sampling: "Sampling", length: TextOptions) -> bool:
    """Where lookup is on by itself: where the text is the same token for token. With int8 activations a last bit of
    attention, which differs between one token and several at a time, is now and then rounded to another text."""
    return sampling.greedy and length.num_samples == length.beams == 1 and model.precision == "fp32"


def _refuse_contradictions(
    length: TextOptions, sampling: "Sampling", guess: GuessOptions, output: OutputOptions, drawn: list[str]
) -> None:
    """Between the groups; `drawn` are the options given that say how tokens are drawn."""
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
