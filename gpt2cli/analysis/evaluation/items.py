"""What is asked of a model, and how a file says it: lines of JSON, or a text."""

import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gpt2cli.errors import UsageError

_T = TypeVar("_T")
LINES = (".jsonl", ".ndjson", ".json")  # how the name of a file of items ends
SHAPES = (
    '{"context": "...", "target": "..."}, {"context": "...", "choices": ["...", "..."], "answer": 0},'
    ' {"good": "...", "bad": "..."} or {"text": "..."}'
)


@dataclass(frozen=True)
class Continuation:
    """How probable is `target` after `context`?"""

    context: str
    target: str
    name: str = field(default="the item", compare=False)  # where it stands, for errors


@dataclass(frozen=True)
class Choice:
    """Which of `choices` is the most probable after `context`? `endings` is what stands there for each of them, where
    that is more than the choice itself."""

    context: str
    choices: tuple[str, ...]
    answer: int
    endings: tuple[str, ...] = ()
    name: str = field(default="the item", compare=False)


@dataclass(frozen=True)
class Pair(Choice):
    """Is the first of two texts the more probable one?"""


@dataclass(frozen=True)
class Passage:
    """How probable is `text`, of any length? Words and bytes are counted in the text as it was written: `text` may be
    made of it."""

    text: str
    words: int
    nbytes: int
    name: str = field(default="the item", compare=False)

    @classmethod
    def of(cls, text: str, name: str = "the item") -> "Passage":
        return cls(text, len(text.split()), len(text.encode()), name)


Item = Continuation | Choice | Passage


def first(found: Iterable[_T], limit: int | None) -> Iterator[_T]:
    """The first `limit` of them, or all."""
    return itertools.islice(found, None if limit is None else min(limit, sys.maxsize))


def from_file(path: Path, delimiter: str = " ") -> Iterator[Item]:
    """The items of a file of lines of JSON, or else the file as one text, without one newline at its end. Raises
    UsageError."""
    if path.suffix.lower() not in LINES:
        text = "".join(text_lines(path))
        text = text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
        if not text:
            raise UsageError(f"'{path}' is empty", f"a file of items has lines such as {SHAPES}")
        yield Passage.of(text, f"'{path}'")
        return
    yield from from_objects(json_lines(path), delimiter)


def from_objects(found: Iterable[tuple[str, Any]], delimiter: str = " ") -> Iterator[Item]:
    """The items of objects, each with what it is called. Between a context and what follows it comes the `delimiter`,
    unless one of them has white space there. Raises UsageError."""
    kind: type[Item] | None = None
    for name, value in found:
        item = _item(value, name, delimiter)
        if kind is not None and type(item) is not kind:
            hint = f"the items before are a {kind.__name__.lower()} each: measure one kind at a time"
            raise UsageError(f"{name} is a {type(item).__name__.lower()}", hint)
        kind = type(item)
        yield item


def _item(value: Any, name: str, delimiter: str) -> Item:
    if not isinstance(value, Mapping):
        raise UsageError(f"{name} is no JSON object", f"a line is {SHAPES}")
    if "choices" in value:
        context = _text(value, "context", name) if "context" in value else ""
        choices = value["choices"]
        if not isinstance(choices, list | tuple) or not all(map(_encodes, choices)):
            raise UsageError(f"{name} has 'choices' that are no list of texts", f"a line is {SHAPES}")
        if len(choices) < 2:
            count = "a single text" if choices else "nothing"
            raise UsageError(f"{name} has {count} in 'choices'", "give two or more, of which one is the answer")
        endings = tuple(_followed(context, one, delimiter) for one in choices)
        return Choice(context, tuple(choices), _answer(value.get("answer"), choices, name), endings, name)
    if "target" in value:
        context = _text(value, "context", name) if "context" in value else ""
        return Continuation(context, _followed(context, _text(value, "target", name, some=True), delimiter), name)
    if "good" in value or "bad" in value:
        return Pair("", (_text(value, "good", name, some=True), _text(value, "bad", name, some=True)), 0, name=name)
    if "text" in value:
        return Passage.of(_text(value, "text", name, some=True), name)
    raise UsageError(f"{name} has none of the fields that are measured", f"a line is {SHAPES}")


def _encodes(text: Any) -> bool:
    """Whether it is a text that is not empty, of whole characters."""
    try:
        return isinstance(text, str) and bool(text.encode())
    except UnicodeEncodeError:
        return False


def _text(value: Mapping[str, Any], key: str, name: str, *, some: bool = False) -> str:
    found = value.get(key)
    if isinstance(found, str) and (_encodes(found) or not (found or some)):
        return found
    if found == "":
        raise UsageError(f"{name} has an empty '{key}'", "leave the line out, or give it a text")
    what = "half a character in" if isinstance(found, str) else "no text in"
    raise UsageError(f"{name} has {what} '{key}'", f"a line is {SHAPES}")


def _answer(answer: Any, choices: Any, name: str) -> int:
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    if isinstance(answer, str) and list(choices).count(answer) == 1:
        return int(list(choices).index(answer))
    raise UsageError(
        f"{name} has the 'answer' {json.dumps(answer)}, and {len(choices)} choices",
        f"an answer is the number of a choice, from 0 to {len(choices) - 1}, or its text",
    )


def _followed(context: str, text: str, delimiter: str) -> str:
    joined = not context or context[-1].isspace() or text[0].isspace()
    return text if joined else delimiter + text


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The values of a file, a line each, or those of its one list, with their names. Raises UsageError."""
    empty = True
    if path.suffix.lower() == ".json" and (found := _listed(path)) is not None:
        yield from ((f"item {number} of '{path}'", value) for number, value in enumerate(found, 1))
        return
    for number, line in enumerate(text_lines(path), 1):
        if line.isspace():
            continue
        empty = False
        try:
            yield f"line {number} of '{path}'", json.loads(line)
        except (ValueError, RecursionError):
            raise UsageError(f"line {number} of '{path}' is no JSON", f"a line is {SHAPES}") from None
    if empty:
        raise UsageError(f"'{path}' is empty", f"a line is {SHAPES}")


def _listed(path: Path) -> list[Any] | None:
    """What is in a file that is one list."""
    try:
        found = json.loads("".join(text_lines(path)))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and found else None


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a file, as they end. Raises UsageError."""
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line in file:
                number += 1
                yield line
    except OSError as reason:
        raise UsageError(f"cannot read '{path}': {reason.strerror or reason}", "check the path of the file") from None
    except UnicodeDecodeError:
        where = f" after line {number}" if number else ""
        raise UsageError(f"'{path}' is no UTF-8 text{where}", "convert it: iconv -f ENCODING -t UTF-8 FILE") from None
