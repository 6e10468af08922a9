"""Logits -> the next token, for several rows at once, in NumPy.

The steps, in this order:

    1. logit bias
    2. repetition penalty, then presence and frequency penalties
    3. no-repeat n-gram
    4. temperature
    5. top-k
    6. typical
    7. top-p
    8. min-p
    9. draw

Each filter from 5 on sees the survivors of the one before it, renormalised; ties keep the lowest id; at least one
token survives. Greedy (temperature 0) takes the best token after step 3.

Sources: repetition penalty, Keskar et al. 2019 (CTRL); presence and frequency penalties, OpenAI's completions API;
top-k, Fan et al. 2018; typical, Meister et al. 2022; top-p, Holtzman et al. 2020 (the token that crosses the
threshold is kept); min-p, Nguyen et al. 2024.
"""

import secrets
import sys
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import numpy as np

from gpt2cli.errors import CannotMeet, UsageError

Array = np.ndarray[Any, np.dtype[Any]]

MAX_SEED = 2**53  # JSON readers with doubles keep every integer below it
_LARGE = 1e9  # biases and penalties up to here cannot overflow float32 together


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Checked once, here; raises UsageError."""

    temperature: float = 0.8
    top_k: int = 40  # 0: off
    top_p: float = 0.95  # 1: off
    min_p: float = 0.0  # 0: off
    typical: float = 1.0  # 1: off
    repeat_penalty: float = 1.0  # 1: off
    repeat_last_n: int = 64  # tokens the repetition penalty looks back, prompt included; -1: all
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram: int = 0  # 0: off
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # -inf bans a token
    seed: int | None = None  # None: drawn

    def __post_init__(self) -> None:
        def require(valid: bool, name: str, value: object, range_: str) -> None:
            if not valid:
                raise UsageError(f"`{name}` is {value}", f"`{name}` must be {range_}")

        t = self.temperature
        require(0 <= t < inf, "temperature", t, "0 (greedy) or more")
        require(self.top_k >= 0, "top_k", self.top_k, "0 (off) or more")
        require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1 (off)")
        require(0 <= self.min_p <= 1, "min_p", self.min_p, "from 0 (off) to 1")
        require(0 < self.typical <= 1, "typical", self.typical, "above 0 and at most 1 (off)")
        r = self.repeat_penalty
        require(1 / _LARGE <= r <= _LARGE, "repeat_penalty", r, "above 0 (1 is off), from 1e-9 to 1e9")
        require(self.repeat_last_n >= -1, "repeat_last_n", self.repeat_last_n, "-1 (all) or more")
        for name, value in (
            ("presence_penalty", self.presence_penalty),
            ("frequency_penalty", self.frequency_penalty),
        ):
            require(abs(value) <= _LARGE, name, value, "from -1e9 to 1e9")
        require(self.no_repeat_ngram >= 0, "no_repeat_ngram", self.no_repeat_ngram, "0 (off) or more")
        require(self.seed is None or 0 <= self.seed < MAX_SEED, "seed", self.seed, "from 0 to 2^53 - 1")
        for token, bias in self.logit_bias.items():
            valid = abs(bias) <= _LARGE or bias == -inf
            require(valid, "logit_bias", f"{bias} for {token}", "from -1e9 to 1e9, or -inf to ban the token")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    def seeded(self) -> "Sampling":
        """The same with a seed, drawn where there was none."""
        return self if self.seed is not None else replace(self, seed=secrets.randbelow(MAX_SEED))


@dataclass(frozen=True)
class Draft:
    """A guessed token, and the distribution that it was drawn from: ids and probabilities, None where it is certain."""

    token: int
    ids: Array | None = None
    probabilities: Array | None = None

    def probability(self, tokens: Array) -> Array:
        """q of each of `tokens`."""
        if self.ids is None or self.probabilities is None:
            return np.asarray(tokens == self.token, np.float64)
        order = np.argsort(self.ids)
        places = order[np.searchsorted(self.ids, tokens, sorter=order).clip(max=len(order) - 1)]
        found: Array = np.where(self.ids[places] == tokens, self.probabilities[places], 0.0)
        return found


class Sampler:
    """Chooses tokens for rows that share a prompt, and remembers what each row has said.

    Row r draws from a random stream of its own, derived from (seed, r), one double a token: its text does not
    depend on how many rows there are."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], rows: int) -> None:
        self.sampling = sampling = sampling.seeded()
        self._streams = [np.random.PCG64(np.random.SeedSequence((sampling.seed or 0, row))) for row in range(rows)]
        self._histories = [History(sampling, prompt) for _ in range(rows)]

    def choose(self, logits: Array, rows: Sequence[int], banned: Sequence[int] = ()) -> list[int]:
        """The next tokens of `rows`, from logits [len(rows), vocabulary]. Raises CannotMeet where every token is
        banned."""
        logits = self._adjusted(logits, rows, banned)
        if self.sampling.greedy:
            tokens: list[int] = logits.argmax(axis=1).tolist()
        else:
            uniforms = [uniform(self._streams[row]) for row in rows]
            tokens = draw(*survivors(logits, self.sampling), np.array(uniforms))
        for row, token in zip(rows, tokens, strict=True):
            self._histories[row].append(token)
        return tokens

    def judge(self, logits: Array, draft: Draft, banned: Sequence[int] = ()) -> tuple[int, bool]:
        """The next token of row 0, from logits [1, vocabulary], and whether it is the draft. Greedy: what `choose`
        gives. Otherwise a token distributed as what `choose` gives. Raises CannotMeet."""
        logits = self._adjusted(logits, [0], banned)
        if self.sampling.greedy:
            token = int(logits[0].argmax())
            taken = token == draft.token
        else:
            ids, p = survivors(logits, self.sampling)
            ours = p[0, ids[0] == draft.token].sum()
            theirs = draft.probability(np.array([draft.token]))[0]
            taken = bool(uniform(self._streams[0]) * theirs < ours)
            token = draft.token
            if not taken:
                rest = np.maximum(p - draft.probability(ids[0]), 0)
                token = draw(ids, rest, np.array([uniform(self._streams[0])]))[0]
        self._histories[0].append(token)
        return token, taken

    def _adjusted(self, logits: Array, rows: Sequence[int], banned: Sequence[int]) -> Array:
        """A copy after steps 1 to 3."""
        logits = logits.copy()
        for values, row in zip(logits, rows, strict=True):
            self._histories[row].adjust(values)
        logits[:, list(banned)] = -inf
        if np.isneginf(logits.max(axis=1)).any():
            raise all_banned()
        return logits


