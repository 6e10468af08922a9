"""Rows whose texts are generated, under way: each is a few streams of the scheduler, one after another, and what they
bring is gathered until the answer is whole."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

from gpt2cli.analysis.choosing import choices
from gpt2cli.batch import answers, wishes
from gpt2cli.batch.answers import Answer, Json
from gpt2cli.batch.rows import Row
from gpt2cli.batch.wishes import Record, Settings
from gpt2cli.errors import CannotMeet, UsageError
from gpt2cli.generation import texts
from gpt2cli.generation.forms import LONGER
from gpt2cli.generation.receipts import INTERRUPTED, Receipts, Told
from gpt2cli.generation.requests import Logprob, Piece, Request
from gpt2cli.model import Model
from gpt2cli.server import completions
from gpt2cli.server.answers import Choices, Envelope


class Stream(Protocol):
    """Of the scheduler."""

    def advance(self) -> None: ...
    def ready(self) -> list[Any]: ...
    @property
    def ended(self) -> bool: ...
    def close(self) -> None: ...


class Work:
    """A row under way. `rows` is how many of the engine's it holds at most, `tokens` what it has generated."""

    def __init__(self, row: Row, rows: int, streams: Iterator[tuple[int, Any]]) -> None:
        """Each stream with the number of the prompt that it continues; it is begun when the one before has ended."""
        self.row, self.rows, self.tokens = row, rows, 0
        self._streams = streams
        self._now: tuple[int, Stream] | None = None

    def begin(self) -> None:
        """The first stream, and then the next. Raises UserError, which ends the work, as `collect`."""
        self._now = None
        for number, stream in self._streams:
            if hasattr(stream, "advance"):
                stream.advance()  # only begins
                self._now = number, stream
                return
            for item in stream:  # nothing to compute
                self.take(number, item)

    @property
    def ended(self) -> bool:
        return self._now is None

    def advance(self) -> None:
        """A step for everybody."""
        assert self._now is not None
        self._now[1].advance()

    def collect(self) -> None:
        """What the last step has brought."""
        assert self._now is not None
        number, stream = self._now
        for item in stream.ready():
            self.take(number, item)
        if stream.ended:
            self.begin()

    def close(self) -> None:
        if self._now is not None:
            self._now[1].close()
            self._now = None

    def take(self, number: int, item: Any) -> None:
        raise NotImplementedError

    def answer(self) -> Answer:
        """When it has ended."""
        raise NotImplementedError


class RecordWork(Work):
    """A record of ours: answered as `gpt2 generate --jsonl` writes a sample."""

    def __init__(self, model: Model, row: Row, settings: Settings, rows: int, receipts: Receipts | None) -> None:
        """`receipts` where the answer is to have one. Raises UserError and BadRequest."""
        wanted = wishes.record(row, settings)
        self._asked, self._model, self._unknown, self._receipts = wanted.asked, model, wanted.unknown, receipts
        asked = wanted.asked
        self._fed = texts.fit(model, wanted.prompt, special=asked.special, keep=asked.limits.keep, strict=asked.strict)
        self._request = request_of(model, wanted, self._fed.ids, rows)
        form = asked.constraint
        self._choices = choices(model, self._fed.ids, form.choices) if form and form.choices else None
        self._samples = [_Sample() for _ in range(asked.n)]
        # beams find all samples together, and texts that are drawn know their numbers
        each = asked.n if wanted.beams > 1 else min(rows, asked.n)
        parts = [
            (first, texts.stream(model, replace(self._request, first=first, samples=min(each, asked.n - first))))
            for first in range(0, asked.n, each)
        ]
        super().__init__(row, max(each, wanted.beams), iter(parts))

    def take(self, number: int, item: Piece) -> None:
        self.tokens += item.token is not None
        self._samples[item.row].push(item)

    def answer(self) -> Answer:
        told = [one.told for one in self._samples]
        incomplete = sum(one.finish == "incomplete" for one in told)
        if incomplete and self._asked.strict:
            reason = "the text does not have the form that was asked for: its tokens were not enough"
            return answers.failed(self.row, CannotMeet(reason, LONGER))
        found = [one.plain(self._model, logprobs=self._asked.logprobs is not None) for one in self._samples]
        common: Json = {"seed": self._asked.sampling.seed, "prompt_tokens": len(self._fed.ids)}
        if self._fed.cut:
            common["prompt_cut"] = True
        if self._choices is not None:
            common["choices"] = [asdict(one) for one in self._choices]
        if self._receipts is not None:
            common["receipt"] = self._receipts.of(self._request, told)
        texts = found[0] if len(found) == 1 else {"samples": found}
        answer = answers.answered(self.row, texts | common, self.tokens, self._unknown)
        return replace(answer, incomplete=incomplete)


