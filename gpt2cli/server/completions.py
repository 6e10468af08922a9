"""A checked request -> tasks of the worker -> deltas of its choices, as they come."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gpt2cli.analysis.scoring import Scored, scored
from gpt2cli.engine.tasks import Feed, Task
from gpt2cli.errors import CannotMeet, CorruptFile, UsageError
from gpt2cli.generation import constraints, decoding, texts
from gpt2cli.generation.requests import Piece, Request
from gpt2cli.model import Model
from gpt2cli.server.answers import Choice, Delta
from gpt2cli.server.protocol import BadRequest, Completions, refused
from gpt2cli.server.worker import Order, Work

# Characters, from which on a prompt is not encoded as a whole: that may take seconds.
_LONG_TEXT = 1 << 18
_MOST_LOGPROBS = 1_000_000  # 25 MB of JSON
_MANY_LOGPROBS = 10_000  # to write more takes longer than a step


@dataclass(frozen=True)
class Prompt:
    """A prompt as it is fed, and as text."""

    ids: list[int]
    text: str
    cut: bool = False  # whether it was longer


def prompts(model: Model, asked: Completions) -> list[Prompt]:
    """The request's prompts, found to have room. Raises BadRequest."""
    found = []
    for given in asked.prompts:
        try:
            found.append(_prompt(model, asked, given))
        except (UsageError, CannotMeet, CorruptFile) as problem:  # the last: the tokenizer fails on this text
            raise refused(problem, param="prompt") from None
    try:
        model.engine.check_ids(asked.stop_tokens)
    except UsageError as problem:
        raise refused(problem, param="stop_token_ids") from None
    if asked.constraint:
        try:
            constraints.matcher(model, asked.constraint, asked.stop_tokens)  # which is kept: it may take a second
        except (UsageError, CannotMeet) as problem:
            raise refused(problem, param=asked.form) from None
    if (numbers := _logprobs(model, asked, found)) > _MOST_LOGPROBS:
        raise BadRequest(
            f"an answer holds at most {_MOST_LOGPROBS:,} log-probabilities, and this one would have {numbers:,}:"
            " ask for fewer logprobs, or for fewer tokens",
            "logprobs",
        )
    return found


def _logprobs(model: Model, asked: Completions, found: Sequence[Prompt]) -> int:
    """How many log-probabilities there will be at most."""
    if asked.logprobs is None:
        return 0
    vocabulary = model.engine.vocabulary
    each = vocabulary if asked.logprobs == -1 else min(asked.logprobs + 1, vocabulary)
    lengths = [len(prompt.ids) for prompt in found]
    return each * asked.best_of * sum(length * asked.echo + (asked.limits.tokens(length) or 0) for length in lengths)


def _prompt(model: Model, asked: Completions, given: str | list[int]) -> Prompt:
    window, more = model.engine.window, False
    if not isinstance(given, str):
        ids = given
    elif len(given) < _LONG_TEXT:
        ids = model.tokenizer.encode(given, special=asked.special)
    else:  # of which its ends are enough
        ids, more = model.tokenizer.encode_ends(given, window, window + 1, special=asked.special)
    whole = len(ids)
    if asked.truncate is not None:
        room = window if asked.slide else window + 1 - max(1, asked.limits.max_tokens or 0)
        ids = ids[max(0, len(ids) - (room if asked.truncate == -1 else asked.truncate)) :]
    tokens = asked.limits.tokens(len(ids))
    if not asked.slide and len(ids) + max(1, tokens or 0) - 1 > window:
        raise BadRequest(
            f"this model's maximum context length is {window} tokens: the prompt has {'more than ' * more}{len(ids)},"
            f" and max_tokens is {tokens}. Shorten the prompt, lower max_tokens, or send truncate_prompt_tokens or"
            f" slide. (lm-evaluation-harness: max_length={window})",
            "prompt",
            code="context_length_exceeded",
        )
    fed = texts.fit(model, ids, keep=asked.limits.keep, strict=asked.strict)
    cut = fed.cut or len(ids) < whole
    as_given = isinstance(given, str) and not cut
    return Prompt(fed.ids, str(given) if as_given else model.tokenizer.decode(fed.ids if ids else []), cut)


