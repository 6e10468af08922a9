"""Drafts: tokens that are guessed cheaply and judged together in one call of the engine, which costs little more than a
step. Rejected ones are rewound.

Two ways to guess: what followed the last tokens when they stood in the text before (prompt lookup, Saxena 2023), and a
smaller model. Two ways to judge, both exact: greedy text takes the drafts that it would have chosen; drawn text takes a
draft x with probability min(1, p(x)/q(x)) and where it does not, draws from the part of p that q lacks, which leaves
the distribution p as it was (Leviathan et al. 2023; Chen et al. 2023)."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from gpt2cli.engine.facts import Logits
from gpt2cli.engine.tasks import Feed, Task
from gpt2cli.errors import UsageError
from gpt2cli.generation.parameters import Sampling
from gpt2cli.generation.sampling import Draft, draw, survivors, uniform
from gpt2cli.model import Model, same_vocabulary

MOST = 8  # drafts at a time: beyond that a call costs noticeably more than a step


@runtime_checkable
class Drafter(Protocol):
    """Guesses. `drafted` and `accepted` count over its life."""

    drafted: int
    accepted: int

    def begin(self, sampling: Sampling) -> None:
        """Another text begins."""

    def propose(self, context: Sequence[int], most: int) -> list[Draft]:
        """At most `most` guesses of what follows `context`, all that the engine is to know. It grows from call to
        call, but where the window slides."""

    def judged(self, drafted: int, accepted: int) -> None:
        """How many of the last proposal were taken."""


class Lookup:
    """Guesses that what followed the last tokens before follows them again."""

    GRAM = 3  # tokens that must agree
    LONGEST_PAUSE = 64

    def __init__(self) -> None:
        self.drafted = self.accepted = 0

    def begin(self, sampling: Sampling) -> None:
        self._after: dict[tuple[int, ...], int] = {}  # the tokens -> where what followed them last begins
        self._read = 0
        self._length = 2
        self._pause = self._wait = 0

    def propose(self, context: Sequence[int], most: int) -> list[Draft]:
        if len(context) < self._read:  # the window has slid
            self._after.clear()
            self._read = 0
        for end in range(max(self._read, self.GRAM), len(context)):
            self._after[tuple(context[end - self.GRAM : end])] = end
        self._read = len(context)
        if self._wait:
            self._wait -= 1
            return []
        start = self._after.get(tuple(context[-self.GRAM :]))
        if start is None:
            return []
        period = len(context) - start  # a short loop goes round
        return [Draft(context[start + place % period]) for place in range(min(self._length, most))]

    def judged(self, drafted: int, accepted: int) -> None:
        """Wrong guesses cost time: after each, twice as many tokens pass before the next."""
        self.drafted += drafted
        self.accepted += accepted
        if accepted == drafted:
            self._length, self._pause = min(2 * self._length, MOST), 0
        elif accepted * 2 < drafted:
            self._length, self._pause = 2, min(max(2 * self._pause, 2), self.LONGEST_PAUSE)
            self._wait = self._pause


class DraftModel:
    """Guesses what a smaller model of the same vocabulary would say."""

    def __init__(self, small: Model, large: Model) -> None:
        """Raises UsageError where the two do not mean the same by a token."""
        if not same_vocabulary(small, large):
            raise UsageError(
                f"'{small.name}' and '{large.name}' have different vocabularies",
                "a draft model must have been trained with the same tokenizer",
            )
        if small.scheduler is large.scheduler:
            raise UsageError("a model cannot draft for itself", "choose a smaller one, or leave out `draft_model`")
        self.model = small
        self.drafted = self.accepted = 0

    def begin(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._stream = np.random.PCG64(np.random.SeedSequence((sampling.seed or 0, 1 << 32)))
        self._length = 3

    def propose(self, context: Sequence[int], most: int) -> list[Draft]:
        room = self.model.engine.window - len(context)
        if room < 1:
            return []  # the text has outgrown the small model's window
        return self.model.scheduler.run(self._drafts(context, min(self._length, most, room)))

    def _drafts(self, context: Sequence[int], count: int) -> Task[None, list[Draft]]:
        # the row of the last proposal is still there
        logits = yield [Feed(context, reuse=len(context) - 1, resumes=True)]
        drafts = [self._draft(logits)]
        while len(drafts) < count:
            logits = yield [Feed([drafts[-1].token], parent=0)]
            drafts.append(self._draft(logits))
        return drafts

    def _draft(self, logits: Logits) -> Draft:
        if self._sampling.greedy:
            return Draft(int(logits[0].argmax()))
        ids, probabilities = survivors(logits, self._sampling)
        token = draw(ids, probabilities, np.array([uniform(self._stream)]))[0]
        return Draft(token, ids[0], probabilities[0])

    def judged(self, drafted: int, accepted: int) -> None:
        self.drafted += drafted
        self.accepted += accepted
        # settles where all of them are taken about half of the time
        self._length = min(self._length + 1, MOST) if accepted == drafted else max(self._length - 1, 1)
