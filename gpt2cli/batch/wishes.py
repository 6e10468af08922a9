"""A row -> what is asked for, checked: the settings of the run are its defaults. Pure: knows no model.

A record and a request are read by the rules of the server (server/protocol.py). A record's defaults are those of
`gpt2 generate`, a request's those of OpenAI's schema."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from gpt2cli.batch.rows import Id, Row
from gpt2cli.generation.parameters import MAX_SEED, Limits, Sampling, parameters
from gpt2cli.server import forms, protocol
from gpt2cli.server.protocol import BadRequest, Completions, Fields

TASKS = ("generate", "score", "embed")
_TEXT = "a text, or a list of token ids"
_OURS = frozenset({"n", "logprobs", "stop_token_ids", "special", "strict", "typical_p", "repetition_penalty"})
_KNOWN = frozenset({*parameters(Sampling), *parameters(Limits), *forms.NAMES}) | _OURS


@dataclass(frozen=True)
class Settings:
    """What a run is to do with its rows; plain data.

    `body` are a record's defaults by name. Those of them that somebody has `given` are a request's too. With `receipt`
    a record's answer has one. `layer`, `pooling` and `normalize` are for vectors."""

    task: str = "generate"
    seed: int = 0
    body: dict[str, Any] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    beams: int = 1
    receipt: bool = False
    pooling: str = "mean"
    layer: int = -1
    normalize: bool = False

    def plain(self) -> dict[str, Any]:
        """What an answer depends on."""
        return {name: value for name, value in asdict(self).items() if name != "body"} | self.body

    def seed_of(self, id: Id) -> int:
        """A row's own seed: that of the run, and what the row is called."""
        digest = hashlib.sha256(f"{self.seed}\n{json.dumps(id)}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % MAX_SEED


@dataclass(frozen=True)
class Record:
    """What a record asks for. `prompt` is its text, or the ids."""

    prompt: str | list[int]
    asked: Completions
    beams: int
    unknown: tuple[str, ...]  # fields that mean nothing here


@dataclass(frozen=True)
class Text:
    """What is scored, or made a vector. `special`: <|endoftext|> in it is the token."""

    text: str | list[int]
    special: bool
    unknown: tuple[str, ...]  # fields that mean nothing here


def text(row: Row, settings: Settings) -> Text:
    """Raises BadRequest."""
    fields = Fields({"special": settings.body.get("special")} | row.body)
    return Text(_text(fields), fields.switch("special"), fields.unknown())


def _text(fields: Fields) -> str | list[int]:
    found: str | list[int] = fields.first(("prompt", _is_text, _TEXT))
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (value != [] and protocol.are_ids(value))


def record(row: Row, settings: Settings) -> Record:
    """Raises BadRequest."""
    own = {name: value for name, value in row.body.items() if value is not None}
    fields = Fields(own)
    prompt = _text(fields)
    beams = fields.whole("beams", settings.beams, 1) or 1
    body = _with_defaults({name: own[name] for name in own if name in _KNOWN}, settings.body)
    asked = _completions(body | {"prompt": prompt, "slide": True}, settings.seed_of(row.id))
    return Record(prompt, asked, beams, tuple(sorted(set(own) - _KNOWN - {"prompt", "beams", "user", "model"})))


def request(row: Row, settings: Settings) -> Completions:
    """Raises BadRequest."""
    own = {name: value for name, value in row.body.items() if value is not None and name not in ("stream_options",)}
    defaults = {name: settings.body[name] for name in settings.given}
    return _completions(_with_defaults(own, defaults) | {"stream": False}, settings.seed_of(row.id))


def _with_defaults(own: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The row's fields, and for what they do not say, the defaults, but those that another name of the row's means."""
    meant = set(own)
    if "typical_p" in own:
        meant.add("typical")
    if "repetition_penalty" in own:
        meant |= {"repeat_penalty", "repeat_last_n"}
    if "max_length" in own:
        meant.add("max_tokens")  # as for `gpt2 generate`: nothing else ends the text
    if not meant.isdisjoint(forms.NAMES):
        meant.update(forms.NAMES)  # a text has one form
    return {name: value for name, value in defaults.items() if name not in meant} | own


def _completions(body: dict[str, Any], seed: int) -> Completions:
    if body.get("max_tokens") == -1 and body.get("max_length") is None:
        raise BadRequest("max_tokens is -1: the text would have no end", "max_tokens")
    if body.get("seed") in (None, -1):
        body["seed"] = seed
    return protocol.completions(body)
