"""Lines that are JSON objects, each with a text in one of its fields, and perhaps an id."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from gpt2cli.console.inputs import Text
from gpt2cli.errors import UsageError


@dataclass(frozen=True)
class Item:
    """A text, and what it is called in the answer."""

    id: str | int
    text: Text


def numbered(groups: Iterable[list[Text]], *, several: bool) -> Iterator[list[Item]]:
    """Each called by its number, a line of `several` files by the file too, and a whole file by its name."""
    for group in groups:
        yield [Item(one.place if one.line is None or (several and one.file) else one.line, one) for one in group]


def from_json(groups: Iterable[list[Text]], field: str, *, several: bool) -> Iterator[list[Item]]:
    """The texts in the `field` of lines of JSON, each called by its `id`, or as above where it has none. Raises
    UsageError for a line that is something else."""
    for group in numbered(groups, several=several):
        yield [_read(one, field) for one in group]


def _read(one: Item, field: str) -> Item:
    try:
        found = json.loads(one.text.shown or "")
    except (ValueError, RecursionError):
        found = None
    text, own = (found.get(field), found.get("id")) if isinstance(found, dict) else (None, None)
    hint = f'a line is {{"id": 1, "{field}": "a text"}}; --field names the field of the text'
    if not isinstance(text, str):
        what = f"has no text in '{field}'" if isinstance(found, dict) else "is no JSON object"
        raise UsageError(f"{_where(one.text)} {what}", hint)
    if "id" in found and (not isinstance(own, str | int) or isinstance(own, bool)):
        raise UsageError(f"{_where(one.text)} has an id that is neither a text nor a whole number", hint)
    try:
        f"{text}{own}".encode()
    except UnicodeEncodeError:
        raise UsageError(f"{_where(one.text)} holds half a character", "write characters whole") from None
    return Item(one.id if own is None else own, Text(one.text.file, one.text.line, [text], text, own))


def texts(groups: Iterable[list[Item]]) -> Iterator[list[Text]]:
    """Without what they are called."""
    return ([item.text for item in group] for group in groups)


def documents(groups: Iterable[list[Item]]) -> Iterator[list[Text]]:
    """The texts; those that follow each other with the same id of their own are one, joined by newlines."""
    held: list[Text] = []
    for group in texts(groups):
        done = []
        for one in group:
            if held and (one.id is None or (one.file, one.id) != (held[0].file, held[0].id)):
                done.append(_joined(held))
                held = []
            held.append(one)
        yield done
    yield [_joined(held)] if held else []


def _joined(parts: list[Text]) -> Text:
    text = "\n".join(part.shown or "" for part in parts)
    return replace(parts[0], blocks=[text], shown=text)


def _where(text: Text) -> str:
    return f"line {text.line}" + (f" of '{text.file}'" if text.file and text.file != "-" else "")
