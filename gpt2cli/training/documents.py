"""Texts to learn from, as token ids on disk: documents in files, folders, lines of JSONL, or stdin.

A document is a file, or a line of JSONL; or in a text file what stands between two `<|endoftext|>`, or two marks that
are named. On disk they stand one after another, each behind the token that ends a text, which so ends the one before
it too. No text is ever whole in memory."""

import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from gpt2cli.errors import CorruptFile, UsageError
from gpt2cli.tokenizer.files import END
from gpt2cli.tokenizer.tokenizer import IdStream, Tokenizer

STDIN = Path("-")
_BLOCK = 1 << 20  # bytes
_SUFFIXES = (".txt", ".md", ".jsonl")  # of a folder's files; others are named one by one
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Facts:
    """What was read."""

    tokens: int  # with those between the documents
    documents: int
    nbytes: int
    sha256: str  # of the bytes, file by file
    sources: tuple[str, ...]
    dtype: str  # of the ids on disk


@dataclass(frozen=True)
class Corpus:
    """`ids` [tokens]. `starts` [documents] are the places of the token before each document, `prompts` [prompts, 2]
    the places, from and to, of what precedes a text and is not to be learnt."""

    ids: Any
    starts: Any
    prompts: Any
    facts: Facts

    def learnt(self, places: Any) -> Any:
        """Of each place whether its token has a loss."""
        if not len(self.prompts):
            return np.ones(places.shape, bool)
        before = np.searchsorted(self.prompts[:, 0], places, side="right") - 1
        return (before < 0) | (places >= self.prompts[before, 1])

    def part(self, start: int, stop: int) -> "Corpus":
        """The tokens from `start` to `stop`, which share the memory of the whole."""
        starts = self.starts[(self.starts >= start) & (self.starts < stop - 1)] - start
        inside = (self.prompts[:, 1] > start) & (self.prompts[:, 0] < stop)
        return Corpus(self.ids[start:stop], starts, self.prompts[inside] - start, self.facts)


def gather(
    sources: Sequence[Path],
    target: Path,
    *,
    tokenizer: Tokenizer,
    end: int,
    vocabulary: int,
    split_on: str = END,
    progress: Progress = lambda nbytes: None,
) -> Corpus:
    """Write the ids of all documents into the folder `target`, which exists. `progress` hears how many bytes were read.

    Raises UsageError and CorruptFile for what cannot be read: a file that is gone, that is no UTF-8 text, that changes
    meanwhile, a line that is no JSON object with `text` or with `prompt` and `completion`, a character that the
    tokenizer cannot write."""
    found, digest = files(sources), hashlib.sha256()
    with _Writer(target, tokenizer, end, vocabulary) as writer:
        for path in found:
            with _Reader(path, digest, progress) as reader:
                if path.suffix == ".jsonl":
                    writer.records(reader.name, _records(reader))
                else:
                    writer.text(reader.name, _parts(reader.text(), split_on))
        writer.done(digest.hexdigest(), tuple(map(str, found)))
    return opened(target)


def texts(sources: Sequence[Path], split_on: str = END) -> Iterator[str]:
    """All texts in pieces, to learn a vocabulary from. Raises as `gather`."""
    for path in files(sources):
        with _Reader(path, hashlib.sha256(), lambda nbytes: None) as reader:
            if path.suffix == ".jsonl":
                yield from itertools.chain.from_iterable(_records(reader))
            else:
                yield from filter(None, _parts(reader.text(), split_on))


def opened(target: Path) -> Corpus:
    """What `gather` has written. Raises CorruptFile."""
    try:
        facts = json.loads((target / "data.json").read_text(encoding="utf-8"))
        facts = Facts(**facts | {"sources": tuple(facts["sources"])})
        path = target / "ids.bin"
        ids = np.memmap(path, facts.dtype, "r", shape=(facts.tokens,)) if facts.tokens else np.zeros(0, facts.dtype)
        return Corpus(ids, np.load(target / "starts.npy"), np.load(target / "prompts.npy"), facts)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CorruptFile(f"the data of the run in '{target}' cannot be read: {error}", "begin a new run") from None


def token_sizes(tokenizer: Tokenizer, vocabulary: int) -> Any:
    """[vocabulary]: the bytes of each token."""
    return np.array([len(tokenizer.bytes_of(token)) for token in range(vocabulary)], np.int64)


def split(corpus: Corpus, share: float) -> tuple[Corpus, Corpus]:
    """(the first documents, the last), of which the latter have about `share` of the tokens. Where that is not even
    roughly possible, as with a single document, the one there is cut."""
    total = len(corpus.ids)
    wanted = max(2, round(total * share))
    ends = np.array([start for start in corpus.starts if 0 < start < total - 1])
    place = total - 1 - wanted
    if len(ends):
        nearest = int(ends[np.abs(ends - place).argmin()])
        if wanted / 4 <= total - 1 - nearest <= 4 * wanted:
            place = nearest
    return corpus.part(0, place + 1), corpus.part(place, total)


