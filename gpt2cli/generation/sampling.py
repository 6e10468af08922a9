"""Logits -> the next token, for several rows at once, in NumPy.

The steps, in this order, on the tokens that a constraint allows (the others are gone before the first):

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

import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from gpt2cli.errors import CannotMeet
from gpt2cli.generation.parameters import Sampling, parameters

Array = np.ndarray[Any, np.dtype[Any]]


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
    """Chooses tokens for rows that share a prompt, numbered from `first` on, and remembers what each has said.

    Row r draws from a random stream of its own, derived from (seed, r), one double a token: its text does not
    depend on how many rows there are."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], rows: int, first: int = 0) -> None:
        self.sampling = sampling = sampling.seeded()
        numbers = range(first, first + rows)
        self._streams = {row: np.random.PCG64(np.random.SeedSequence((sampling.seed or 0, row))) for row in numbers}
        self._histories = {row: History(sampling, prompt) for row in numbers}

    def choose(
        self, logits: Array, rows: Sequence[int], banned: Sequence[int] = (), allowed: Array | None = None
    ) -> list[int]:
        """The next tokens of `rows`, from logits [len(rows), vocabulary]; of `allowed` [vocabulary], where not all
        are. Raises CannotMeet where every token is banned."""
        logits = self._adjusted(logits, rows, banned, allowed)
        if self.sampling.greedy:
            tokens: list[int] = logits.argmax(axis=1).tolist()
        else:
            uniforms = [uniform(self._streams[row]) for row in rows]
            tokens = draw(*survivors(logits, self.sampling), np.array(uniforms))
        for row, token in zip(rows, tokens, strict=True):
            self._histories[row].append(token)
        return tokens

    def take(self, row: int, token: int) -> None:
        """The next token of a row, about which there was no choice."""
        self._histories[row].append(token)

    def judge(
        self, logits: Array, draft: Draft, banned: Sequence[int] = (), allowed: Array | None = None
    ) -> tuple[int, bool]:
        """The next token of row 0, from logits [1, vocabulary], and whether it is the draft. Greedy: what `choose`
        gives. Otherwise a token distributed as what `choose` gives. Raises CannotMeet."""
        logits = self._adjusted(logits, [0], banned, allowed)
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

    def _adjusted(self, logits: Array, rows: Sequence[int], banned: Sequence[int], allowed: Array | None) -> Array:
        """The logits after steps 1 to 3: a copy, where these change anything."""
        sampling = self.sampling
        if allowed is not None:
            logits = np.where(allowed, logits, np.float32(-inf))
        penalties = sampling.repeat_penalty != 1 or sampling.presence_penalty or sampling.frequency_penalty
        if not (banned or penalties or sampling.logit_bias or sampling.no_repeat_ngram):
            return logits  # of the allowed there is one at least
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
    probable to the least; what a filter removed has probability 0. Where nothing is filtered, in the order of ids: to
    sort 50,000 of them for each row takes longer than to compute their logits."""
    vocabulary = logits.shape[1]
    if 0 < sampling.top_k < vocabulary:
        ids = _ranked(logits, sampling.top_k)
        return ids, _filtered(_probabilities(logits, ids, sampling), sampling)
    if not any(getattr(sampling, name) != off for name, off in _OFF.items()):
        ids = np.broadcast_to(np.arange(vocabulary), logits.shape)
        return ids, _probabilities(logits, ids, sampling)
    rows = [_of_all(row[None], sampling) for row in logits]
    most = max(ids.shape[1] for ids, _ in rows)
    padded = [[np.pad(part, ((0, 0), (0, most - part.shape[1]))) for part in row] for row in rows]
    return np.concatenate([ids for ids, _ in padded]), np.concatenate([found for _, found in padded])


def _of_all(logits: Array, sampling: Sampling) -> tuple[Array, Array]:
    """The survivors of one row where top-k is off. Those that top-p or min-p leave are mostly among the first
    thousand: then the others are not sorted."""
    if logits.shape[1] > _HEAD and sampling.typical == _OFF["typical"]:
        ids = _ranked(logits, _HEAD)
        kept = np.take_along_axis(logits, ids, axis=1).astype(np.float64)
        total = _weights(logits.astype(np.float64), kept[:, :1], sampling).sum(axis=1, keepdims=True)
        found = _weights(kept, kept[:, :1], sampling) / total
        if found.sum() >= sampling.top_p or found[0, -1] < sampling.min_p * found[0, 0]:
            return ids, _filtered(found, sampling)
    ids = _ranked(logits, 0)
    return ids, _filtered(_probabilities(logits, ids, sampling), sampling)


_HEAD = 1024


def _weights(logits: Array, best: Array, sampling: Sampling) -> Array:
    """Step 4: what is proportional to the probabilities."""
    with np.errstate(over="ignore"):  # the largest is subtracted first: a tiny temperature makes -inf of the rest
        weights: Array = np.exp((logits - best) / sampling.temperature)
    return weights


def _probabilities(logits: Array, ids: Array, sampling: Sampling) -> Array:
    kept = np.take_along_axis(logits, ids, axis=1).astype(np.float64)
    weights = _weights(kept, kept.max(axis=1, keepdims=True), sampling)
    found: Array = weights / weights.sum(axis=1, keepdims=True)
    return found


def _filtered(probabilities: Array, sampling: Sampling) -> Array:
    for name, kept_by in FILTERS.items():
        value = getattr(sampling, name)
        if value != _OFF[name]:
            probabilities = np.where(kept_by(probabilities, value), probabilities, 0)
            probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    return probabilities


def _ranked(logits: Array, top_k: int) -> Array:
    """Ids of the top_k best logits of each row (0: all), best first, ties by id."""
    vocabulary = logits.shape[1]
    if not 0 < top_k < vocabulary:
        return np.argsort(-logits, axis=1, kind="stable")
    return np.stack([highest(row, top_k) for row in logits])


def highest(values: Array, count: int) -> Array:
    """Ids of the `count` highest of the values [vocabulary], in order, ties by id."""
    count = min(count, len(values))
    if count == 0:
        return np.empty(0, np.int64)
    least = np.partition(values, len(values) - count)[len(values) - count]
    found = np.flatnonzero(values >= least)
    return found[np.argsort(-values[found], kind="stable")][:count]


def _typical(probabilities: Array, mass: float) -> Array:
    """The tokens whose surprise is nearest to the distribution's entropy, until they have `mass`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = -np.log(probabilities)
        entropy = np.nansum(probabilities * surprise, axis=1, keepdims=True)
    order = np.argsort(np.abs(surprise - entropy), axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=1)
    kept = np.zeros(probabilities.shape, bool)
    np.put_along_axis(kept, order, np.cumsum(ordered, axis=1) - ordered < mass, axis=1)
    return kept


def _top_p(probabilities: Array, mass: float) -> Array:
    """The most probable tokens, until they have `mass`: the one that crosses it is kept."""
    result: Array = np.cumsum(probabilities, axis=1) - probabilities < mass
    return result


def _min_p(probabilities: Array, part: float) -> Array:
    """The tokens that have at least this part of the best one's probability."""
    result: Array = probabilities >= part * probabilities.max(axis=1, keepdims=True)
    return result


# Steps 6 to 8, in this order. Each says which candidates it keeps of probabilities [rows, candidates], best first, and
# is used where the parameter of its name is not off.
FILTERS: dict[str, Callable[[Array, float], Array]] = {"typical": _typical, "top_p": _top_p, "min_p": _min_p}
_OFF = {name: parameters(Sampling)[name][0].off for name in FILTERS}


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
