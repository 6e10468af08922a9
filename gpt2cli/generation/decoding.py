"""The three ways to decide what follows a prompt, each a task of the scheduler: draw it (or take the best), judge
drafts, search with beams."""

import itertools
from collections import deque
from collections.abc import Iterator
from math import inf

import numpy as np

from gpt2cli.engine.facts import Logits
from gpt2cli.engine.tasks import Feed, Task
from gpt2cli.errors import CannotMeet, Terminated
from gpt2cli.generation import beams
from gpt2cli.generation.requests import Piece, Request
from gpt2cli.generation.rows import Row, State
from gpt2cli.generation.sampling import Draft, Sampler, all_banned
from gpt2cli.model import Model


def decode(model: Model, request: Request, logits: Logits | None = None) -> Task[Piece, None]:
    """The pieces of a request that has been found possible. `logits` [1, vocabulary] are those after the prompt, where
    the task's first row holds it already, and texts are drawn."""
    state = State(model, request)
    if state.matcher and state.matcher.ended:
        return _nothing(state)
    if request.beams > 1:
        return _search(state)
    return _ahead(state, logits) if request.drafter or state.matcher else _sample(state, logits)


def _nothing(state: State) -> Task[Piece, None]:
    """Empty texts, where nothing else has the form that is wanted."""
    for row in state.rows:
        yield row.end()


def _sample(state: State, logits: Logits | None) -> Task[Piece, None]:
    """Rows that go on from one prompt, each with draws of its own."""
    rows, ids = state.rows, state.ids
    if logits is None:
        logits = yield state.prompt()
    logits, parents = np.repeat(logits, len(rows), axis=0), [0] * len(rows)
    sampler = Sampler(state.request.sampling, ids, len(rows), state.request.first)
    recent = {row.number: deque(ids, maxlen=state.window) for row in rows}
    held = len(ids)  # tokens in the cache; all rows are equally long
    for count in itertools.count():
        tokens = sampler.choose(logits, [row.number for row in rows], state.banned(count))
        for row, token, values in zip(rows, tokens, logits, strict=True):
            recent[row.number].append(token)
            yield state.piece(row, token, values)
        going = [place for place, row in enumerate(rows) if not row.finished]
        if not going:
            return
        rows = [rows[place] for place in going]
        if held == state.window:
            held = state.keep + state.recent
            logits = yield [
                Feed(_last(recent[row.number], state.recent), parents[place], state.keep)
                for row, place in zip(rows, going, strict=True)
            ]
        else:
            held += 1
            logits = yield [Feed([tokens[place]], parents[place]) for place in going]
        parents = list(range(len(rows)))


def _last(tokens: deque[int], count: int) -> list[int]:
    return list(itertools.islice(tokens, len(tokens) - count, None))


def _ahead(state: State, logits: Logits | None) -> Task[Piece, None]:
    """The same, several tokens a call: those that a constraint forces, and of a single row the drafts that agree."""
    if logits is None:
        logits = yield state.prompt()
    sampler = Sampler(state.request.sampling, state.ids, len(state.rows), state.request.first)
    if state.request.drafter:
        state.request.drafter.begin(sampler.sampling)
    walks = [Walk(state, row, sampler) for row in state.rows]
    for walk in walks:
        yield from walk.begin()
    heard, parents = [logits] * len(walks), [0] * len(walks)
    while True:
        for walk, values in zip(walks, heard, strict=True):
            yield from walk.take(values)
        going = [(parent, walk) for parent, walk in zip(parents, walks, strict=True) if not walk.row.finished]
        if not going:
            return
        walks = [walk for _, walk in going]
        feeds = [walk.feed(parent) for parent, walk in going]
        logits = yield feeds
        counts = [len(feed.tokens) if feed.every else 1 for feed in feeds]
        heard, parents = np.split(logits, np.cumsum(counts)[:-1]), list(range(len(walks)))