def request_of(model: Model, wanted: Record, ids: Sequence[int], rows: int) -> Request:
    """What is asked for after these ids. Raises UsageError."""
    asked = wanted.asked
    if wanted.beams > rows:
        raise UsageError(f"`beams` is {wanted.beams}", f"at most {rows} rows are computed at a time")
    model.engine.check_ids(asked.stop_tokens)
    return Request(
        ids,
        asked.sampling,
        asked.limits,
        asked.n,
        wanted.beams,
        model.engine.vocabulary if asked.logprobs == -1 else asked.logprobs,
        shares=True,
        stop_tokens=asked.stop_tokens,
        constraint=asked.constraint,
    )


class _Sample:
    """A text as it grows."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._ids: list[int] = []
        self._logprobs: list[Logprob] = []
        self._finish: str | None = None

    def push(self, piece: Piece) -> None:
        self._text.append(piece.text)
        if piece.token is not None:
            self._ids.append(piece.token)
            if piece.logprob is not None:
                self._logprobs.append(piece.logprob)
        self._finish = piece.finish or self._finish

    @property
    def told(self) -> Told:
        return Told(self._ids, "".join(self._text), self._finish or INTERRUPTED)

    def plain(self, model: Model, *, logprobs: bool) -> Json:
        found: Json = {"text": self.told.text, "ids": self._ids, "finish_reason": self._finish}
        if logprobs:
            pairs = zip(self._ids, self._logprobs, strict=True)
            found["logprobs"] = [one.plain(token, model.tokenizer) for token, one in pairs]
        return found


class RequestWork(Work):
    """A request for completions in OpenAI's format: answered as `gpt2 serve` does."""

    def __init__(self, model: Model, row: Row, settings: Settings, rows: int) -> None:
        """Raises UserError and BadRequest."""
        self._asked = asked = wishes.request(row, settings)
        self._answer = completions.Answer(model, asked, completions.prompts(model, asked), rows)
        self._choices = Choices(asked)
        self._envelope = Envelope(
            str(row.body.get("model") or model.name),
            f"{model.name}@{model.revision or 'local'} {model.precision} {model.device}",
            asked.sampling.seed,
            received=0.0,
            id=answers.name_of(row),
            created=0,  # an answer that says when it was made is never the same again
            prompt_tokens=self._answer.prompt_tokens,
        )
        for deltas in self._answer.before():
            self._choices.add(deltas)
        works = deque(self._answer.works)
        streams = ((work.number, work.stream) for work in works)
        super().__init__(row, max((work.rows for work in works), default=0), iter(streams))

    def take(self, number: int, item: Any) -> None:
        self._choices.add(self._answer.told([(number, item)]))
        self.tokens = sum(choice.tokens for choice in self._answer.choices)

    def answer(self) -> Answer:
        self._envelope.completion_tokens = self.tokens
        body = self._envelope.plain(self._choices.best(), usage=self._envelope.usage())
        return answers.responded(self.row, answers.written(body), self.tokens, self._asked.unknown)
