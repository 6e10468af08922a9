"""The texts to learn from, as files, folders, lines of JSONL and stdin give them: in pieces, never whole in memory."""

import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from gpt2cli.errors import CorruptFile, UsageError
from gpt2cli.tokenizer.files import END

STDIN = Path("-")
_BLOCK = 1 << 20  # bytes
_SUFFIXES = (".txt", ".md", ".jsonl")  # of a folder's files; others are named one by one
Progress = Callable[[int], None]


def files(sources: Sequence[Path]) -> list[Path]:
    """The files that the sources are, or that are in them. Raises UsageError."""
    found: list[Path] = []
    for source in sources:
        if source != STDIN and source.is_dir():
            inside = _inside(source)
            if not inside:
                raise UsageError(f"the folder '{source}' has no {', '.join(_SUFFIXES)} file", "name the files")
            found += inside
        elif source != STDIN and not source.exists():
            raise UsageError(f"there is no '{source}'", "name a file or a folder that exists")
        else:
            found.append(source)
    return found


def _inside(folder: Path) -> list[Path]:
    """The texts of a folder, sorted. What is hidden is none, nor what models that were trained here are made of."""
    models = {path.parent.parent for path in folder.rglob("run/plan.json")}

    def is_text(path: Path) -> bool:
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or path.suffix.lower() not in _SUFFIXES or not models.isdisjoint(path.parents):
            return False
        return path.is_file()

    return sorted(filter(is_text, folder.rglob("*")))


def is_jsonl(path: Path) -> bool:
    return path.suffix.lower() == ".jsonl"


def texts(sources: Sequence[Path], split_on: str = END) -> Iterator[str]:
    """All texts in pieces, to learn a vocabulary from. Raises as `gather`."""
    for path in files(sources):
        with Reader(path, hashlib.sha256(), lambda nbytes: None) as reader:
            if is_jsonl(path):
                yield from itertools.chain.from_iterable(records(reader))
            else:
                yield from filter(None, parts(reader.text(), split_on))


class Reader:
    """A file, as text in pieces."""

    def __init__(self, path: Path, digest: Any, progress: Progress) -> None:
        self.path, self._digest, self._progress = path, digest, progress
        self.name = "stdin" if path == STDIN else str(path)
        self._read = 0
        try:
            self._file: IO[bytes] = sys.stdin.buffer if path == STDIN else path.open("rb")
            self._before = self._status()
        except OSError as error:
            raise UsageError(f"cannot read '{path}': {error.strerror}", "name a file or a folder that exists") from None

    def _status(self) -> tuple[int, int]:
        if self.path == STDIN:
            return 0, 0
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns

    def text(self) -> Iterator[str]:
        """Lines end as GPT-2 knows it, without the \\r of Windows. Raises CorruptFile for what is no UTF-8, UsageError
        for what cannot be read."""
        held = b""
        while block := self._block():
            held += block
            end = len(held)
            for back in range(1, min(4, end) + 1):  # a character that goes on in the next block
                if held[-back] >= 0xC0:
                    end -= back
                if held[-back] >= 0xC0 or held[-back] < 0x80:
                    break
            if held[:end].endswith(b"\r"):  # perhaps half the end of a line
                end -= 1
            yield self._decoded(held[:end], self._read - len(held))
            held = held[end:]
        yield self._decoded(held, self._read - len(held))

    def _block(self) -> bytes:
        try:
            block = self._file.read(_BLOCK)
        except OSError as error:
            raise UsageError(f"cannot read '{self.path}': {error.strerror}", "name a text file") from None
        self._digest.update(block)
        self._read += len(block)
        self._progress(len(block))
        return block

    def _decoded(self, octets: bytes, place: int) -> str:
        hint = "give plain text in UTF-8, or JSONL"
        try:
            text = octets.decode()
        except UnicodeDecodeError as error:
            where = place + error.start + 1
            raise CorruptFile(f"{self.name} is no UTF-8 text: byte {where} begins no character", hint) from None
        if "\0" in text:
            where = place + octets.index(0) + 1
            raise CorruptFile(f"{self.name} is no text: byte {where} is NUL", hint)
        return (text.removeprefix("\ufeff") if place == 0 else text).replace("\r\n", "\n")

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Raises CorruptFile where the file is no longer what was read."""
        if self.path == STDIN:
            return
        self._file.close()
        if kind is None and not self._same():
            raise CorruptFile(f"{self.name} has changed while it was read", "try again when nothing writes to it")

    def _same(self) -> bool:
        try:
            return self._status() == self._before
        except OSError:  # it is gone
            return False


def parts(pieces: Iterable[str], mark: str) -> Iterator[str | None]:
    """The pieces of a text without the marks in it; None where one stood."""
    held = ""
    for piece in pieces:
        *whole, held = (held + piece).split(mark)
        for part in whole:
            yield part
            yield None
        # what may be the beginning of a mark waits
        wait = next((n for n in range(min(len(mark) - 1, len(held)), 0, -1) if mark.startswith(held[-n:])), 0)
        yield held[: len(held) - wait]
        held = held[len(held) - wait :]
    yield held


def records(reader: Reader) -> Iterator[tuple[str, str]]:
    """(prompt, text) of each line of JSONL. Raises CorruptFile, which names the line."""
    for number, line in enumerate(_lines(reader.text()), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            prompt, text = ("", value["text"]) if "text" in value else (value.get("prompt"), value.get("completion"))
            if isinstance(prompt, str) and isinstance(text, str):
                _check_whole(prompt + text, f"{reader.name}, line {number}")
                yield prompt, text
                continue
        raise CorruptFile(
            f'{reader.name}, line {number}: no JSON object with "text", or with "prompt" and "completion"',
            'write {"text": "..."} or {"prompt": "...", "completion": "..."} on each line',
        )


def _check_whole(text: str, where: str) -> None:
    """Raises CorruptFile where half a character is escaped as \\ud83d and the other half is missing."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise CorruptFile(f"{where}: {half} is half a character", "write the whole one, in UTF-8") from None


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    held = ""
    for piece in pieces:
        *whole, held = (held + piece).split("\n")
        yield from whole
    yield held
