"""Texts to learn from, as token ids on disk: documents in files, folders, lines of JSONL, or stdin.

A document is a file, or a line of JSONL; or in a text file what stands between two `<|endoftext|>`, or two marks that
are named. On disk they stand one after another, each behind the token that ends a text, which so ends the one before
it too. No text is ever whole in memory."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt2cli.errors import CorruptFile
from gpt2cli.paths import contained, json_object
from gpt2cli.tokenizer.files import END
from gpt2cli.tokenizer.tokenizer import IdStream, Tokenizer
from gpt2cli.training.sources import Progress, Reader, files, is_jsonl, parts, records


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
            with Reader(path, digest, progress) as reader:
                if is_jsonl(path):
                    writer.records(reader.name, records(reader))
                else:
                    writer.text(reader.name, parts(reader.text(), split_on))
        writer.done(digest.hexdigest(), tuple(map(str, found)))
    return opened(target)


def opened(target: Path) -> Corpus:
    """What `gather` has written. Raises CorruptFile."""
    for name in ("ids.bin", "starts.npy", "prompts.npy"):
        contained(target / name, target)
    found = json_object(target / "data.json") or {}
    try:
        facts = Facts(**found | {"sources": tuple(found["sources"])})
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
