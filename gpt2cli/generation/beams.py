"""Beam search: the likeliest continuation that a fixed number of parallel hypotheses finds.

The rules are those of transformers' `generate(num_beams=B, length_penalty=1, early_stopping=False)`, so that published
beam outputs can be compared: a hypothesis is scored by its summed log-probability over its length; the B best finished
ones are kept; the search ends when no running beam can beat the worst of them."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import numpy as np

from gpt2cli.engine.facts import Logits
from gpt2cli.engine.tasks import Feed, Task
from gpt2cli.generation.choices import OneOf
from gpt2cli.generation.constraints import Matcher
from gpt2cli.generation.parameters import Sampling
from gpt2cli.generation.sampling import History, log_softmax


@dataclass(frozen=True)
class Beam:
    """A hypothesis: the generated ids, and the raw logits [vocabulary] each was chosen from, where wanted."""

    ids: tuple[int, ...] = ()
    score: float = 0.0  # sum of log-probabilities while running, divided by the length when finished
    logits: tuple[Logits, ...] = field(default=(), repr=False)
    matcher: Matcher | OneOf | None = field(default=None, repr=False, compare=False)

    @property
    def whole(self) -> bool:
        """Whether it meets its constraint."""
        return self.matcher is None or self.matcher.complete


@dataclass
class Search:
    """What is searched for, and what has been found: from step to step the `beams` best hypotheses so far, best first;
    at the end the result, which is fewer where bans leave fewer."""

    ids: Sequence[int]  # of the prompt
    sampling: Sampling
    beams: int
    max_tokens: int
    ends: Sequence[int]  # each closes a hypothesis, and is its last id
    banned: Callable[[int], Sequence[int]]  # the tokens that may not follow so many
    keep_logits: bool
    matcher: Matcher | OneOf | None = None  # of the constraint, at its beginning
    found: list[Beam] = field(default_factory=list)


def search(wanted: Search, prompt: list[Feed]) -> Task[Any, None]:
    """Searches on from `prompt`, a wish for one row of the ids."""
    beams, ends = wanted.beams, wanted.ends
    logits = yield prompt
    running = [Beam(matcher=wanted.matcher)]
    histories = [History(wanted.sampling, wanted.ids)]
    finished: list[Beam] = []
    for length in range(1, wanted.max_tokens + 1):
        scores = log_softmax(logits)
        for row, history in enumerate(histories):
            if matcher := running[row].matcher:
                scores[row, ~matcher.allowed()] = -inf
            history.adjust(scores[row])
        scores[:, list(wanted.banned(length - 1))] = -inf
        scores += np.array([beam.score for beam in running])[:, None]
        # so many that `beams` of them go on, even where the best of every beam are its ends
        order = np.argsort(-scores, axis=None, kind="stable")[: max(2, 1 + len(ends)) * beams]
        candidates = []
        for place in order:
            row, token = divmod(int(place), logits.shape[1])
            raw = (*running[row].logits, logits[row].copy()) if wanted.keep_logits else ()
            if (score := float(scores[row, token])) == -inf:  # banned
                continue
            matcher = _after(running[row].matcher, token, ends)
            beam = Beam((*running[row].ids, token), score, raw, matcher)
            done = token in ends or length == wanted.max_tokens or (matcher is not None and matcher.ended)
            candidates.append((row, beam, done))
        for _, beam, done in candidates[:beams]:
            if done:
                finished.append(replace(beam, score=beam.score / length))
        finished = sorted(finished, key=lambda beam: (not beam.whole, -beam.score))[:beams]
        chosen = [(row, beam) for row, beam, done in candidates if not done][:beams]
        if not chosen or (len(finished) == beams and chosen[0][1].score / length <= finished[-1].score):
            break
        so_far = [*finished, *(replace(beam, score=beam.score / length) for _, beam in chosen)]
        wanted.found = sorted(so_far, key=lambda beam: -beam.score)[:beams]
        running = [beam for _, beam in chosen]
        histories = [copy.deepcopy(histories[row]) for row, _ in chosen]
        for history, beam in zip(histories, running, strict=True):
            history.append(beam.ids[-1])
        logits = yield [Feed([beam.ids[-1]], parent=row) for row, beam in chosen]
    wanted.found = finished


def _after(matcher: Matcher | OneOf | None, token: int, ends: Sequence[int]) -> Matcher | OneOf | None:
    """A hypothesis's place in the constraint, when the token has come. An end token changes nothing about it."""
    if matcher is None or token in ends:
        return matcher
    matcher = matcher.copy()
    matcher.accept(token)
    return matcher
