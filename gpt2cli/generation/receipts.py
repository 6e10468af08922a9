"""Receipts: plain data that says what a text came from, so that anybody can make it again (replaying.py).

    Receipts(model).of(request, texts)   -> the receipt of what a request has given

The seal, a sha256 over everything else, shows that a receipt is no longer what was written. It is no signature: whoever
changes a receipt on purpose can make it anew."""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpt2cli.engine import machine
from gpt2cli.generation import texts
from gpt2cli.generation.parameters import Limits, Sampling
from gpt2cli.generation.requests import Piece, Request
from gpt2cli.generation.speculation import Drafter, DraftModel, Lookup
from gpt2cli.model import Model
from gpt2cli.store import hashes

SCHEMA = 1
INTERRUPTED = "interrupted"
Plain = dict[str, Any]


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
            "prompt": hidden(ids, secrets.token_hex(16)) | {"special": special} if private else {"ids": ids},
            "seed": request.sampling.seed,
            "settings": settings,
            "texts": rows,
        }
        facts = {"receipt": SCHEMA, **self.surroundings, **asked}
        return facts | {"seal": seal(facts)}


# eight parameters: as those of `generate`, and `private`
def receipt(
    model: Model,
    prompt: str | Sequence[int],
    sampling: Sampling | None = None,
    limits: Limits | None = None,
    *,
    samples: int = 1,
    beams: int = 1,
    drafter: Drafter | None = None,
    private: bool = False,
) -> tuple[list[str], Plain]:
    """The texts that `generate` yields, and their receipt. `private`: it has the prompt's hash, not the prompt. Raises
    as `complete`, and CorruptFile."""
    limits, sampling = Limits() if limits is None else limits, Sampling() if sampling is None else sampling
    texts.check_types(model=(model, Model), sampling=(sampling, Sampling), limits=(limits, Limits))
    texts.refuse_endless(limits)
    ids = texts.fit(model, prompt, keep=limits.keep).ids
    request = Request(ids, sampling.seeded(), limits, samples, beams, drafter=drafter)
    pieces = list(texts.stream(model, request))
    rows = [_told([piece for piece in pieces if piece.row == row]) for row in range(samples)]
    draft = drafter.model if isinstance(drafter, DraftModel) else None
    return [row.text for row in rows], Receipts(model, draft).of(request, rows, private=private)


def _told(pieces: Sequence[Piece]) -> Told:
    ids = [piece.token for piece in pieces if piece.token is not None]
    return Told(ids, "".join(piece.text for piece in pieces), pieces[-1].finish or INTERRUPTED)


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
