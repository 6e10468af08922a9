"""The form that a text must have, as a value: `Constraint`. What it allows next is in constraints.py. Imports nothing
heavy."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gpt2cli.errors import UsageError

Kind = Literal["regex", "json_schema", "grammar", "choice"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# What to do where a text did not come to its end.
LONGER = "raise `max_tokens`, or limit how long parts may be: [a-z]{1,20}, maxLength"
MOST_CHARACTERS = 50_000  # what is longer may take seconds to read
_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_TYPES |= {name: name for name in _TYPES.values()}


@dataclass(frozen=True)
class Constraint:
    """The form of a text, from its first character to its last. Checked once, here, as far as that needs no model;
    raises UsageError.

    kind: "regex", a regular expression that the whole text matches; "json_schema", a JSON value of this schema
    (JSON, or a dictionary, or the short form `name, age int`); "grammar", a grammar in Lark's notation or in GBNF;
    "choice", one of several texts.
    text: what it says; of a choice the texts, as a list."""

    kind: Kind
    text: str | Sequence[str] | Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"`constraint` is a {self.kind!r}", f"its kind must be one of {', '.join(KINDS)}")
        text: Any = self.text
        if self.kind == "json_schema" and isinstance(text, dict | bool):
            text = json.dumps(text)
        if self.kind == "choice":
            text = _choices(text)
        elif not isinstance(text, str):
            raise UsageError(f"the {self.noun} is {type(text).__name__}", "it must be a text")
        elif self.kind == "json_schema" and not is_json(text):
            text = json.dumps(short_schema(text))
        parts = [text] if isinstance(text, str) else text
        if (length := sum(map(len, parts))) > MOST_CHARACTERS:
            raise UsageError(
                f"the {self.noun} has {length:,} characters", f"at most {MOST_CHARACTERS:,} are read: shorten it"
            )
        for part in parts:
            if any("\ud800" <= character <= "\udfff" for character in part):
                raise UsageError(f"the {self.noun} is no text: it holds half a character", "decode it anew")
        object.__setattr__(self, "text", text)

    @property
    def noun(self) -> str:
        return {"json_schema": "JSON schema", "regex": "regular expression"}.get(self.kind, self.kind)

    @property
    def words(self) -> str:
        """What it says, as one text; of a choice nothing."""
        return self.text if isinstance(self.text, str) else ""

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts of a choice; none of another kind."""
        return self.text if isinstance(self.text, tuple) else ()

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": self.kind, "text": list(self.choices) or self.words}


def _choices(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or not given or not all(isinstance(one, str) for one in given):
        raise UsageError(f"`choice` is {str(given)[:60]!r}", "it must be a list of texts, at least one")
    if "" in given:
        raise UsageError("`choice` holds an empty text", "give it some text, or leave it out")
    return tuple(dict.fromkeys(given))


def is_json(text: str) -> bool:
    """Whether a schema is written as JSON, and not in the short form."""
    return text.lstrip()[:1] in ("{", "[", '"') or text.strip() in ("true", "false", "null")


def short_schema(text: str) -> dict[str, Any]:
    """The schema of `name, age int, bio: in a few words`: an object with these fields, in this order. A field is a
    name, perhaps a type (str, int, float, bool) and perhaps a description; fields stand on lines of their own, or
    between commas. Raises UsageError."""
    properties: dict[str, Any] = {}
    place = 0
    for part in re.split(r"\n" if "\n" in text.strip() else ",", text):
        field, _, description = part.partition(":")
        name, *kinds = field.split() or [""]
        kind = _TYPES.get(kinds[0]) if kinds else "string"
        if (not name and part.strip()) or not kind or len(kinds) > 1 or not re.fullmatch(r"[\w-]*", name):
            line, column = place_of(text, place + len(part) - len(part.lstrip()))
            raise UsageError(
                f"the JSON schema, line {line}, column {column}: '{part.strip()[:40]}' is no field",
                f"write fields as: name, age int; types are {', '.join(list(_TYPES)[:4])}; or write JSON",
            )
        if name:
            properties[name] = {"type": kind} | ({"description": description.strip()} if description.strip() else {})
        place += len(part) + 1
    if not properties:
        raise UsageError("the JSON schema is empty", "write fields as: name, age int; or write JSON")
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def place_of(text: str, offset: int) -> tuple[int, int]:
    """Line and column of a character, both from 1 on."""
    before = text[:offset]
    return before.count("\n") + 1, offset - before.rfind("\n")
