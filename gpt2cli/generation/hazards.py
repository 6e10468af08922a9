"""What llguidance must not see, refused before it does: numbers that it reads wrongly or dies of, repetitions that take
minutes, a backslash at the end. Pure: knows texts only."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from gpt2cli.generation.complaints import wrong
from gpt2cli.generation.forms import Constraint

_EXACT = 2**53  # from here on its numbers skip some
_WRITTEN_OUT = 100_000  # characters of a regular expression without its {m,n}: up to a second
_MOST = 10**9
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_DATA = ("const", "enum", "default", "examples")  # their values are no schemas
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")  # schemas by any name
_PART = re.compile(r"\\.|\[\^?\]?|\{[^{}]{0,60}\}|.", re.DOTALL)  # of a regular expression
_LITERAL = re.compile(r"/((?:\\.|[^/\\\n])+)/")  # a regular expression in Lark


def check(constraint: Constraint) -> None:
    """Raises UsageError. A schema must be JSON."""
    text = constraint.words
    if constraint.kind == "regex":
        _check_regex(constraint, text, 0)
    elif constraint.kind == "json_schema":
        _check_schema(constraint, json.loads(text), text, 0)
    else:
        for found in _LITERAL.finditer(text):
            _check_regex(constraint, found[1], found.start(1))
        for found in re.finditer(r"%json\s*", text):
            try:
                schema, _ = json.JSONDecoder().raw_decode(text, found.end())
            except (ValueError, RecursionError):
                continue  # as llguidance will say
            _check_schema(constraint, schema, text, found.end())


def _check_regex(constraint: Constraint, regex: str, place: int) -> None:
    """`place` is where it stands in the constraint."""
    if (len(regex) - len(regex.rstrip("\\"))) % 2:
        raise wrong(
            constraint, place + len(regex) - 1, "a backslash at the end escapes nothing", "write \\\\ for a backslash"
        )
    if (length := _written_out(regex)) > _WRITTEN_OUT:
        reason = f"its repetitions make {length:,} characters, and at most {_WRITTEN_OUT:,} are followed"
        raise wrong(constraint, place, reason, "give shorter repetitions, or none within others")


def _written_out(regex: str) -> int:
    """How many characters a regular expression has when its repetitions {m,n} are written out, up to a billion."""
    outside: list[int] = []  # sizes of what stands before each group that is open
    here = last = 0  # sizes of this group so far, and of its last part
    classes = 0  # that are open: [a-z[0-9]]
    for part in _PART.findall(regex):
        if part[0] == "[":
            here, last = here + (not classes), 1
            classes += 1
        elif classes:
            classes -= part == "]"
        elif part[0] == "{" and len(part) > 1:
            times = max(map(int, re.findall("[0-9]+", part)), default=1)
            here, last = (min(size, _MOST) for size in (here + last * (times - 1), last * times))
        elif part == "(":
            outside.append(here)
            here = last = 0
        elif part == ")":
            here, last = here + (outside.pop() if outside else 0), here
        elif part not in "*+?":
            here, last = here + 1, 1
    return here


def _check_schema(constraint: Constraint, schema: Any, text: str, start: int) -> None:
    """`start` is where the schema's JSON begins in the text."""
    data = () if any(key.endswith(("$ref", "Ref")) for key in _keys(schema)) else _DATA  # what may be pointed at
    for keyword, value, beside in _keywords(schema, data):
        if keyword in _BOUNDS and isinstance(value, int | float) and _EXACT < abs(value) < math.inf:
            reason = f"'{keyword}' is beyond 2^53, where numbers are not followed exactly"
            hint = f"keep it within {_EXACT}, or leave it out"
            raise wrong(constraint, _place(text, start, keyword, value), reason, hint)
        if keyword == "pattern" and isinstance(value, str):
            _check_regex(constraint, value, _place(text, start, keyword, value))
        free = beside.get("additionalProperties") is not False or beside.get("patternProperties")
        if keyword == "minProperties" and isinstance(value, int | float) and value > 1 and free:
            reason = "'minProperties' above 1 cannot be kept where keys are free: one may come twice"
            hint = 'name the keys in "properties", with "additionalProperties": false'
            raise wrong(constraint, _place(text, start, keyword, value), reason, hint)


def _keys(value: Any) -> Iterator[str]:
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            yield from one
            left += one.values()
        elif isinstance(one, list):
            left += one


def _keywords(schema: Any, data: tuple[str, ...]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every keyword of a schema and of those within, with its value and all that stand beside it; not in `data`."""
    left = [(schema, False)]
    while left:
        one, named = left.pop()
        if isinstance(one, list):
            left += [(inner, False) for inner in one]
        elif isinstance(one, dict) and named:
            left += [(inner, False) for inner in one.values()]
        elif isinstance(one, dict):
            for key, value in one.items():
                yield key, value, one
                if key not in data:
                    left.append((value, key in _NAMED))


def _place(text: str, start: int, keyword: str, value: Any) -> int:
    """Where the keyword stands with this value; the schema's beginning where that cannot be seen."""
    for found in re.finditer(rf'"{keyword}"\s*:\s*', text[start:]):
        at = start + found.end()
        try:
            if json.JSONDecoder().raw_decode(text, at)[0] == value:
                return at
        except (ValueError, RecursionError):
            continue
    return start
