"""Receipts on the command line: where one goes, and what is said of it."""

import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt2cli.console import outputs, terminal
from gpt2cli.console.groups import Options
from gpt2cli.errors import CorruptFile, UsageError, UserError
from gpt2cli.paths import SMALL

if TYPE_CHECKING:
    from gpt2cli.console.record import Record
    from gpt2cli.generation.receipts import Receipts
    from gpt2cli.generation.replaying import Compared
    from gpt2cli.generation.requests import Request
    from gpt2cli.model import Model

_SHOWN = 80  # characters of a value in a receipt, which may hold anything


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


def found(
    files: Sequence[Path], note: Callable[[str], None], failed: Callable[[UserError, str], None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The place and the JSON of each receipt: a file of its own, a line of a file, or the field `receipt` of either. A
    line without one is passed over. What is no JSON has `failed`, and the rest goes on."""
    for path in files:
        count = without = 0
        try:
            for number, value in _objects(path):
                place = f"{path}:{number}" if number else str(path)
                if isinstance(value, CorruptFile):
                    failed(value, place)
                    count += 1
                    continue
                inner = value.get("receipt")
                if inner is None:
                    without += 1
                    continue
                count += 1
                yield place, inner if isinstance(inner, dict) else value
            if not count:
                raise CorruptFile("there is no receipt in it", "gpt2 generate --receipt FILE writes one")
        except UserError as error:
            failed(error, str(path))
        else:
            if without:
                note(f"{path}: {terminal.counted(without, 'line')} without a receipt passed over")


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | CorruptFile]]:
    """Each line's object, or what is wrong with it, with the line's number; 0 where there is but one. An object may
    have many lines, where it is alone. Raises UsageError."""
    with contextlib.ExitStack() as stack:
        try:
            stdin = str(path) == "-"
            if stdin and (sys.stdin is None or sys.stdin.isatty()):
                raise UsageError("no receipt on stdin", "name its file: gpt2 replay FILE")
            file: Any = sys.stdin.buffer if stdin else stack.enter_context(path.open("rb"))
            head = [file.readline(SMALL)]
            if not isinstance(_object(head[0]), dict):
                whole = head[0] + file.read(SMALL) + file.readline(SMALL)
                head = whole.splitlines()
                found = _object(whole)
                if isinstance(found, dict) or not any(isinstance(_object(line), dict) for line in head):
                    yield 0, found
                    return
            lines = enumerate(itertools.chain(head, iter(lambda: file.readline(SMALL), b"")), 1)
            numbered = ((number, line) for number, line in lines if line.strip())
            first = list(itertools.islice(numbered, 2))
            for number, line in itertools.chain(first, numbered):
                yield (number if len(first) > 1 else 0), _object(line)
        except OSError as reason:
            raise UsageError(f"cannot be read: {reason.strerror}", "check the path of the file") from None


def _object(line: bytes) -> dict[str, Any] | CorruptFile:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        if not line.lstrip().startswith(b"{"):
            return CorruptFile("there is no receipt in it", "gpt2 generate --receipt FILE writes one")
        what = "cut off, or no JSON" if isinstance(error, ValueError) else "nested too deep"
        return CorruptFile(f"this is {what}", "use the receipt as gpt2 wrote it")
    if not isinstance(value, dict):
        return CorruptFile("this is no receipt", "gpt2 generate --receipt FILE writes one")
    return value


def told(differences: dict[str, tuple[Any, Any]]) -> str:
    """What is not here as it was there, in a line."""
    return "; ".join(
        f"{name} {_word(there, here)} there, {_word(here, there)} here" for name, (there, here) in differences.items()
    )


def _word(value: Any, other: Any) -> str:
    """A value beside the other one: of lists what the other lacks, of hashes as much as anybody reads."""
    if isinstance(value, list) or isinstance(other, list):
        alone = [one for one in value or () if one not in (other or ())]
        return _cut(" ".join(map(str, alone))) or "no more"
    text = str(value) if value not in (None, "") else "none"
    return text[:12] if len(text) == 64 else _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def verdict(compared: "Sequence[Compared]", model: "Model") -> list[str]:
    """What became of a receipt, in words: a line for each text that is another one, or one for all."""
    several = len(compared) > 1
    tokens = terminal.counted(sum(one.tokens for one in compared), "token")
    if all(one.same for one in compared):
        return [f"the same, {terminal.counted(len(compared), 'text') + ', ' if several else ''}{tokens}"]
    return [
        (f"text {one.index + 1}: " if several else "") + _difference(one, model) for one in compared if not one.same
    ]


def _difference(compared: "Compared", model: "Model") -> str:
    first = compared.first
    if first is None:
        return "the same tokens, but another text, or another end"
    before, now = (_shown(token, model) for token in (first.there, first.here))
    gap = "" if first.gap is None else f" (logits {first.gap:.2g} apart)"
    return f"another text from token {first.place + 1} of {compared.tokens}: {before} there, {now} here{gap}"


def _shown(token: int | None, model: "Model") -> str:
    if token is None:
        return "the end"
    known = token < model.engine.vocabulary
    return f'"{terminal.visible(model.tokenizer.bytes_of(token))}"' if known else f"the token {token}"


def plain(compared: "Compared", model: "Model") -> dict[str, Any]:
    """The same as JSON has it."""
    first = compared.first
    return {
        "index": compared.index,
        "same": compared.same,
        "tokens": compared.tokens,
        "first": None
        if first is None
        else {
            "place": first.place,
            "there": _token(first.there, first.logits and first.logits[0], model),
            "here": _token(first.here, first.logits and first.logits[1], model),
            "gap": first.gap,
        },
    }


def _token(token: int | None, logit: float | None, model: "Model") -> dict[str, Any]:
    text = model.tokenizer.decode([token]) if token is not None and token < model.engine.vocabulary else None
    return {
        "id": token,
        "token": text,
        "logit": logit,
    }
