"""The three ways to decide what follows a prompt, each a task of the scheduler: draw it (or take the best), judge
drafts, search with beams."""

import itertools
from collections import deque
from collections.abc import Sequence

import numpy as np

from gpt2cli.engine.engine import Logits
from gpt2cli.engine.tasks import Feed, Task
from gpt2cli.errors import CannotMeet, Terminated
from gpt2cli.generation import beams
from gpt2cli.generation.parameters import Limits
from gpt2cli.generation.requests import Finish, Logprob, Piece, Request
from gpt2cli.generation.sampling import Draft, Sampler, all_banned, highest, log_softmax
from gpt2cli.generation.speculation import Drafter
from gpt2cli.generation.stops import StopStrings
from gpt2cli.model import Model
from gpt2cli.tokenizer.tokenizer import TextStream, Tokenizer


def decode(model: Model, request: Request, logits: Logits | None = None) -> Task[Piece, None]:
    """The pieces of a request that has been found possible. `logits` [1, vocabulary] are those after the prompt, where
    the task's first row holds it already, and texts are drawn."""
    state = _State(model, request)
    if request.beams > 1:
        return _search(state)
    return _speculate(state, request.drafter) if request.drafter else _sample(state, logits)


class _State:
    """A request under way: its rows, and the rules that all ways of decoding share."""

    def __init__(self, model: Model, request: Request) -> None:
        limits = request.limits
        self.request, self.window = request, model.engine.window
        self.ends, self._all_ends = model.ends, (*model.ends, *request.stop_tokens)
        self.ids = list(request.ids)
        self.tokens = limits.tokens(len(self.ids))
        # tokens that stay where the window slides; where it does not, any number may have been given
        slides = self.tokens is None or len(self.ids) + self.tokens > self.window + 1
        self.keep = limits.kept(len(self.ids), self.window) if slides else 0
        self.recent = max(1, (self.window - self.keep) // 2)
        numbers = range(request.first, request.first + request.samples)
        self.rows = [_Row(number, model.tokenizer, self._all_ends, limits, self.tokens) for number in numbers]

    def prompt(self) -> list[Feed]:
        request = self.request
        reuse = len(self.ids) - 1 if request.resumes or request.shares else 0
        return [Feed(self.ids, reuse=reuse, resumes=request.resumes)]

    def banned(self, count: int) -> Sequence[int]:
        """Tokens that may not follow `count` generated ones."""
        limits = self.request.limits
        if count < limits.min_tokens:
            return self._all_ends
        return self.ends if limits.ignore_eos else ()

    def piece(self, row: "_Row", token: int, logits: Logits | None) -> Piece:
        """The row's next token, chosen from `logits` [vocabulary], which only log-probabilities need."""
        count = self.request.logprobs
        return row.push(token, None if count is None or logits is None else _logprob(logits, token, count))


def _sample(state: _State, logits: Logits | None) -> Task[Piece, None]:
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


def _speculate(state: _State, drafter: Drafter) -> Task[Piece, None]:
    """One row, several tokens a call where the drafts agree. Otherwise as `_sample`."""
    (row,) = state.rows
    logits = yield state.prompt()
    sampler = Sampler(state.request.sampling, state.ids, 1)
    drafter.begin(sampler.sampling)
    context, drafts, count = list(state.ids), list[Draft](), 0
    while True:  # logits[i] follow the context and the first i drafts
        taken = 0
        for place, values in enumerate(logits):
            agreed = False
            if place < len(drafts):
                token, agreed = sampler.judge(values[None], drafts[place], state.banned(count))
            else:
                (token,) = sampler.choose(values[None], [row.number], state.banned(count))
            context.append(token)
            count, taken = count + 1, taken + agreed
            yield state.piece(row, token, values)
            if row.finished or not agreed:
                break
        if drafts:
            drafter.judged(len(drafts), taken)
        if row.finished:
            return
        known = len(context) - 1
        if known == state.window:
            drafts = []
            context = context[: state.keep] + context[-state.recent :]
            logits = yield [Feed(context[state.keep :], 0, state.keep)]
        else:
            drafts = drafter.propose(context, state.window - len(context))
            logits = yield [Feed([token, *(draft.token for draft in drafts)], 0, known, every=True)]


def _search(state: _State) -> Task[Piece, None]:
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


def _logprob(logits: Logits, token: int, count: int) -> Logprob:
    values = log_softmax(logits)
    leaders = highest(values, count)
    rank = 1 + (values > values[token]).sum() + (values[:token] == values[token]).sum()
    top = tuple(zip(leaders.tolist(), values[leaders].tolist(), strict=True))
    return Logprob(float(values[token]), top, int(rank))


class _Row:
    """One continuation: its characters, its stop strings, its length."""

    def __init__(
        self, number: int, tokenizer: Tokenizer, ends: Sequence[int], limits: Limits, tokens: int | None
    ) -> None:
        self.number = number
        self.finished = False
        self._text = TextStream(tokenizer)
        self._stop = StopStrings(limits.stop)
        self._left = tokens
        self._ends = ends

    def push(self, token: int, logprob: Logprob | None) -> Piece:
        if token in self._ends:
            return self._finish("", None, logprob, "end", token)
        text = self._stop.push(self._text.push(token))
        if self._left is not None:
            self._left -= 1
        if self._stop.found or self._left == 0:
            return self._finish(text, token, logprob, "length")
        return Piece(self.number, text, self._stop.held + self._text.held, token, logprob)

    def _finish(
        self, text: str, token: int | None, logprob: Logprob | None, reason: Finish, end: int | None = None
    ) -> Piece:
        self.finished = True
        if not self._stop.found:
            text += self._stop.push(self._text.finish())
        text += self._stop.finish()
        return Piece(self.number, text, "", token, logprob, "stop" if self._stop.found else reason, end)