def files(sources: Sequence[Path]) -> list[Path]:
    """The files that the sources are, or that are in them. Raises UsageError."""
    found: list[Path] = []
    for source in sources:
        if source != STDIN and source.is_dir():
            inside = sorted(path for path in source.rglob("*") if path.is_file() and path.suffix in _SUFFIXES)
            if not inside:
                raise UsageError(f"the folder '{source}' has no {', '.join(_SUFFIXES)} file", "name the files")
            found += inside
        elif source != STDIN and not source.exists():
            raise UsageError(f"there is no '{source}'", "name a file or a folder that exists")
        else:
            found.append(source)
    return found


class _Reader:
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
        """Raises CorruptFile for what is no UTF-8, UsageError for what cannot be read."""
        held = b""
        while block := self._block():
            held += block
            end = len(held)
            for back in range(1, min(4, end) + 1):  # a character that goes on in the next block
                if held[-back] >= 0xC0:
                    end -= back
                if held[-back] >= 0xC0 or held[-back] < 0x80:
                    break
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
        return text.removeprefix("\ufeff") if place == 0 else text

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Raises CorruptFile where the file is no longer what was read."""
        if self.path == STDIN:
            return
        self._file.close()
        if kind is None and self._status() != self._before:
            raise CorruptFile(f"{self.name} has changed while it was read", "try again when nothing writes to it")


def _parts(pieces: Iterable[str], mark: str) -> Iterator[str | None]:
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


def _records(reader: _Reader) -> Iterator[tuple[str, str]]:
    """(prompt, text) of each line of JSONL. Raises CorruptFile, which names the line."""
    for number, line in enumerate(_lines(reader.text()), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            prompt, text = ("", value["text"]) if "text" in value else (value.get("prompt"), value.get("completion"))
            if isinstance(prompt, str) and isinstance(text, str):
                yield prompt, text
                continue
        raise CorruptFile(
            f'{reader.name}, line {number}: no JSON object with "text", or with "prompt" and "completion"',
            'write {"text": "..."} or {"prompt": "...", "completion": "..."} on each line',
        )


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    held = ""
    for piece in pieces:
        *whole, held = (held + piece).split("\n")
        yield from whole
    yield held


class _Writer:
    """Puts documents one after another on disk. Raises CorruptFile for what the tokenizer cannot write."""

    def __init__(self, target: Path, tokenizer: Tokenizer, end: int, vocabulary: int) -> None:
        self._target, self._tokenizer, self._end = target, tokenizer, end
        self._dtype = np.dtype(np.uint16 if vocabulary <= 1 << 16 else np.uint32)
        self._file = (target / "ids.bin").open("wb")
        self._starts: list[int] = []
        self._prompts: list[tuple[int, int]] = []
        self._tokens = self._nbytes = self._written = 0
        self._sizes = token_sizes(tokenizer, vocabulary)

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def text(self, name: str, parts: Iterable[str | None]) -> None:
        """A file of one document or several; one that is white space only is none."""
        stream: IdStream | None = None
        blank = ""
        for part in itertools.chain(parts, [None]):
            if part is None:
                if stream is not None:
                    self._add("", stream.finish())
                    self._check(name)
                stream, blank = None, ""
            elif stream is not None:
                self._add(part, stream.push(part))
            elif (blank + part).strip():
                self._begin()
                stream = IdStream(self._tokenizer)
                self._add(blank + part, stream.push(blank + part))
            else:
                blank += part

    def records(self, name: str, records: Iterable[tuple[str, str]]) -> None:
        for prompt, text in records:
            if not text:
                continue
            self._begin()
            if prompt:
                start = self._tokens
                self._add(prompt, self._tokenizer.encode(prompt))
                self._prompts.append((start, self._tokens))
            self._add(text, self._tokenizer.encode(text))
            self._check(name)

    def done(self, sha256: str, sources: tuple[str, ...]) -> None:
        """The token after the last document, and what stands beside the ids."""
        if self._starts:
            self._write([self._end])
        facts = Facts(self._tokens, len(self._starts), self._nbytes, sha256, sources, self._dtype.str)
        np.save(self._target / "starts.npy", np.array(self._starts, np.int64))
        np.save(self._target / "prompts.npy", np.array(self._prompts, np.int64).reshape(-1, 2))
        (self._target / "data.json").write_text(json.dumps(asdict(facts)), encoding="utf-8")

    def _begin(self) -> None:
        self._starts.append(self._tokens)
        self._write([self._end])

    def _add(self, text: str, ids: Sequence[int]) -> None:
        self._nbytes += len(text.encode())
        self._write(ids)
        self._written += int(self._sizes[ids].sum()) if ids else 0

    def _check(self, name: str) -> None:
        """Some tokenizers have no tokens for some bytes, which they leave out in silence."""
        if self._written < self._nbytes:
            raise CorruptFile(
                f"the model's tokenizer leaves out {self._nbytes - self._written} bytes of {name}",
                "its vocabulary lacks characters of this text: choose another model, or --from-scratch",
            )

    def _write(self, ids: Sequence[int]) -> None:
        if ids and max(ids) >= len(self._sizes):
            raise CorruptFile(
                f"the tokenizer gives the token {max(ids)}, the model has {len(self._sizes)}",
                "config.json and the tokenizer do not belong together: copy both from one checkpoint",
            )
        self._file.write(np.array(ids, self._dtype).tobytes())
        self._tokens += len(ids)
