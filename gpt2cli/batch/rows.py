"""The rows of a file: lines of text, JSON records, or requests in OpenAI's batch format. Read one at a time, so that a
file of any length takes no more memory than its longest line; of the ids, eight bytes each are kept.

A row that cannot be read is a row with a `problem`: the others are not its business."""

import hashlib
import itertools
import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from typing import Any

import numpy as np

from gpt2cli.errors import UsageError

Id = str | int

MOST_BYTES = 8 << 20  # of a line
FORMATS = ("auto", "lines", "jsonl")
COMPLETIONS, EMBEDDINGS = "/v1/completions", "/v1/embeddings"
_JSON_ENDINGS = (".jsonl", ".ndjson")
_SHOWN = 40  # characters of what is wrong
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Row:
    """What one line asks for. `url` is that of OpenAI's format, None for a record of ours."""

    number: int  # of the line, from 1
    id: Id
    body: dict[str, Any] = field(default_factory=dict)
    url: str | None = None
    problem: str | None = None  # why it cannot be answered

    @property
    def key(self) -> int:
        return key_of(self.id)


def key_of(id: Id) -> int:
    """64 bits that stand for an id. 7 and "7" are two ids."""
    return int.from_bytes(hashlib.sha256(json.dumps(id).encode()).digest()[:8], "big")


@dataclass(frozen=True)
class Shard:
    """A part of the rows: number `place` of `count`, by the hash of their ids."""

    place: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """I/N. Raises UsageError."""
        place, slash, count = text.partition("/")
        if not (slash and all(word.isascii() and word.isdigit() and len(word) < 8 for word in (place, count))):
            raise UsageError(f"--shard '{text}' is not I/N", "for example --shard 1/4, and 2/4, 3/4 and 4/4 elsewhere")
        if not 1 <= int(place) <= int(count):
            raise UsageError(f"--shard '{text}': there is no such part", f"parts go from 1/{count} to {count}/{count}")
        return cls(int(place), int(count))

    def holds(self, key: int) -> bool:
        return key % self.count == self.place - 1

    def __str__(self) -> str:
        return f"{self.place}/{self.count}"


@dataclass(frozen=True)
class Source:
    """A file of rows that has been read once: what it is, and how many rows are to be answered."""

    file: BufferedReader
    is_json: bool
    shard: Shard
    sha256: str
    count: int

    def rows(self) -> Iterator[Row]:
        """In order, those of the shard."""
        return (row for row in _rows(self.file, is_json=self.is_json) if self.shard.holds(row.key))


def survey(file: BufferedReader, name: str, form: str, shard: Shard) -> Source:
    """Read all of a file that can be read again. `form` is one of FORMATS. Raises UsageError where an id stands twice:
    whose an answer is would be anybody's guess."""
    is_json = form == "jsonl" or (form == "auto" and _looks_like_json(file, name))
    file.seek(0)
    if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
        raise UsageError(f"{name} is UTF-16", "convert it: iconv -f UTF-16 -t UTF-8")
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    keys, numbers = array("Q"), array("Q")
    for row in _rows(file, is_json=is_json):
        keys.append(row.key)
        numbers.append(row.number)
    if not keys:
        raise UsageError(f"{name} has no rows", "give a line for each prompt")
    _refuse_doubles(keys, numbers, file, name, is_json=is_json)
    return Source(file, is_json, shard, digest, sum(map(shard.holds, keys)))


def _refuse_doubles(
    keys: "array[int]", numbers: "array[int]", file: BufferedReader, name: str, *, is_json: bool
) -> None:
    found = np.frombuffer(keys, np.uint64)
    order = np.argsort(found, kind="stable")
    same = np.flatnonzero(found[order][1:] == found[order][:-1])
    if len(same):
        again = min(same, key=lambda place: order[place + 1])
        first, second = (numbers[int(order[place])] for place in (again, again + 1))
        row = next(row for row in _rows(file, is_json=is_json) if row.number == second)
        raise UsageError(
            f"lines {first} and {second} of {name} have the same id: {json.dumps(row.id, ensure_ascii=False)[:80]}",
            'give each row a "custom_id" of its own; that of a row without one is the number of its line',
        )


def _looks_like_json(file: BufferedReader, name: str) -> bool:
    """By the name, else by the first line that is not empty."""
    if name.strip("'").lower().endswith((*_JSON_ENDINGS, ".txt")):
        return not name.strip("'").lower().endswith(".txt")
    first = next((line for _, line in _lines(file) if line is not None), b"")
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _lines(file: BufferedReader) -> Iterator[tuple[int, bytes | None]]:
    """The lines that are not empty, with their numbers; None for one that is too long."""
    file.seek(0)
    for number in itertools.count(1):
        line = file.readline(MOST_BYTES)
        if not line:
            return
        if number == 1:
            line = line.removeprefix(_BOM)
        if len(line) == MOST_BYTES and not line.endswith(b"\n"):
            while (rest := file.readline(MOST_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif text := line.rstrip(b"\r\n"):
            yield number, text


def _rows(file: BufferedReader, *, is_json: bool) -> Iterator[Row]:
    for number, line in _lines(file):
        if line is None:
            yield Row(number, number, problem=f"the line is longer than {MOST_BYTES >> 20} MB")
            continue
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            yield Row(number, number, problem=f"the line is not UTF-8 text: byte {error.start + 1}")
            continue
        yield _record(number, text) if is_json else Row(number, number, {"prompt": text})


def _record(number: int, text: str) -> Row:
    """A line of JSON as a row."""
    try:
        found = json.loads(text, parse_constant=_no_number)
        if "\\u" in text:  # an escape may be half a character
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        return Row(number, number, problem=f"the line is no JSON: {_reason(error)}")
    if not isinstance(found, dict):
        return Row(number, number, problem=f"the line is {_shown(found)}, and no JSON object")
    own = found.pop("custom_id", None)
    if own is not None and (not isinstance(own, str | int) or isinstance(own, bool)):
        return Row(number, number, problem=f"custom_id is {_shown(own)}; it must be a text, or a whole number")
    id = number if own is None else own
    return _request(number, id, found) if {"url", "body"} & set(found) else Row(number, id, found)


def _request(number: int, id: Id, found: dict[str, Any]) -> Row:
    """A row in OpenAI's batch format."""
    url, body = found.get("url"), found.get("body")
    problem = None
    if not isinstance(url, str) or url not in (COMPLETIONS, EMBEDDINGS):
        problem = f"url is {_shown(url)}; it must be {COMPLETIONS} or {EMBEDDINGS}"
    elif found.get("method", "POST") != "POST":
        problem = f"method is {_shown(found['method'])}; it must be POST"
    elif not isinstance(body, dict):
        problem = f"body is {_shown(body)}; it must be an object"
    return Row(number, id, body if isinstance(body, dict) else {}, str(url), problem)


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, character {error.pos + 1}"
    if isinstance(error, UnicodeError):
        return "it holds half a character"
    if "int_max_str_digits" in str(error):
        return "it holds a number of too many digits"
    return "it is too deep" if isinstance(error, RecursionError) else str(error)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number in JSON")