def uniform(stream: np.random.PCG64) -> float:
    """A double in [0, 1) of 53 bits; the raw stream is stable across NumPy versions (NEP 19)."""
    return float((stream.random_raw() >> 11) * 2.0**-53)


def all_banned() -> CannotMeet:
    return CannotMeet("every token is banned, no text can follow", "loosen `logit_bias` or `no_repeat_ngram`")


class History:
    """What one row has said, as far as the penalties need it, and steps 1 to 3."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._sampling = sampling
        limit = sampling.repeat_last_n
        self._recent: deque[int] = deque(prompt, maxlen=min(limit, sys.maxsize) if limit >= 0 else None)
        self._seen = Counter(self._recent)
        self._generated: Counter[int] = Counter()
        self._followers: dict[tuple[int, ...], set[int]] = {}
        self._tail: tuple[int, ...] = ()
        for token in prompt:
            self._extend_ngrams(token)

    def append(self, token: int) -> None:
        sampling = self._sampling
        if sampling.presence_penalty or sampling.frequency_penalty:
            self._generated[token] += 1
        if sampling.repeat_penalty != 1 and self._recent.maxlen != 0:
            if len(self._recent) == self._recent.maxlen:
                oldest = self._recent[0]
                self._seen[oldest] -= 1
                if not self._seen[oldest]:
                    del self._seen[oldest]
            self._recent.append(token)
            self._seen[token] += 1
        self._extend_ngrams(token)

    def _extend_ngrams(self, token: int) -> None:
        size = self._sampling.no_repeat_ngram
        if size:
            if len(self._tail) == size - 1:
                self._followers.setdefault(self._tail, set()).add(token)
            self._tail = (*self._tail, token)[1 if len(self._tail) == size - 1 else 0 :]

    def adjust(self, logits: Array) -> None:
        """Steps 1 to 3 on the logits [vocabulary] of this row, in place."""
        sampling = self._sampling
        for token, bias in sampling.logit_bias.items():
            logits[token] += np.float32(bias)
        if sampling.repeat_penalty != 1 and self._seen:
            seen = list(self._seen)
            values = logits[seen]
            penalty = np.float32(sampling.repeat_penalty)
            logits[seen] = np.where(values < 0, values * penalty, values / penalty)
        if self._generated:
            said = list(self._generated)
            counts = np.array(list(self._generated.values()), np.float32)
            logits[said] -= sampling.presence_penalty + counts * np.float32(sampling.frequency_penalty)
        if sampling.no_repeat_ngram and len(self._tail) == sampling.no_repeat_ngram - 1:
            logits[list(self._followers.get(self._tail, ()))] = -inf


def survivors(logits: Array, sampling: Sampling) -> tuple[Array, Array]:
    """Steps 4 to 8: logits [rows, vocabulary] -> ids and probabilities, both [rows, candidates], from the most
    probable to the least; what a filter removed has probability 0."""
    ids = _ranked(logits, sampling.top_k)
    kept = np.take_along_axis(logits, ids, axis=1).astype(np.float64)
    with np.errstate(over="ignore"):  # the largest is subtracted first: a tiny temperature makes -inf of the rest
        weights = np.exp((kept - kept[:, :1]) / sampling.temperature)
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    if sampling.typical < 1:
        probabilities = _typical(probabilities, sampling.typical)
    if sampling.top_p < 1:
        before = np.cumsum(probabilities, axis=1) - probabilities
        probabilities = _renormalised(np.where(before < sampling.top_p, probabilities, 0))
    if sampling.min_p > 0:
        floor = sampling.min_p * probabilities.max(axis=1, keepdims=True)
        probabilities = _renormalised(np.where(probabilities >= floor, probabilities, 0))
    return ids, probabilities


def _ranked(logits: Array, top_k: int) -> Array:
    """Ids of the top_k best logits of each row (0: all), best first, ties by id."""
    rows, vocabulary = logits.shape
    k = min(top_k, vocabulary) or vocabulary
    if k == vocabulary:
        return np.argsort(-logits, axis=1, kind="stable")
    threshold = np.partition(logits, vocabulary - k, axis=1)[:, vocabulary - k]
    ranked = np.empty((rows, k), np.int64)
    for row in range(rows):
        above = np.flatnonzero(logits[row] > threshold[row])
        level = np.flatnonzero(logits[row] == threshold[row])[: k - len(above)]
        chosen = np.sort(np.concatenate([above, level]))
        ranked[row] = chosen[np.argsort(-logits[row, chosen], kind="stable")]
    return ranked


def _typical(probabilities: Array, mass: float) -> Array:
    """Keep the tokens whose surprise is nearest to the distribution's entropy, until they have `mass`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = -np.log(probabilities)
        entropy = np.nansum(probabilities * surprise, axis=1, keepdims=True)
    order = np.argsort(np.abs(surprise - entropy), axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=1)
    before = np.cumsum(ordered, axis=1) - ordered
    kept = np.zeros_like(probabilities)
    np.put_along_axis(kept, order, np.where(before < mass, ordered, 0), axis=1)
    return _renormalised(kept)


def _renormalised(probabilities: Array) -> Array:
    result: Array = probabilities / probabilities.sum(axis=1, keepdims=True)
    return result


def draw(ids: Array, probabilities: Array, uniforms: Array) -> list[int]:
    """Step 9, by inversion: the first candidate whose cumulated probability exceeds the uniform in [0, 1)."""
    cumulated = np.cumsum(probabilities, axis=1)
    # scaled by the sum, which rounding keeps a hair from 1
    places = (cumulated <= uniforms[:, None] * cumulated[:, -1:]).sum(axis=1)
    chosen: list[int] = ids[np.arange(len(ids)), places].tolist()
    return chosen


def log_softmax(logits: Array) -> Array:
    """Natural logarithms of the probabilities, float64, along the last axis."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    result: Array = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return result
