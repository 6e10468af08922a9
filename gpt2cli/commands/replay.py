"""gpt2 replay: make a text again from its receipt, and compare."""

import contextlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt2cli.console import choices, inputs, receipts, terminal, written
from gpt2cli.console import options as o
from gpt2cli.console.groups import Options
from gpt2cli.errors import EXIT_DIFFERS, Terminated, UsageError, UserError

if TYPE_CHECKING:
    from gpt2cli.generation.receipts import Receipt
    from gpt2cli.model import Model

MORE = """\
FILE is what `gpt2 generate --receipt FILE` wrote, or lines of such, or JSON with a field `receipt`. The exit code is 0
where every text is the same, 10 where one is not."""
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 generate -m tiny --receipt cat.json "The cat"
  gpt2 replay cat.json
  gpt2 replay --precision fp32 --threads 1 cat.json     what else makes the same?
  gpt2 replay --prompt "The cat" private.json
"""
Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Receipts; - is stdin.")]


@dataclass(frozen=True)
class PromptOptions(Options):
    heading = "The prompt of private receipts"

    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", metavar="TEXT", help="The prompt; - is stdin's text. Default: stdin.", show_default=False
        ),
    ] = None
    file: o.Files = field(default_factory=list)
    ids: Annotated[
        str | None, typer.Option("--ids", metavar="IDS", help="The prompt as token ids.", show_default=False)
    ] = None
    escapes: Annotated[bool, typer.Option("-e", "--escapes", help="Read \\n, \\t, \\xHH ... in --prompt.")] = False

    def __post_init__(self) -> None:
        if sum((self.prompt is not None, bool(self.file), self.ids is not None)) > 1:
            raise UsageError("the prompt is given in two ways", "give one of --prompt, -f and --ids")

    def reads_stdin(self, *, private: bool) -> bool:
        said = self.prompt is not None or self.file or self.ids is not None
        return self.prompt == "-" or Path("-") in self.file or (private and not said)

    def read(self, talk: o.QuietOptions, *, private: bool) -> str | list[int] | None:
        """The prompt; None where none is given. Raises UsageError and CannotMeet."""
        if self.ids is not None:
            return written.token_ids(self.ids)
        if self.prompt is not None or self.file:
            spoken = [] if self.prompt is None else [self.prompt]
            return inputs.read_prompt(spoken, self.file, escapes=self.escapes, note=talk.note)
        if not private or sys.stdin is None or sys.stdin.isatty():
            return None
        with contextlib.suppress(UsageError):  # nothing is there
            return inputs.read_prompt([], [], escapes=False, note=talk.note)
        return None


@dataclass(frozen=True)
class HereOptions(Options):
    """How the model runs here, where that is not as it ran there."""

    heading = "In another way"

    model: Annotated[
        str | None,
        typer.Option(
            *("-m", "--model"),
            metavar="NAME",
            help="Another model, or another place of the same.",
            autocompletion=choices.models,
            show_default=False,
        ),
    ] = None
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="auto, fp32, int8, int4; fp16.",
            autocompletion=choices.precisions,
            show_default=False,
        ),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="auto, cpu or cuda.", autocompletion=choices.devices, show_default=False),
    ] = None
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, max=1024, help="CPU threads; 0: as many as cores.", show_default=False),
    ] = None
    offline: o.Offline = False

    def opened(self, receipt: "Receipt", talk: o.QuietOptions) -> "tuple[Model, Model | None]":
        """The receipt's models: also the one that guesses, where there was one. Raises UserError."""
        facts, draft = receipt.facts["model"], receipt.facts["draft_model"]
        threads = receipt.facts["machine"]["threads"] if self.threads is None else self.threads
        device = self.device or facts["device"]
        run = o.RunOptions(self.precision or receipt.precision, device, threads, facts["source"], self.offline)
        model = run.opened(self.model or receipt.name(), talk, alternating=draft is not None, text=False)
        if draft is None:
            return model, None
        run = o.RunOptions("auto", device, threads, draft["source"], self.offline)
        return model, run.opened(receipt.name("draft_model"), talk, alternating=True, text=False)


@dataclass(frozen=True)
class OutputOptions(Options):
    heading = "Output"

    as_json: o.Json = False


def replay(files: Files, prompt: PromptOptions, here: HereOptions, shown: OutputOptions, talk: o.TalkOptions) -> int:
    inputs.refuse_two_dashes(files)
    if Path("-") in files and prompt.reads_stdin(private=False):
        raise UsageError("receipt and prompt would both be stdin's text", "give one of them as a file")
    again = Again(prompt, here, talk)
    rows: list[dict[str, Any]] = []
    reason: BaseException | None = None
    try:
        for place, value in receipts.found(files, talk.note, again.failed):
            try:
                row = again.row(place, value, show=not shown.as_json)
            except UserError as error:
                again.failed(error, place)
            else:
                rows.append(row)
    except (KeyboardInterrupt, Terminated) as error:
        reason = error
    if shown.as_json and (rows or not again.code):
        terminal.say_json(rows)
    if reason is not None:
        raise reason
    return again.code or (0 if all(row["same"] for row in rows) else EXIT_DIFFERS)


class Again:
    """Receipts, one after the other; models stay open from one to the next."""

    def __init__(self, prompt: PromptOptions, here: HereOptions, talk: o.QuietOptions) -> None:
        self._prompt, self._here, self._talk = prompt, here, talk
        self._opened: tuple[object, tuple[Model, Model | None]] | None = None
        self._given: dict[bool, str | list[int] | None] = {}  # of public and of private receipts, when it has been read
        self._noted: set[str] = set()
        self.code = 0  # of the first error

    def failed(self, error: UserError, place: str) -> None:
        """One that cannot be made again; the others go on."""
        terminal.error(f"{place}: {error.message}", error.hint)
        self.code = self.code or error.exit_code

    def row(self, place: str, value: dict[str, Any], *, show: bool) -> dict[str, Any]:
        """What became of a receipt, for JSON; `show`: said on stdout too. Raises UserError."""
        from gpt2cli.generation import replaying
        from gpt2cli.generation.receipts import read

        receipt = read(value)
        model, draft = self._models(receipt)
        differences = replaying.differences(receipt, model, draft)
        if differences and (told := receipts.told(differences)) not in self._noted:
            self._noted.add(told)
            self._talk.note(f"not as it was there: {told}")
        texts = replaying.compared(receipt, model, draft, self._said(private=receipt.prompt is None))
        if show:
            for line in receipts.verdict(texts, model):
                terminal.say_sentence(f"{place}: {line}")
        return {
            "receipt": place,
            **model.plain(),
            "same": all(text.same for text in texts),
            "differences": {name: {"there": there, "here": here} for name, (there, here) in differences.items()},
            "texts": [receipts.plain(text, model) for text in texts],
        }

    def _models(self, receipt: "Receipt") -> "tuple[Model, Model | None]":
        key = [receipt.facts[which] for which in ("model", "draft_model")], receipt.facts["machine"]["threads"]
        if self._opened is None or self._opened[0] != key:
            self._opened = None  # two at a time may need too much memory
            self._opened = key, self._here.opened(receipt, self._talk)
        return self._opened[1]

    def _said(self, *, private: bool) -> str | list[int] | None:
        if private not in self._given:
            self._given[private] = self._prompt.read(self._talk, private=private)
        return self._given[private]
