"""The form of a text in a request: the fields by which clients of OpenAI, vLLM and llama-server ask for one. Pure."""

from collections.abc import Callable, Iterator
from typing import Any

from gpt2cli.errors import UsageError
from gpt2cli.generation.forms import KINDS, Kind

# The kinds by other names: within vLLM's structured_outputs, and as the fields of its older versions.
_WITHIN: dict[str, Kind] = {"json": "json_schema", "regex": "regex", "choice": "choice", "grammar": "grammar"}
_OBJECT = {"type": "object"}
# All fields that are read here.
NAMES = (*KINDS, *(f"guided_{name}" for name in _WITHIN), "constraint", "structured_outputs", "response_format")
_HOW = 'write {"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "json_schema": {"schema": ...}}'

Wish = tuple[str, Kind, Any]  # the field, the kind, and what it says


def wishes(get: Callable[[str], Any]) -> list[Wish]:
    """What the fields of a request ask for, which `get` has. Raises UsageError."""
    found: list[Wish] = [(kind, kind, value) for kind in KINDS if (value := get(kind)) not in (None, "")]
    for name, kind in _WITHIN.items():
        if (value := get(f"guided_{name}")) is not None:
            found.append((f"guided_{name}", kind, value))
    found += _plain(get("constraint"))
    found += _structured(get("structured_outputs"))
    found += _response(get("response_format"))
    return found


def _plain(value: Any) -> Iterator[Wish]:
    """As `gpt2 generate --json` writes it among its settings."""
    if value is None:
        return
    if not isinstance(value, dict) or value.get("kind") not in KINDS:
        raise UsageError("`constraint` is no object with `kind` and `text`", f"its kind is one of {', '.join(KINDS)}")
    yield "constraint", value["kind"], value.get("text")


def _structured(value: Any) -> Iterator[Wish]:
    if value is None:
        return
    if not isinstance(value, dict):
        raise UsageError("`structured_outputs` is no object", 'write for example {"choice": ["yes", "no"]}')
    said = [name for name in (*_WITHIN, "json_object") if value.get(name) not in (None, False)]
    if len(said) > 1:
        raise UsageError(f"`structured_outputs` has {said[0]} and {said[1]}", "a text has one form: send one of them")
    for name, inner in value.items():
        if name in _WITHIN and inner is not None:
            yield "structured_outputs", _WITHIN[name], inner
        elif name == "json_object" and inner:
            yield "structured_outputs", "json_schema", _OBJECT
        elif inner not in (None, False):
            raise UsageError(
                f"`structured_outputs` has '{name[:40]}', which is not supported", f"use one of {', '.join(_WITHIN)}"
            )


def _response(value: Any) -> Iterator[Wish]:
    if value is None:
        return
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "json_object":
        yield "response_format", "json_schema", value.get("schema") or _OBJECT
    elif kind == "json_schema":
        inner = value.get("json_schema")
        schema = inner.get("schema", inner.get("json_schema")) if isinstance(inner, dict) else value.get("schema")
        if schema is None:
            raise UsageError("`response_format` has no schema", _HOW)
        yield "response_format", "json_schema", schema
    elif kind != "text":
        raise UsageError("`response_format` has another type than text, json_object and json_schema", _HOW)
