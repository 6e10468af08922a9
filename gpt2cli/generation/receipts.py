"""Receipts: plain data that says what a text came from, so that anybody can make it again (replaying.py).

    Receipts(model).of(request, texts)   -> the receipt of what a request has given
    read(data)                           -> the Receipt in a value of JSON

The seal, a sha256 over everything else, shows that a receipt is no longer what was written. It is no signature: whoever
changes a receipt on purpose can make it anew."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from gpt2cli.engine import machine
from gpt2cli.errors import CannotMeet, CorruptFile, UsageError, UserError
from gpt2cli.generation import texts
from gpt2cli.generation.forms import Constraint
from gpt2cli.generation.parameters import Limits, Sampling, is_whole, parameters
from gpt2cli.generation.requests import Piece, Request
from gpt2cli.generation.speculation import Drafter, DraftModel, Lookup
from gpt2cli.model import Model
from gpt2cli.store import hashes

SCHEMA = 1
INTERRUPTED = "interrupted"
_MOST_THREADS = 1024
_LONGEST = 1024  # characters of what a model is called: also a path
FORMS = ("llguidance",)  # what decides, beside the model, about a text that must have a form
Plain = dict[str, Any]
_UNTOUCHED = "use it as gpt2 wrote it"
_MODEL = {
    "name": str,
    "repository": str | None,
    "revision": str | None,
    "precision": str,
    "device": str,
    "source": str,
    "files": dict,
}
_SHAPE = {
    "model": _MODEL,
    "prompt": dict,
    "settings": {
        "samples": int,
        "beams": int,
        "first": int,
        "lookup": bool,
        "stop_tokens": [int],
        "logit_bias": dict,
        "constraint": dict | None,
    },
    "texts": [{"index": int, "ids": [int], "sha256": str, "finish_reason": str}],
    "versions": dict,
    "machine": {"threads": int},
}
_PRIVATE = {"salt": str, "sha256": str, "special": bool}


@dataclass(frozen=True)
class Told:
    """A text that was generated. `finish` is "interrupted" where it would have gone on."""

    ids: Sequence[int]
    text: str
    finish: str


class Receipts:
    """Receipts of what a model says, with the `draft` model that guesses for it."""

    def __init__(self, model: Model, draft: Model | None = None) -> None:
        """Raises CorruptFile where a file of theirs cannot be read."""
        self.surroundings: Plain = {
            "model": _identity(model),
            "draft_model": None if draft is None else _identity(draft),
            "versions": machine.versions(),
            "machine": machine.described() | {"threads": model.engine.threads},
        }

    def of(self, request: Request, told: Sequence[Told], *, private: bool = False, special: bool = False) -> Plain:
        """A receipt that names all texts of a request. `private`: instead of the prompt its hash, and whether it was
        read as `special`, for whoever gives it again."""
        ids = [int(token) for token in request.ids]
        settings = request.settings() | {
            "samples": request.samples,
            "first": request.first,
            "stop_tokens": list(request.stop_tokens),
            "lookup": isinstance(request.drafter, Lookup),
        }
        rows = [
            {
                "index": request.first + place,
                "ids": [int(token) for token in one.ids],
                "sha256": digest(one.text),
                "finish_reason": one.finish,
            }
            for place, one in enumerate(told)
        ]
        asked = {
            "prompt": hidden(ids, os.urandom(16).hex()) | {"special": special} if private else {"ids": ids},
            "seed": request.sampling.seed,
            "settings": settings,
            "texts": rows,
        }
        facts = {"receipt": SCHEMA, **self.surroundings, **asked}
        if request.constraint is not None and not request.constraint.choices:
            facts["versions"] = facts["versions"] | machine.versions_of(*FORMS)
        return facts | {"seal": seal(facts)}


def receipt(
    model: Model,
    prompt: str | Sequence[int],
    sampling: Sampling | None = None,
    limits: Limits | None = None,
    *,
    samples: int = 1,
    beams: int = 1,
    drafter: Drafter | None = None,
    constraint: Constraint | None = None,
    private: bool = False,
) -> tuple[list[str], Plain]:
    """The texts that `generate` yields, and their receipt. `private`: it has the prompt's hash, not the prompt. Raises
    as `complete`, and CorruptFile."""
    limits, sampling = Limits() if limits is None else limits, Sampling() if sampling is None else sampling
    texts.check_types(model=(model, Model), sampling=(sampling, Sampling), limits=(limits, Limits))
    texts.refuse_endless(limits)
    ids = texts.fit(model, prompt, keep=limits.keep).ids
    request = Request(ids, sampling.seeded(), limits, samples, beams, drafter=drafter, constraint=constraint)
    pieces = list(texts.stream(model, request))
    rows = [_told([piece for piece in pieces if piece.row == row]) for row in range(samples)]
    draft = drafter.model if isinstance(drafter, DraftModel) else None
    return [row.text for row in rows], Receipts(model, draft).of(request, rows, private=private)


def _told(pieces: Sequence[Piece]) -> Told:
    ids = [piece.token for piece in pieces if piece.token is not None]
    return Told(ids, "".join(piece.text for piece in pieces), pieces[-1].finish or INTERRUPTED)


@dataclass(frozen=True)
class Receipt:
    """A receipt that was read. `prompt` are its ids, None in a private one."""

    facts: Plain
    sampling: Sampling
    limits: Limits
    constraint: Constraint | None
    prompt: list[int] | None

    def name(self, which: str = "model") -> str | None:
        """The model, or the "draft_model", as it is opened here: one of the hub at the same commit."""
        facts = self.facts[which]
        if facts is None:
            return None
        return f"{facts['repository']}@{facts['revision']}" if facts["repository"] else str(facts["name"])

    @property
    def precision(self) -> str:
        """To be asked for: a ready-made graph may have one that cannot be."""
        facts = self.facts["model"]
        return str(facts["precision"]) if facts["source"] == "auto" else "auto"

    def fed(self, model: Model, prompt: str | Sequence[int] | None) -> list[int]:
        """The ids that are fed. Raises UsageError for another prompt than was fed before, or none where the receipt is
        private, and CorruptFile for ids that cannot have been fed."""
        if self.prompt is not None and prompt is None:
            if not 0 < len(self.prompt) <= model.engine.window:
                raise CannotMeet(
                    f"the receipt's prompt of {len(self.prompt)} tokens does not fit into the model's window",
                    "replay it with the model that it names",
                )
            return self.prompt
        facts = self.facts["prompt"]
        if prompt is None:
            raise UsageError("the receipt is private: it does not hold its prompt", "give it, with `prompt`")
        special = bool(facts.get("special"))
        ids = texts.fit(model, prompt, special=special, keep=self.limits.keep).ids
        same = ids == self.prompt if self.prompt else hidden(ids, facts["salt"])["sha256"] == facts["sha256"]
        if not same:
            raise UsageError("this is not the receipt's prompt", "every space and newline counts")
        return ids

    def request(self, ids: Sequence[int], drafter: DraftModel | None) -> Request:
        """What was asked for."""
        settings = self.facts["settings"]
        return Request(
            ids,
            self.sampling,
            self.limits,
            samples=settings["samples"],
            beams=settings["beams"],
            drafter=Lookup() if settings["lookup"] else drafter,
            first=settings["first"],
            stop_tokens=tuple(settings["stop_tokens"]),
            constraint=self.constraint,
        )


def read(data: object) -> Receipt:
    """The receipt in a value of JSON. Raises CorruptFile."""
    version = data.get("receipt") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not _is(version, int):
        raise CorruptFile("this is no receipt", "gpt2 generate --receipt FILE writes one")
    if version != SCHEMA:
        raise CorruptFile(
            f"this is a receipt of schema {version}, and the schema known here is {SCHEMA}",
            "a newer gpt2 wrote it: pip install --upgrade gpt2cli",
        )
    try:
        if seal({key: value for key, value in data.items() if key != "seal"}) != data["seal"]:
            raise CorruptFile("the receipt was changed after it was written", _UNTOUCHED)
        draft, prompt = data["draft_model"], data["prompt"]
        shape = _SHAPE | ({} if draft is None else {"draft_model": _MODEL})
        if not _is(data, shape) or not _is(prompt, {"ids": [int]} if "ids" in prompt else _PRIVATE):
            raise ValueError("a value is of another type")
        if not 0 <= data["machine"]["threads"] <= _MOST_THREADS:
            raise ValueError(f"its threads are not 0 to {_MOST_THREADS}")
        names = [value for model in (data["model"], draft or {}) for value in model.values() if isinstance(value, str)]
        if max(map(len, names)) > _LONGEST:
            raise ValueError(f"a name has more than {_LONGEST} characters")
        settings = data["settings"]
        indices = [one["index"] - settings["first"] for one in data["texts"]]
        if len(indices) != settings["samples"] or indices != list(range(len(indices))):
            raise ValueError("its texts are not those that were asked for")
        biases = {int(token): -inf if bias == "-inf" else bias for token, bias in settings["logit_bias"].items()}
        values = settings | {"seed": data["seed"], "logit_bias": biases}
        sampling = Sampling(**{name: values[name] for name in parameters(Sampling)})
        limits = Limits(**{name: values[name] for name in parameters(Limits)})
        form = settings["constraint"]
        constraint = None if form is None else Constraint(form["kind"], form["text"])
        return Receipt(data, sampling, limits, constraint, prompt.get("ids"))
    except CorruptFile:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, UserError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CorruptFile(f"the receipt is damaged: {why}", _UNTOUCHED) from None


def _is(value: object, shape: Any) -> bool:
    """Whether a value of JSON is of a shape: a type, a list of such, or a dictionary with at least such values."""
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(_is(value[key], one) for key, one in shape.items())
    if isinstance(shape, list):
        return isinstance(value, list) and all(_is(one, shape[0]) for one in value)
    return is_whole(value) if shape is int else isinstance(value, shape)


def hidden(ids: Sequence[int], salt: str) -> Plain:
    """What stands for a prompt: its hash tells it to nobody who cannot guess it; with a salt of its own not even
    whether two receipts have the same prompt."""
    octets = f"{salt}:{' '.join(map(str, ids))}".encode()
    return {"tokens": len(ids), "salt": salt, "sha256": hashlib.sha256(octets).hexdigest()}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def seal(facts: Mapping[str, Any]) -> str:
    """Of a receipt without its seal."""
    text = json.dumps(_canonical(facts), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return digest(text)


def _canonical(value: Any) -> Any:
    """The same, however programs write it that pass it on: 1.0 may have become 1."""
    if isinstance(value, Mapping):
        return {key: _canonical(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _identity(model: Model) -> Plain:
    """Which model it is, to the byte."""
    repository = model.source.repository
    return {
        "name": model.name,
        "repository": repository.name if repository else None,
        "revision": model.revision,
        "precision": model.precision,
        "device": model.device,
        "source": "auto" if model.runnable.graph is None else "onnx",
        "files": hashes.of(model.runnable.everything()),
    }
