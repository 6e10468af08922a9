"""A request for an explanation -> tasks of the worker -> the JSON of its answer, which is that of `gpt2 explain`."""

import asyncio
import json
from dataclasses import dataclass

from gpt2cli.analysis.explanation import Explainer
from gpt2cli.analysis.questions import PARTS, Question
from gpt2cli.errors import CorruptFile, UserError
from gpt2cli.model import Model
from gpt2cli.server import worker
from gpt2cli.server.protocol import BadRequest, Fields, are_ids, broken, refused, wrong
from gpt2cli.tokenizer.tokenizer import encode_in_pieces

_PATIENCE = 60.0  # seconds between two looks
_MOST_WEIGHTS = 2_000_000  # of attention in one answer
_MOST_TOP = 100  # likeliest tokens at each place


@dataclass(frozen=True)
class Request:
    """What is to be explained of which text."""

    prompt: str | list[int]
    question: Question
    special: bool = False
    unknown: tuple[str, ...] = ()  # fields that mean nothing here


def explanation(body: object) -> Request:
    """Raises BadRequest."""
    fields = Fields(body)
    is_prompt = (lambda value: isinstance(value, str) or are_ids(value)), "a text, or a list of token ids"
    prompt = fields.first(("prompt", *is_prompt))
    parts = fields.get("parts")
    if parts is not None and (not isinstance(parts, list) or not set(map(repr, parts)) <= set(map(repr, PARTS))):
        raise wrong("parts", parts, f"a list of {', '.join(PARTS)}")
    instead = fields.get("instead")
    if instead is not None and not isinstance(instead, str) and not are_ids([instead]):
        raise wrong("instead", instead, "a token's text or id")
    token = fields.whole("token", None, -(2**31), 2**31)
    question = Question(
        token=-1 if token is None else token,
        instead=instead,
        start=fields.get("start") is None or fields.switch("start"),
        top=fields.whole("top", 5, 1, _MOST_TOP) or 5,
        layers=_numbers(fields, "layers"),
        heads=_numbers(fields, "heads"),
        parts=PARTS if parts is None else parts,
        most=_MOST_WEIGHTS,
    )
    return Request(prompt, question, fields.switch("special"), fields.unknown())


def _numbers(fields: Fields, name: str) -> list[int]:
    value = fields.get(name)
    if value is not None and not are_ids(value):
        raise wrong(name, value, "a list of whole numbers")
    return value or []


def prepared(model: Model, request: Request) -> tuple[Model, Explainer]:
    """The model, and what makes the explanation. Takes its time. Raises BadRequest."""
    ids = request.prompt
    try:
        if isinstance(ids, str):
            ids = encode_in_pieces(model.tokenizer, ids, special=request.special)
        explainer = Explainer(model, ids, request.question)
    except CorruptFile as problem:
        raise broken(problem) from None
    except UserError as problem:
        raise refused(problem, param="prompt") from None
    if "attention" in request.question.parts and explainer.whole and explainer.weights > _MOST_WEIGHTS:
        raise BadRequest(
            f"attention would be {explainer.weights} numbers, and an answer holds {_MOST_WEIGHTS}: ask for fewer layers"
            f" and heads",
            "layers",
        )
    return model, explainer


class Answer:
    """A request under way: what the worker is to do, and what comes of it."""

    def __init__(self, request: Request, model: Model, explainer: Explainer) -> None:
        self._explainer = explainer
        self.tokens = len(explainer.ids)
        # two tasks: what looks inside is the request's own, what leaves tokens out takes turns with others' texts
        works = [worker.Work(0, 1, worker.Steps([] for _ in explainer.inside()), alone=True)]
        if "influence" in request.question.parts:
            works.append(worker.Work(1, 1, model.scheduler.stream(explainer.influence())))
        self.order = worker.Order(works)

    async def json(self, name: str) -> str:
        """The answer of the model that the request calls `name`, when all has been found. Raises UserError."""
        while await self.order.next(_PATIENCE) is not None:
            pass
        return await asyncio.to_thread(self._written, name)

    def _written(self, name: str) -> str:
        value = self._explainer.explanation.plain() | {"model": name}
        # in pieces, between which other threads get their turn
        return "".join(json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).iterencode(value))
