"""What the model has said -> the JSON of an answer: choices, their log-probabilities, usage. Pure: knows no socket.

A choice is written as deltas, one for the prompt where it is echoed and one a token; a stream sends each as it comes,
an answer is their sum. Log-probabilities are natural, under the model's own distribution. Arrays have an entry for each
token: also for the end token that ends a text, of which the text itself has nothing."""

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from typing import Any

from gpt2cli.analysis.scoring import Scored
from gpt2cli.generation.requests import Finish, Piece
from gpt2cli.server.protocol import Completions
from gpt2cli.tokenizer.tokenizer import TextStream, Tokenizer

_NO_PROBABILITY = -9999.0  # for minus infinity, which JSON does not know: as vLLM writes it

Json = dict[str, Any]


@lru_cache(maxsize=1 << 16)
def token_name(tokenizer: Tokenizer, token: int) -> str:
    """Its text; of a part of a character the bytes, as OpenAI writes them: `bytes:\\xe2\\x80`; of a token that has
    none (a padded vocabulary) its id. So two tokens have never one name."""
    raw = tokenizer.bytes_of(token)
    if not raw:
        return f"token_id:{token}"
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


@dataclass
class Delta:
    """What one step adds to a choice."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float | None] = field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)
    entries: list[Json] = field(default_factory=list)
    finish: str | None = None
    stop_reason: int | str | None = None
    held: str = ""  # what waits for its character or stop string to be complete, and is lost where all ends here
    end: int | None = None
    exactly: Finish | None = None  # what the schema calls stop or length

    def add(self, other: "Delta") -> None:
        self.text += other.text
        for mine, theirs in (
            (self.ids, other.ids),
            (self.tokens, other.tokens),
            (self.token_logprobs, other.token_logprobs),
            (self.top_logprobs, other.top_logprobs),
            (self.text_offset, other.text_offset),
            (self.entries, other.entries),
        ):
            mine.extend(theirs)  # type: ignore[arg-type]
        self.finish, self.stop_reason, self.held, self.end = other.finish, other.stop_reason, other.held, other.end
        self.exactly = other.exactly


class Choice:
    """One continuation of one prompt, as it grows."""

    def __init__(
        self, index: int, asked: Completions, tokenizer: Tokenizer, prompt: str, prompt_ids: Sequence[int]
    ) -> None:
        """What is continued, as text and as it is fed."""
        self.index, self._asked, self._tokenizer = index, asked, tokenizer
        self._prompt_ids = prompt_ids
        self.echo = Delta(text=prompt)  # the prompt itself, and what `hear` adds to it
        self._heard, self._place = TextStream(tokenizer), 0
        self._begun = False
        self._characters = TextStream(tokenizer)  # of the text so far, also of what waits for a stop string
        self._offset = len(prompt)  # of the next token: characters of the prompt and of the text
        self.tokens = 0
        self._logprob = 0.0

    @property
    def logprob(self) -> float:
        """Of a token, on average: by it the best texts are found."""
        return self._logprob / max(1, self.tokens)

    def hear(self, one: Scored) -> None:
        """The log-probability of the prompt's next token."""
        self._enter(self.echo, one.token, one.logprob, one.top, one.rank, self._place)
        self._place += len(self._heard.push(one.token))

    def push(self, piece: Piece) -> Delta:
        """A token."""
        delta = Delta(text=piece.text, held=piece.held, end=piece.end)
        token = piece.end if piece.token is None else piece.token
        if token is not None:
            self.tokens += 1
            if self._asked.token_ids:
                delta.ids.append(token)
            if piece.logprob is not None:
                self._logprob += piece.logprob.logprob
                if self._asked.logprobs is not None:
                    found = piece.logprob
                    self._enter(delta, token, found.logprob, found.top, found.rank, self._offset)
            self._offset += len(self._characters.push(token))
        if piece.finish is not None:
            delta.finish = "length" if piece.finish in ("length", "incomplete") else "stop"
            delta.exactly = piece.finish
            delta.stop_reason = piece.end if piece.end in self._asked.stop_tokens else None
        return delta

    def _enter(
        self,
        delta: Delta,
        token: int,
        logprob: float | None,
        top: Sequence[tuple[int, float]],
        rank: int | None,
        offset: int,
    ) -> None:
        """A token's log-probability, and those of the likeliest at its place: the best are in the dictionary, and the
        token itself, with the very same number."""
        name = token_name(self._tokenizer, token)
        delta.tokens.append(name)
        delta.text_offset.append(offset)
        delta.token_logprobs.append(None if logprob is None else _number(logprob))
        if logprob is None:
            delta.top_logprobs.append(None)
        else:
            best = {token_name(self._tokenizer, other): _number(value) for other, value in reversed(top)}
            best = dict(reversed(best.items()))  # of one name, the likelier
            best[name] = _number(logprob)
            delta.top_logprobs.append(best)
        if self._asked.token_ids:
            delta.entries.append(self._entry(token, logprob, top, rank))

    def _entry(self, token: int, logprob: float | None, top: Sequence[tuple[int, float]], rank: int | None) -> Json:
        """As `gpt2 generate --json` and `gpt2 score --json` write a token."""

        def plain(one: int, value: float | None) -> Json:
            return self._tokenizer.plain(one) | {"logprob": None if value is None else _number(value)}

        return plain(token, logprob) | {"rank": rank, "top": [plain(other, value) for other, value in top]}

    def plain(self, delta: Delta, *, index: int | None = None) -> Json:
        """A choice as the schema has it, of what a delta holds."""
        asked = self._asked
        logprobs: Json | None = None
        if asked.logprobs is not None:
            logprobs = {
                "tokens": delta.tokens,
                "token_logprobs": delta.token_logprobs,
                "top_logprobs": delta.top_logprobs,
                "text_offset": delta.text_offset,
            }
            if asked.token_ids:
                logprobs["entries"] = delta.entries
        found: Json = {
            "index": self.index if index is None else index,
            "text": delta.text,
            "logprobs": logprobs,
            "finish_reason": delta.finish,
        }
        if asked.token_ids:
            found["token_ids"] = delta.ids
            if not self._begun:
                found["prompt_token_ids"] = list(self._prompt_ids)
            self._begun = True
            found |= {"held": delta.held} if delta.held else {}
            found |= {} if delta.end is None else {"end": delta.end}
            found |= {"finish": delta.exactly} if asked.constraint and delta.exactly else {}
        if delta.stop_reason is not None:
            found["stop_reason"] = delta.stop_reason
        return found


