"""Log-likelihoods of what follows a context, and whether it is what the model itself would have said.

Logits are computed only where a token stands that is asked for. Short rows are computed together, those of about the
same length; endings of a long context share its cache, and so do contexts that begin alike and follow each other. An
answer is, but for the last bits, what it would be alone: of fp32 about 1e-6 of a logarithm."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gpt2cli.analysis.scoring import log_sums
from gpt2cli.engine.chunks import CHUNK
from gpt2cli.engine.facts import Ids, Logits
from gpt2cli.engine.tasks import Feed, Task
from gpt2cli.errors import CannotMeet
from gpt2cli.model import Model

_SHORT = 2 * CHUNK  # tokens of a row that is computed beside others
_ROWS = 32  # of them, and tokens with padding, and logits, that are computed together
_BATCH = 4 * CHUNK
_LOGITS = 2 * CHUNK
_CALL = 32  # a call of fewer tokens costs as much: the weights are read all the same


@dataclass(frozen=True)
class Case:
    """How probable is each of `endings` after `context`? Both are token ids, at least one of each."""

    context: Ids
    endings: Sequence[Ids]


@dataclass(frozen=True)
class Likelihood:
    """Of an ending: the sum over its tokens, natural; whether all of them, and the last of them, are the most probable
    token where they stand."""

    logprob: float
    tokens: int
    greedy: bool
    last: bool

    def __add__(self, other: "Likelihood") -> "Likelihood":
        """Of this ending and the next, after which it stands."""
        both = self.greedy and other.greedy
        return Likelihood(self.logprob + other.logprob, self.tokens + other.tokens, both, other.last)


NOTHING = Likelihood(0.0, 0, True, True)
Row = tuple[tuple[int, ...], int]  # tokens, and after how many of the last the logits are wanted
Answer = tuple[int, list[Likelihood]]  # the number of a case, and a likelihood for each ending


def answers(model: Model, cases: Sequence[Case]) -> Iterator[list[Answer]]:
    """The answers to all cases, in any order: those that a call or some calls bring, together. Raises UserError."""
    together = [number for number, one in enumerate(cases) if _is_short(one)]
    yield from _together(model, cases, together)
    alone = sorted(set(range(len(cases))).difference(together), key=lambda n: tuple(cases[n].context))
    for number in alone:
        yield [(number, model.scheduler.run(answer(model, cases[number])))]


def _is_short(case: Case) -> bool:
    """Whether it is computed beside others: rows that repeat the context cost less than calls of their own."""
    heads = {tuple(ending[:-1]) for ending in case.endings}
    length = len(case.context)
    repeated = sum(length + len(head) for head in heads)
    shared = max(length, _CALL) + sum(max(len(head), _CALL) for head in heads if head)
    return length + max(map(len, heads)) <= _SHORT and repeated <= shared


def _together(model: Model, cases: Sequence[Case], numbers: Sequence[int]) -> Iterator[list[Answer]]:
    # what is fed, and the endings that are told by it: those of one token that follow the same context need one row
    rows: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for number in numbers:
        for place, ending in enumerate(cases[number].endings):
            rows.setdefault((*cases[number].context, *ending[:-1]), []).append((number, place))
    found: dict[int, dict[int, Likelihood]] = {number: {} for number in numbers}
    for batch in _batches([(row, _wanted(cases, asked)) for row, asked in rows.items()]):
        logits = _computed(model, batch)
        done = list[Answer]()
        for (row, _), block in zip(batch, logits, strict=True):
            norms = log_sums(block)
            for number, place in rows[row]:
                ending = cases[number].endings[place]
                first = len(block) - len(ending)
                found[number][place] = _told(block[first:], norms[first:], ending)
                if len(found[number]) == len(cases[number].endings):
                    done.append((number, [found[number][place] for place in range(len(found[number]))]))
        yield done


def _computed(model: Model, batch: Sequence[Row]) -> list[Logits]:
    """The wanted logits of each row; where memory does not suffice for all together, of fewer at a time."""
    model.engine.check_ids([token for row, _ in batch for token in row])
    try:
        with model.scheduler.between_steps() as engine:
            return engine.each([row for row, _ in batch], [wanted for _, wanted in batch])
    except CannotMeet:
        if len(batch) == 1:
            raise
    half = len(batch) // 2
    return _computed(model, batch[:half]) + _computed(model, batch[half:])


def _wanted(cases: Sequence[Case], asked: Iterable[tuple[int, int]]) -> int:
    return max(len(cases[number].endings[place]) for number, place in asked)


def _batches(rows: list[Row]) -> Iterator[list[Row]]:
    """Rows of about the same length, the shortest first."""
    batch: list[Row] = []
    wanted = 0
    for row in sorted(rows, key=lambda row: len(row[0])):
        wanted += row[1]
        full = len(batch) == _ROWS or len(row[0]) * (len(batch) + 1) > _BATCH or wanted > _LOGITS
        if batch and full:
            yield batch
            batch, wanted = [], row[1]
        batch.append(row)
    if batch:
        yield batch


def answer(model: Model, case: Case) -> Task[None, list[Likelihood]]:
    """The answer to a case that has rows of its own: the context is computed once."""
    context, endings = case.context, case.endings
    model.engine.check_ids([*context, *itertools.chain.from_iterable(endings)])
    several = len(endings) > 1
    # the last token of the context is fed with a single ending, by the same call
    shared = context if several else context[:-1]
    held = len(shared)
    found: list[Likelihood] = []
    parent: int | None = None
    before = np.empty((0, model.engine.vocabulary), np.float32)
    if shared:
        before = yield [Feed(shared, reuse=held)]
        parent = 0
    for ending in endings:
        fed = ending[:-1] if several else [context[-1], *ending[:-1]]
        told = _told(before, log_sums(before), ending[:1]) if several else NOTHING
        done, length = int(several), held
        for start in range(0, len(fed), CHUNK):
            piece = fed[start : start + CHUNK]
            logits = yield [Feed(piece, parent, None if parent is None else length, every=True)]
            parent, length = 0, length + len(piece)
            told += _told(logits, log_sums(logits), ending[done : done + len(piece)])
            done += len(piece)
        found.append(told)
    return found


def _told(logits: Logits, norms: "np.ndarray[tuple[int], np.dtype[np.float64]]", ending: Ids) -> Likelihood:
    chosen = logits[np.arange(len(ending)), ending]
    best = logits.argmax(axis=1) == ending  # of equally probable tokens the lowest id, as in sampling
    return Likelihood(float((chosen - norms).sum()), len(ending), bool(best.all()), bool(best[-1]))


def windows(
    ids: Iterable[int], size: int, stride: int | None, start: int | None
) -> Iterator[tuple[list[int], list[int]]]:
    """A text of any length as (context, what is scored after it), each token scored once, but for those that nothing
    precedes.

    The token `start` precedes all, where there is one. Without a `stride` as lm-evaluation-harness has it: `size`
    tokens are scored at a time, and as many are fed, which leaves one before them, and before the last ones more. With
    one as Hugging Face's guide has it: a window holds `size` tokens, the last of which is not fed, and
    moves on by so many."""
    rest = iter(ids)
    recent = [start] if start is not None else list(itertools.islice(rest, 1))
    if stride is None:
        while targets := list(itertools.islice(rest, size)):
            yield recent[-(size + 1 - len(targets)) :], targets
            recent = (recent + targets)[-size:]
        return
    keep = size - stride
    while targets := list(itertools.islice(rest, size - len(recent))):
        yield recent, targets
        recent = (recent + targets)[-keep:] if keep else list(itertools.islice(rest, 1))


def fitted(case: Case, window: int, name: str) -> tuple[Case, bool]:
    """The case with the end of its context, as much as the window holds before the longest ending; and whether that
    is less than all. Raises CannotMeet."""
    longest = max(map(len, case.endings))
    if longest > window:
        raise CannotMeet(
            f"{name} asks for {longest:,} tokens, and the window has {window:,}", "shorten what follows the context"
        )
    room = window + 1 - longest
    return Case(case.context[-room:], case.endings), len(case.context) > room