class Answer:
    """A request under way: its choices, and what they are made from."""

    def __init__(self, model: Model, asked: Completions, found: Sequence[Prompt], rows: int) -> None:
        """`rows` is the most that a task may have. Raises BadRequest."""
        self._asked, self._prompts = asked, found
        self.choices = [
            Choice(number * asked.best_of + sample, asked, model.tokenizer, prompt.text, prompt.ids)
            for number, prompt in enumerate(found)
            for sample in range(asked.best_of)
        ]
        self.prompt_tokens = sum(len(prompt.ids) for prompt in found)
        self.is_large = _logprobs(model, asked, found) > _MANY_LOGPROBS  # too large to be written in the event loop
        self._scores = asked.echo and asked.logprobs is not None
        self._unscored = [len(prompt.ids) for prompt in found]  # tokens of each prompt
        # what came before its prompt was scored
        self._early: dict[int, list[tuple[Choice, Delta]]] = {n: [] for n in range(len(found))} if self._scores else {}
        self.works: list[Work] = []
        for number, prompt in enumerate(found):
            for first in range(0, asked.best_of, rows):
                samples = min(rows, asked.best_of - first)
                try:
                    self._add(model, number, prompt, samples, first)
                except (UsageError, CannotMeet) as problem:
                    raise refused(problem, param=asked.form) from None

    @cached_property
    def order(self) -> Order:
        """The works as an order, for the event loop that is running."""
        return Order(self.works)

    def _add(self, model: Model, number: int, prompt: Prompt, samples: int, first: int) -> None:
        asked = self._asked
        logprobs = asked.logprobs
        if logprobs == -1:
            logprobs = model.engine.vocabulary
        elif asked.best_of > asked.n:
            logprobs = logprobs or 0
        request = Request(
            prompt.ids,
            asked.sampling,
            asked.limits,
            samples,
            logprobs=logprobs,
            shares=True,
            first=first,
            stop_tokens=asked.stop_tokens,
            constraint=asked.constraint,
        )
        stream: Any = texts.stream(model, request)  # checks the request, computes nothing yet
        if self._scores and first == 0:
            stream = model.scheduler.stream(_scored(model, request))
        elif asked.limits.max_tokens == 0:
            return
        self.works.append(Work(number, samples, stream))

    async def deltas(self, seconds: float) -> AsyncIterator[list[tuple[Choice, Delta]]]:
        """What each step adds to the choices; nothing where it takes longer than so many seconds. Raises UserError."""
        for deltas in self.before():
            yield deltas
        while self.works and (items := await self.order.next(seconds)) is not None:
            yield await asyncio.to_thread(self.told, items) if self.is_large else self.told(items)

    def before(self) -> Iterator[list[tuple[Choice, Delta]]]:
        """What the choices begin with, and all of them where nothing is to be computed."""
        if self._asked.echo and not self._scores:
            yield [(choice, choice.echo) for choice in self.choices]
        if not self.works:
            yield [(choice, Delta(finish="length")) for choice in self.choices]

    def told(self, items: Sequence[tuple[int, Any]]) -> list[tuple[Choice, Delta]]:
        """What the choices make of what has come."""
        asked = self._asked
        found: list[tuple[Choice, Delta]] = []
        for number, item in items:
            if not isinstance(item, Scored):
                choice = self.choices[number * asked.best_of + item.row]
                self._early.get(number, found).append((choice, choice.push(item)))
                continue
            for choice in self._of(number):
                choice.hear(item)
            self._unscored[number] -= 1
            if not self._unscored[number]:
                found += [(choice, choice.echo) for choice in self._of(number)]
                found += self._early.pop(number)
                if asked.limits.max_tokens == 0:
                    found += [(choice, Delta(finish="length")) for choice in self._of(number)]
        return found

    @property
    def cached(self) -> int:
        """Tokens of the prompts that needed not be computed."""
        first = {work.number: work.stream.reused for work in reversed(self.works)}
        return sum(first.values())

    def _of(self, number: int) -> Sequence[Choice]:
        """The choices of a prompt."""
        count = self._asked.best_of
        return self.choices[number * count : (number + 1) * count]


def _scored(model: Model, request: Request) -> Task[Scored | Piece, None]:
    """The log-probabilities of a prompt's tokens, and then the texts that continue it. The prompt is computed afresh,
    in the calls of any prompt, so that the texts are those that follow it without."""
    ids, row = request.ids, None
    yield Scored(ids[0], None)
    logits: Any = None
    place = 0
    for chunk in model.engine.chunks(ids):
        logits = yield [Feed(chunk, row, every=True)]
        row, place = 0, place + len(chunk)
        targets = ids[place - len(chunk) + 1 : place + 1]
        yield from scored(logits[: len(targets)], targets, top=request.logprobs)
    if request.limits.max_tokens != 0:
        yield from decoding.decode(model, request, logits[-1:])
