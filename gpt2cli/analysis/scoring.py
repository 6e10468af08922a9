"""How probable a text is: log-probabilities of its tokens under a model, for texts of any length.

Text beyond the window is scored as in Hugging Face's guide to perplexity of fixed-length models: the window moves on by
`stride` tokens at a time, and each token is scored once, in the first window that has it. Memory does not grow with the
text. Nothing here prints."""

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np

from gpt2cli.engine.chunks import CHUNK
from gpt2cli.engine.facts import Logits
from gpt2cli.engine.tasks import Feed, Task
from gpt2cli.errors import UsageError
from gpt2cli.generation.parameters import is_whole
from gpt2cli.generation.sampling import highest
from gpt2cli.generation.texts import check_types, ids_of
from gpt2cli.model import Model
from gpt2cli.tokenizer.tokenizer import Tokenizer

# Texts, and tokens with padding, that are computed together.
_ROWS = 16
_BATCH = 2 * CHUNK  # and at most two windows


@dataclass(frozen=True)
class Scored:
    """One token of a text. `logprob` is natural, None for a first token that nothing precedes; `rank` counts from 1,
    the most probable token; `top` are the most probable ids there with theirs."""

    token: int
    logprob: float | None
    rank: int | None = None
    top: tuple[tuple[int, float], ...] = ()

    def plain(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """For JSON, as `generate` writes its log-probabilities."""
        return tokenizer.plain(self.token) | {
            "logprob": self.logprob,
            "rank": self.rank,
            "top": [{"id": i, "token": tokenizer.decode([i]), "logprob": logprob} for i, logprob in self.top],
        }


@dataclass
class Score:
    """Sums over the scored tokens of a text."""

    tokens: int = 0
    nbytes: int = 0  # of the scored tokens
    logprob: float = 0.0  # in nats
    each: list[Scored] = field(default_factory=list, repr=False)  # the tokens, where they are kept

    def add(self, logprob: float | None, nbytes: int) -> None:
        if logprob is not None:
            self.tokens += 1
            self.nbytes += nbytes
            self.logprob += logprob

    @property
    def perplexity(self) -> float | None:
        """Of a token; None where nothing was scored."""
        try:
            return math.exp(-self.logprob / self.tokens) if self.tokens else None
        except OverflowError:
            return math.inf

    @property
    def bits_per_byte(self) -> float | None:
        return -self.logprob / math.log(2) / self.nbytes if self.nbytes else None

    def plain(self) -> dict[str, float | None]:
        """For JSON, which knows no infinity."""
        perplexity = self.perplexity
        return {
            "tokens": self.tokens,
            "bytes": self.nbytes,
            "logprob": self.logprob,
            "perplexity": None if perplexity == math.inf else perplexity,
            "bits_per_byte": self.bits_per_byte,
        }


@overload
def score(
    model: Model,
    text: str | Sequence[int],
    *,
    context: str | Sequence[int] = "",
    start: bool = True,
    stride: int | None = None,
    top: int | None = None,
) -> Score: ...


@overload
def score(
    model: Model,
    text: list[str] | tuple[str, ...],
    *,
    context: str | Sequence[int] = "",
    start: bool = True,
    stride: int | None = None,
    top: int | None = None,
) -> list[Score]: ...


def score(
    model: Model,
    text: str | Sequence[int] | list[str] | tuple[str, ...],
    *,
    context: str | Sequence[int] = "",
    start: bool = True,
    stride: int | None = None,
    top: int | None = None,
) -> Score | list[Score]:
    """How probable a text is, of any length: the sums over its tokens, and in `each` the tokens themselves.

    `text` is a text or its token ids; of several texts, a list of scores. `context`, `start`, `stride` and `top` are
    those of `Scorer`: what precedes the text and is not scored, whether the model's start token precedes all, how far
    the window moves on, and how many of the most probable tokens are told at each place, with the rank of the text's.

    Any number of threads may score texts on one model. Raises UsageError."""
    check_types(model=(model, Model))
    if several := isinstance(text, list | tuple) and all(isinstance(one, str) for one in text):
        ids = [ids_of(model, one, "text") for one in text]
    else:
        ids = [ids_of(model, text, "text")]
    scorer = Scorer(model, context=ids_of(model, context, "context"), start=start, stride=stride, top=top)
    found = [_summed(tokens, model.tokenizer) for tokens in scorer.texts(ids)]
    return found if several else found[0]


def _summed(tokens: Iterable[Scored], tokenizer: Tokenizer) -> Score:
    result = Score()
    for one in tokens:
        result.each.append(one)
        result.add(one.logprob, len(tokenizer.bytes_of(one.token)))
    return result


class Scorer:
    """Scores texts, one after another, each after the same `context`, whose cache they share."""

    def __init__(
        self,
        model: Model,
        *,
        context: Sequence[int] = (),
        start: bool = True,
        stride: int | None = None,
        top: int | None = None,
    ) -> None:
        """`context` precedes each text and is not scored; one that fills the window is cut to its last
        (window - stride) tokens, which is what a window that has moved on keeps. With `start` the model's start token
        precedes all, where it has one, so that a first token is scored too: in training it stood before each text, and
        `generate` begins a text from nothing with it. `stride` is half the window unless given. With `top`, ranks and
        so many of the best tokens. Raises UsageError."""
        self._model, self._top = model, top
        window = model.engine.window
        self.stride = max(1, window // 2) if stride is None else stride
        for name, value in ("stride", self.stride), ("top", 0 if top is None else top):
            if not is_whole(value) or value < 0:
                raise UsageError(f"`{name}` is {value!r}", f"`{name}` must be a whole number, 0 or more")
        if not 1 <= self.stride < window:
            raise UsageError(
                f"`stride` {self.stride} does not fit the window of {window} tokens", f"choose 1 to {window - 1}"
            )
        model.engine.check_ids(context)
        before = [model.start] if start and model.start is not None else []
        if len(before) + len(context) >= window:
            context = context[len(context) - (window - self.stride - len(before)) :]
        self.context = len(context)  # tokens of it that count
        self._before = [*before, *context]

    def texts(self, texts: Iterable[Sequence[int]]) -> Iterator[Iterable[Scored]]:
        """The tokens of several texts, in order; short ones are computed together, with the same results. Long ones are
        scored as they are read: each before the next."""
        batch: list[Sequence[int]] = []
        longest, most = 0, min(_BATCH, 2 * self._model.engine.window)
        for ids in texts:
            new = max(longest, len(ids) + 1)
            if batch and (len(batch) == _ROWS or new * (len(batch) + 1) > most):
                yield from self._together(batch)
                batch, new = [], len(ids) + 1
            batch.append(ids)
            longest = new
        yield from self._together(batch)

    def _together(self, texts: list[Sequence[int]]) -> Iterator[Iterable[Scored]]:
        # a context is computed once and shared, which pays more than a batch
        if len(texts) < 2 or len(self._before) > 1:
            yield from map(self.tokens, texts)
            return
        self._model.engine.check_ids([token for ids in texts for token in ids])
        fed = [[*self._before, *ids][:-1] for ids in texts]
        with self._model.scheduler.between_steps() as engine:
            logits = iter(engine.each([row for row in fed if row]) if any(fed) else ())
        for ids, row in zip(texts, fed, strict=True):
            unscored = 0 if self._before else 1
            first = [Scored(token, None) for token in ids[:unscored]]
            yield first + (list(scored(next(logits), ids[unscored:], top=self._top)) if row else [])

    def tokens(self, ids: Iterable[int]) -> Iterator[Scored]:
        """The tokens of a text, scored as they come."""
        return self._model.scheduler.stream(self._score(iter(ids)))

    def _score(self, ids: Iterator[int]) -> Task[Scored, None]:
        engine = self._model.engine
        window, before = engine.window, self._before
        recent = deque(before, maxlen=window)  # the window's tokens; all but the last are in the cache
        row: int | None = None
        if len(before) > 1:
            yield [Feed(before[:-1], reuse=len(before) - 1)]  # the row of the text before begins with them
            row = 0
        if not recent:
            for token in itertools.islice(ids, 1):
                engine.check_ids([token])
                recent.append(token)
                yield Scored(token, None)
        while recent:
            if len(recent) == window:
                recent = deque(itertools.islice(recent, self.stride, None), maxlen=window)
                row = None
                if len(recent) > 1:
                    yield [Feed(list(recent)[:-1])]
                    row = 0
            targets = list(itertools.islice(ids, min(CHUNK, window - len(recent))))
            if not targets:
                return
            engine.check_ids(targets)
            logits = yield [Feed([recent[-1], *targets[:-1]], row, every=True)]
            row = 0
            recent.extend(targets)
            yield from scored(logits, targets, top=self._top)


def scored(logits: Logits, targets: Sequence[int], *, top: int | None) -> Iterator[Scored]:
    """`logits` [tokens, vocabulary], each row that from which its target was to be predicted."""
    norm = log_sums(logits)
    chosen = logits[np.arange(len(targets)), targets][:, None]
    logprobs = chosen[:, 0].astype(np.float64) - norm
    if top is None:
        yield from (Scored(token, float(logprob)) for token, logprob in zip(targets, logprobs, strict=True))
        return
    # of equally probable tokens the lowest id comes first, as in sampling
    ids = np.arange(logits.shape[1])
    ranks = 1 + ((logits > chosen) | ((logits == chosen) & (ids < np.array(targets)[:, None]))).sum(axis=1)
    for row, token in enumerate(targets):
        leaders = highest(logits[row], top)
        found = tuple(zip(leaders.tolist(), (logits[row, leaders] - norm[row]).tolist(), strict=True))
        yield Scored(token, float(logprobs[row]), int(ranks[row]), found)


def log_sums(logits: Logits) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What is to be taken from the logits of each row to make them log-probabilities."""
    found = np.empty(len(logits))
    values = np.empty(logits.shape[1], np.float32)
    for number, row in enumerate(logits):  # one at a time stays in the processor's cache: twice as fast
        best = row.max()
        np.exp(np.subtract(row, best, out=values), out=values)
        # single precision with a sum in double is good to 1e-6, at a fifth of the price of double throughout
        found[number] = best + np.log(values.sum(dtype=np.float64))
    return found