class Walk:
    """A row that takes several tokens a call."""

    def __init__(self, state: State, row: Row, sampler: Sampler) -> None:
        self.row, self._state, self._sampler = row, state, sampler
        self._context, self._held = list(state.ids), len(state.ids)  # tokens, and how many of them the engine has
        self._count = 0  # tokens that were chosen
        self._due: list[int] = []  # forced tokens that wait for their log-probabilities
        self._drafts: list[Draft] = []
        self._fed = 0  # how many of these, or of those that are due, the engine has as well
        sampling = state.request.sampling
        # where a ban may meet a token that is forced, one after another is asked for
        self._forces = not (sampling.no_repeat_ngram or -inf in sampling.logit_bias.values())

    def begin(self) -> Iterator[Piece]:
        """What is certain before there are any logits."""
        yield from self._certain()
        self._due = self._due[:1]

    def take(self, logits: Logits) -> Iterator[Piece]:
        """Tokens, from the logits after the context and after each of those that were fed ahead."""
        if self.row.finished or self._held < len(self._context):  # what follows was certain
            return
        agreed = 0
        for place, values in enumerate(logits):
            token, goes_on = self._next(place, values)
            self._held += goes_on and place < self._fed
            agreed += goes_on
            yield self._say(token, values)
            if self.row.finished or not goes_on:
                break
        if self._drafts and self._state.request.drafter:
            self._state.request.drafter.judged(len(self._drafts), agreed)
        self._drafts, self._due = [], []
        if not self.row.finished:
            yield from self._certain()

    def _next(self, place: int, values: Logits) -> tuple[int, bool]:
        """A token, and whether the logits after it are there."""
        sampler, number = self._sampler, self.row.number
        if place < len(self._due):
            sampler.take(number, self._due[place])
            return self._due[place], True
        allowed = self.row.matcher.allowed() if self.row.matcher else None
        banned = self._state.banned(self._count)
        if place < len(self._drafts):
            return sampler.judge(values[None], self._drafts[place], banned, allowed)
        return sampler.choose(values[None], [number], banned, allowed)[0], False

    def _say(self, token: int, values: Logits | None) -> Piece:
        self._context.append(token)
        self._count += 1
        return self._state.piece(self.row, token, values)

    def _certain(self) -> Iterator[Piece]:
        """The tokens that the constraint forces: at once, or where log-probabilities are wanted, with these."""
        forced = self.row.matcher.forced() if self.row.matcher and self._forces else []
        if self._state.tokens is not None:
            forced = forced[: self._state.tokens - self._count]
        if self._state.request.logprobs is not None:
            self._due = forced
            return
        for token in forced:
            self._sampler.take(self.row.number, token)
            yield self._say(token, None)
            if self.row.finished:
                return

    def feed(self, parent: int) -> Feed:
        """What the engine is to hold next."""
        state, held, drafter = self._state, self._held, self._state.request.drafter
        self._fed = 0
        if len(self._context) > state.window:
            self._context = self._context[: state.keep] + self._context[-state.recent :]
            self._held, self._due = len(self._context), self._due[:1]
            return Feed(self._context[state.keep :], parent, state.keep)
        new, room = self._context[held:], state.window - len(self._context)
        self._held = len(self._context)
        ahead = self._due[:room]
        self._due = ahead or self._due[:1]
        if drafter and room and len(new) == 1 and not ahead:
            drafts = drafter.propose(self._context, room)
            if self.row.matcher:
                drafts = drafts[: self.row.matcher.taken([draft.token for draft in drafts])]
            self._drafts, ahead = drafts, [draft.token for draft in drafts]
        self._fed = len(ahead)
        # drafts that were refused are still in the engine's row
        return Feed([*new, *ahead], parent, held if drafter else None, every=bool(ahead))


def _search(state: State) -> Task[Piece, None]:
    """The likeliest texts that beam search finds, when they are found."""
    request, rows = state.request, state.rows
    assert state.tokens is not None
    wanted = beams.Search(
        state.ids,
        request.sampling,
        request.beams,
        state.tokens,
        ends=state.ends,
        banned=state.banned,
        keep_logits=request.logprobs is not None,
        matcher=state.matcher,
    )
    cut: BaseException | None = None
    try:
        yield from beams.search(wanted, state.prompt())
    except (KeyboardInterrupt, Terminated) as reason:  # the best texts so far belong to the user
        cut = reason
    found = wanted.found
    if cut is None and not found:
        raise all_banned()
    if cut is None and len(found) < len(rows):
        raise CannotMeet(
            f"only {len(found)} of {len(rows)} texts are possible here", f"ask for fewer: `samples` {len(found)}"
        )
    for row, beam in zip(rows, found, strict=False):
        for token, values in zip(beam.ids, beam.logits or [None] * len(beam.ids), strict=True):
            yield state.piece(row, token, values)
            if row.finished:
                break
    if cut is not None:
        raise cut