class Choices:
    """The deltas of an answer, summed up."""

    def __init__(self, asked: Completions) -> None:
        self._asked = asked
        self._found: dict[int, tuple[Choice, Delta]] = {}

    def add(self, deltas: Iterable[tuple[Choice, Delta]]) -> None:
        for choice, delta in deltas:
            self._found.setdefault(choice.index, (choice, Delta()))[1].add(delta)

    def best(self) -> list[Json]:
        """The n best of each prompt's, by the log-probability of a token."""
        asked, plain = self._asked, list[Json]()
        for first in range(0, len(self._found), asked.best_of):
            mine = [self._found[first + sample] for sample in range(asked.best_of)]
            if asked.best_of > asked.n:
                mine.sort(key=lambda pair: -pair[0].logprob)
            for choice, delta in mine[: asked.n]:
                plain.append(choice.plain(delta, index=len(plain)))
        return plain


def _number(value: float) -> float:
    return value if isfinite(value) else _NO_PROBABILITY


@dataclass
class Envelope:
    """What all objects of an answer have in common, and its counts."""

    model: str
    fingerprint: str
    seed: int | None
    received: float  # when the request came (time.monotonic)
    id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def plain(self, choices: list[Json], **more: Any) -> Json:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "seed": self.seed,
            "choices": choices,
        } | more

    def usage(self) -> Json:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }
