"""A request for embeddings -> a task of the worker -> the JSON of its answer.

The schema is OpenAI's (openai/openai-openapi, CreateEmbeddingRequest), with `pooling` and `normalize` of `gpt2 embed`
as fields of their own."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from gpt2cli.analysis.embedding import Embedder, Vectors, numbers
from gpt2cli.engine.chunks import CHUNK
from gpt2cli.errors import CannotMeet, CorruptFile, UsageError
from gpt2cli.model import Model
from gpt2cli.server import worker
from gpt2cli.server.protocol import TEXTS, BadRequest, Fields, broken, refused, wrong
from gpt2cli.tokenizer.tokenizer import encode_in_pieces

_PATIENCE = 60.0  # seconds between two looks


@dataclass(frozen=True)
class Embeddings:
    """A request for the vectors of texts."""

    inputs: tuple[str | list[int], ...]
    base64: bool = False
    dimensions: int | None = None
    pooling: str = "mean"
    normalize: bool = False
    unknown: tuple[str, ...] = ()  # fields that mean nothing here


def embeddings(body: object) -> Embeddings:
    """Raises BadRequest."""
    fields = Fields(body)
    inputs = fields.texts("input")
    if inputs is None:
        raise BadRequest(f"input is missing; it must be {TEXTS}", "input")
    return Embeddings(
        inputs=inputs,
        base64=_one_of(fields, "encoding_format", "float", "base64") == "base64",
        dimensions=fields.whole("dimensions", None, 1),
        pooling=_one_of(fields, "pooling", "mean", "last", "weighted"),
        normalize=fields.switch("normalize"),
        unknown=fields.unknown(),
    )


def _one_of(fields: Fields, name: str, default: str, *others: str) -> str:
    value = fields.get(name)
    if value is None:
        return default
    if value not in (default, *others):
        raise wrong(name, value, " or ".join(f"'{one}'" for one in (default, *others)))
    return str(value)


def prepared(model: Model, asked: Embeddings) -> tuple[Embedder, list[list[int]]]:
    """What makes the vectors, and the ids of the texts. Takes its time. Raises BadRequest."""
    try:
        embedder = Embedder(model, pooling=asked.pooling, normalize=asked.normalize)
    except CannotMeet as problem:
        raise refused(problem) from None
    except CorruptFile as problem:
        raise broken(problem) from None
    if asked.dimensions not in (None, embedder.width):
        raise BadRequest(
            f"dimensions is {asked.dimensions}; the vectors of this model have {embedder.width} numbers, and lose their"
            f" meaning when they are cut: leave it out",
            "dimensions",
        )
    found = []
    for number, given in enumerate(asked.inputs):
        ids = _ids(model, given)
        if not ids:
            raise BadRequest(f"text {number + 1} of input is empty: without a token there is no vector", "input")
        found.append(ids)
    return embedder, found


def _ids(model: Model, given: str | list[int]) -> list[int]:
    try:
        if isinstance(given, str):
            return encode_in_pieces(model.tokenizer, given)
        model.engine.check_ids(given)
    except CorruptFile as problem:  # the tokenizer fails on this text
        raise refused(problem, param="input") from None
    except UsageError as problem:
        raise BadRequest(
            f"{problem.message}: {problem.hint}. Are they of another tokenizer? Send texts. (LangChain:"
            f" check_embedding_ctx_length=False)",
            "input",
        ) from None
    return given


class Answer:
    """A request under way: what the worker is to do, and what has come of it."""

    def __init__(self, asked: Embeddings, embedder: Embedder, texts: Sequence[list[int]]) -> None:
        self._asked, self._embedder, self._texts = asked, embedder, texts
        self.tokens = sum(map(len, texts))
        self._written = [""] * len(texts)

    @cached_property
    def order(self) -> worker.Order:
        """For the event loop that is running."""
        steps = worker.Steps(self._embedder.steps(self._texts, CHUNK))
        return worker.Order([worker.Work(0, 1, steps, alone=True)])

    async def json(self, name: str) -> str:
        """The answer of the model that the request calls `name`, when all vectors have come. Raises UserError."""
        while (items := await self.order.next(_PATIENCE)) is not None:
            for _, (number, vector) in items:  # a few at a time: thousands at once would hold up everybody's answers
                self.take(number, vector)
        return self.body(name)

    def take(self, number: int, vector: Vectors) -> None:
        """The vector of a text."""
        self._written[number] = f'{{"object":"embedding","index":{number},"embedding":{self._value(vector)}}}'

    def body(self, name: str) -> str:
        """When all have been taken."""
        usage = {"prompt_tokens": self.tokens, "total_tokens": self.tokens}
        rest = json.dumps({"model": name, "usage": usage}, ensure_ascii=False)
        return f'{{"object":"list","data":[{",".join(self._written)}],{rest[1:]}'

    def _value(self, vector: Vectors) -> str:
        if self._asked.base64:
            return f'"{base64.b64encode(vector.astype("<f4").tobytes()).decode()}"'
        return f"[{numbers(vector, ',')}]"
