"""Receipts on the command line: where one goes, and what is said of it."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt2cli.console import outputs, terminal
from gpt2cli.console.groups import Options
from gpt2cli.errors import UsageError

if TYPE_CHECKING:
    from gpt2cli.console.record import Record
    from gpt2cli.generation.receipts import Receipts
    from gpt2cli.generation.requests import Request


@dataclass(frozen=True)
class ReceiptOptions(Options):
    receipt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write to FILE what `gpt2 replay` makes the text again from; -: into the --json.",
            show_default=False,
        ),
    ] = None
    private: Annotated[bool, typer.Option("--private", help="The receipt does not hold the prompt, but its hash.")] = (
        False
    )

    def refuse_contradictions(self, *, as_json: bool, text: Path | None) -> None:
        """`text` is where the text goes. Raises UsageError."""
        if self.receipt is None:
            if self.private:
                raise UsageError("--private is about a receipt, and there is none", "add --receipt FILE")
            return
        if self.inside and not as_json:
            raise UsageError(f"--receipt {self.receipt}: stdout is the text's", "name a FILE, or add --json")
        if self.inside and self.private:
            raise UsageError(
                f"--private contradicts --receipt {self.receipt}", "the --json holds the prompt: name a FILE"
            )
        if text is not None and not self.inside and text.resolve() == self.receipt.resolve():
            raise UsageError(f"text and receipt would both be '{text}'", "give the receipt a file of its own")

    @property
    def inside(self) -> bool:
        """Whether the receipt is a field of the JSON on stdout."""
        return self.receipt is not None and (str(self.receipt) == "-" or outputs.is_stdout(self.receipt))

    def file(self) -> contextlib.AbstractContextManager[outputs.Output | None]:
        """Where it is written, opened before there is anything to write. Raises StorageError."""
        if self.receipt is None or self.inside:
            return contextlib.nullcontext()
        return outputs.Output(self.receipt)

    def made(
        self, receipts: "Callable[[], Receipts] | None", request: "Request", record: "Record", *, special: bool
    ) -> dict[str, Any] | None:
        """The receipt of what has been generated; None where none is wanted, or there is none."""
        if self.receipt is None or receipts is None:
            return None
        from gpt2cli.generation.receipts import INTERRUPTED, Told

        told = [Told(*one) for one in record.told]
        if request.beams > 1 and any(one.finish == INTERRUPTED for one in told):
            terminal.note("beams that were interrupted have no receipt: nobody can interrupt them there again")
            return None
        return receipts().of(request, told, private=self.private, special=special)


@dataclass(frozen=True)
class Paper:
    """What a receipt is written on: a file of its own, or else perhaps a field of the JSON."""

    inside: bool
    file: outputs.Output | None
    make: Callable[[], dict[str, Any] | None]

    def field(self) -> dict[str, Any]:
        return {"receipt": self.make()} if self.inside else {}

    def write(self) -> None:
        """As a line, so that files of receipts can be joined. Raises StorageError."""
        if self.file is not None and (made := self.make()):
            self.file.write(json.dumps(made, ensure_ascii=False, allow_nan=False) + "\n")
            self.file.keep()


def told(differences: dict[str, tuple[Any, Any]]) -> str:
    """What is not here as it was there, in a line."""
    return "; ".join(
        f"{name} {_word(there, here)} there, {_word(here, there)} here" for name, (there, here) in differences.items()
    )


def _word(value: Any, other: Any) -> str:
    """A value beside the other one: of lists what the other lacks, of hashes as much as anybody reads."""
    if isinstance(value, list) or isinstance(other, list):
        alone = [one for one in value or () if one not in (other or ())]
        return " ".join(alone) or "no more"
    text = str(value) if value not in (None, "") else "none"
    return text[:12] if len(text) == 64 else text
