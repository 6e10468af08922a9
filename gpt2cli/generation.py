"""The loop: prompt ids -> a stream of Piece. Stop rules, rows, and text beyond the window.

Nothing here prints. Whoever consumes the iterator decides what becomes of the pieces; closing it is cancellation."""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gpt2cli import beams as beam_search
from gpt2cli.engine import Engine, Logits
from gpt2cli.errors import CannotMeet, Terminated, UsageError
from gpt2cli.model import Model
from gpt2cli.sampling import Draft, Sampler, Sampling, all_banned, log_softmax
from gpt2cli.speculation import Drafter
from gpt2cli.stops import StopStrings
from gpt2cli.tokenizer import TextStream, Tokenizer

Finish = Literal["stop", "length", "end"]


@dataclass(frozen=True)
class Logprob:
    """Natural log-probability of a token under the model's own distribution, before any sampling step, and the most
    probable tokens there with theirs."""

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Prompt:
    """What is fed for a prompt, and whether it had to be cut to the window."""

    ids: list[int]
    cut: bool


@dataclass(frozen=True)
class Piece:
    """One token of one row. `text` is what became printable with it (often the token's text, sometimes nothing or
    more); `held` is what waits: bytes of a character still to be completed, or what may begin a stop string. It comes
    again in a later piece, and whoever stops before adds it. `token` is None where no token was added: for an
    end token, and with max_tokens 0. `finish` is set on the last piece of a row: "stop" a stop string, "length" enough
    tokens, "end" an end token."""

    row: int
    text: str
    held: str = ""
    token: int | None = None
    logprob: Logprob | None = None
    finish: Finish | None = None


def generate(
    model: Model,
    prompt: str | Sequence[int],
    *,
    sampling: Sampling | None = None,
    max_tokens: int | None = 128,
    min_tokens: int = 0,
    max_length: int | None = None,
    samples: int = 1,
    beams: int = 1,
    stop: Sequence[str] = (),
    ignore_eos: bool = False,
    keep: int = 0,
    logprobs: int | None = None,
    drafter: Drafter | None = None,
    resume: bool = False,
) -> Iterator[Piece]:
    """Continue `prompt` (text or ids, made to fit as by `fit`), a piece at a time.

    max_tokens None goes on until the iterator is closed; max_length counts prompt and text together. With several
    samples the rows' pieces interleave; each row's own are in order. Beyond the window the text goes on from its first
    `keep` tokens (-1: the prompt) and the recent half of the rest. A `drafter` (speculation.py) guesses ahead for a
    single sample: greedy text is as without (at fp32), drawn text has the same distribution. With `resume`, what the
    cache still holds of the prompt's beginning is not computed again. The model serves one iterator at a time: one that
    goes on after another has begun raises UsageError. Raises UsageError and CannotMeet, when called."""
    sampling = sampling or Sampling()
    ids = fit(model, prompt, keep=keep).ids
    engine = model.engine
    engine.check_ids(list(sampling.logit_bias))
    if drafter is not None and max(samples, beams) > 1:
        raise UsageError("drafts are for a single text", "leave out -N and --beams, or --lookup and --draft-model")
    _check(
        samples=samples,
        beams=beams,
        stop=stop,
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        logprobs=logprobs,
    )
    if max_length is not None:
        if max_length <= len(ids):
            raise CannotMeet(
                f"the prompt has {len(ids)} tokens already, --max-length is {max_length}",
                f"--max-length counts prompt and text together: use at least {len(ids) + 1}, or -n",
            )
        room = max_length - len(ids)
        if min_tokens > room:
            raise UsageError(
                f"--min-tokens {min_tokens} is more than --max-length {max_length} leaves",
                f"the prompt has {len(ids)} tokens: raise --max-length, or lower --min-tokens",
            )
        max_tokens = room if max_tokens is None else min(max_tokens, room)
    slides = max_tokens is None or len(ids) + max_tokens > engine.window + 1
    if slides:
        keep = _kept(keep, engine.window, len(ids))
    engine.check_room(max(samples, beams), engine.window if slides else len(ids) + (max_tokens or 0))
    ends = model.ends
    if max_tokens == 0:
        return iter([Piece(row, "", finish="length") for row in range(samples)])
    rows = [_Row(number, model.tokenizer, stop, max_tokens, ends) for number in range(samples)]
    if beams > 1:
        if max_tokens is None or slides:
            raise CannotMeet(
                f"beams cannot go beyond the window of {engine.window} tokens",
                f"ask for fewer tokens: -n {engine.window + 1 - len(ids)}",
            )
        limit = max_tokens
        return _beams(engine, ids, rows, sampling, beams, limit, limit if ignore_eos else min_tokens, ends, logprobs)
    never_ends = min_tokens if not ignore_eos else None
    if drafter is not None:
        return _speculate(engine, ids, rows[0], sampling, keep, never_ends, ends, logprobs, drafter, resume)
    return _sample(engine, ids, rows, sampling, keep, never_ends, ends, logprobs, resume)


def fit(
    model: Model, prompt: str | Sequence[int], *, special: bool = False, keep: int = 0, strict: bool = False
) -> Prompt:
    """The ids that are fed for `prompt`. Nothing is put before it, but an empty one is the model's start token; of more
    than the window holds the first `keep` tokens and the most recent are taken (with `strict`: CannotMeet). `special`
    is the tokenizer's. Raises UsageError for an id outside the vocabulary, and CannotMeet."""
    window = model.engine.window
    first = keep if 0 < keep <= _most_kept(window) else 0  # too much is told below, where the prompt is in fact cut
    if isinstance(prompt, str):
        ids, cut = model.tokenizer.encode_ends(prompt, first, window - first, special=special)
    else:
        ids, cut = list(prompt), len(prompt) > window
        if cut:
            ids = ids[:first] + ids[len(ids) - (window - first) :]
    if not ids:
        if model.start is None:
            raise CannotMeet("the prompt is empty and this model has no <|endoftext|> to start from", "give some text")
        return Prompt([model.start], cut=False)
    model.engine.check_ids(ids)
    if cut and strict:
        raise CannotMeet(
            f"the prompt is longer than the model's window of {window} tokens",
            "shorten it, or leave out --strict to use its end",
        )
    if cut:
        _kept(max(keep, 0), window, len(ids))
    return Prompt(ids, cut)


def _most_kept(window: int) -> int:
    return min(window // 2, window - 1)


def _kept(keep: int, window: int, prompt: int) -> int:
    """`keep` as a number of tokens. Raises CannotMeet where little would be left for the text."""
    tokens, most = prompt if keep == -1 else keep, _most_kept(window)
    if not 0 <= tokens <= most:
        what = f"--keep -1 (the prompt's {prompt} tokens)" if keep == -1 else f"--keep {keep}"
        raise CannotMeet(f"{what} leaves too little of the window of {window} tokens", f"keep at most {most}")
    return tokens


def _check(
    *,
    samples: int,
    beams: int,
    stop: Sequence[str],
    max_tokens: int | None,
    min_tokens: int,
    logprobs: int | None,
) -> None:
    for flag, value, least in (
        ("--num-samples", samples, 1),
        ("--beams", beams, 1),
        ("--max-tokens", max_tokens or 0, 0),
        ("--min-tokens", min_tokens, 0),
        ("--logprobs", logprobs or 0, 0),
    ):
        if value < least:
            raise UsageError(f"{flag} is {value}", f"{flag} must be {least} or more")
    if "" in stop:
        raise UsageError("a stop string is empty", "give --stop some text")
    if max_tokens is not None and min_tokens > max_tokens:
        raise UsageError(
            f"--min-tokens {min_tokens} is more than --max-tokens {max_tokens}",
            "raise -n, or lower --min-tokens",
        )
    if 1 < beams < samples:
        raise UsageError(f"{samples} samples of {beams} beams", f"raise --beams to {samples}, or lower -N")


def _sample(
    engine: Engine,
    ids: list[int],
    rows: list["_Row"],
    sampling: Sampling,
    keep: int,
    never_ends: int | None,
    ends: Sequence[int],
    logprobs: int | None,
    resume: bool,
) -> Iterator[Piece]:
    """Rows decoded as one batch after a single prefill. `never_ends`: tokens before which `ends` are banned, None
    for ever."""
    logits = np.repeat(_prefill(engine, ids, resume=resume), len(rows), axis=0)
    engine.select([0] * len(rows))
    ours = engine.text
    sampler = Sampler(sampling, ids, len(rows))
    recent = {row.number: deque(ids, maxlen=engine.window) for row in rows}
    for count in itertools.count():
        banned = ends if never_ends is None or count < never_ends else ()
        tokens = sampler.choose(logits, [row.number for row in rows], banned)
        for place, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            recent[row.number].append(token)
            yield row.push(token, None if logprobs is None else _logprob(logits[place], token, logprobs))
        if engine.text != ours:
            raise _another_text()
        going = [place for place, row in enumerate(rows) if not row.finished]
        if not going:
            return
        engine.select(going)
        rows = [rows[place] for place in going]
        if engine.lengths[0] == engine.window:  # all rows are equally long
            half = max(1, (engine.window - keep) // 2)
            fed = []
            for place, row in enumerate(rows):
                said = recent[row.number]
                engine.rewind(keep, place)
                fed.append(list(itertools.islice(said, len(said) - half, None)))
            logits = engine.feed(fed)
        else:
            logits = engine.feed([[tokens[place]] for place in going])


def _speculate(
    engine: Engine,
    ids: list[int],
    row: "_Row",
    sampling: Sampling,
    keep: int,
    never_ends: int | None,
    ends: Sequence[int],
    logprobs: int | None,
    drafter: Drafter,
    resume: bool,
) -> Iterator[Piece]:
    """One row, several tokens a call where the drafts agree. Otherwise as `_sample`."""
    logits = _prefill(engine, ids, resume=resume)
    ours = engine.text
    sampler = Sampler(sampling, ids, 1)
    drafter.begin(sampler.sampling)
    context, drafts, count = list(ids), list[Draft](), 0
    while True:  # logits[i] follow the context and the first i drafts
        taken = 0
        for place, values in enumerate(logits):
            banned = ends if never_ends is None or count < never_ends else ()
            agreed = False
            if place < len(drafts):
                token, agreed = sampler.judge(values[None], drafts[place], banned)
            else:
                (token,) = sampler.choose(values[None], [0], banned)
            context.append(token)
            count, taken = count + 1, taken + agreed
            yield row.push(token, None if logprobs is None else _logprob(values, token, logprobs))
            if engine.text != ours:
                raise _another_text()
            if row.finished or not agreed:
                break
        if drafts:
            drafter.judged(len(drafts), taken)
        if row.finished:
            return
        engine.rewind(len(context) - 1)
        if engine.lengths[0] == engine.window:
            half = max(1, (engine.window - keep) // 2)
            engine.rewind(keep)
            fed, drafts = context[-half:], []
            context = context[:keep] + fed
            logits = engine.feed([fed])
        else:
            drafts = drafter.propose(context, engine.window - len(context))
            logits = engine.feed([[token, *(draft.token for draft in drafts)]], every=True)


def _beams(
    engine: Engine,
    ids: list[int],
    rows: list["_Row"],
    sampling: Sampling,
    beams: int,
    max_tokens: int,
    min_tokens: int,
    ends: Sequence[int],
    logprobs: int | None,
) -> Iterator[Piece]:
    logits = _prefill(engine, ids)
    found: list[beam_search.Beam] = []
    cut: BaseException | None = None
    steps = beam_search.search(
        engine,
        logits,
        prompt=ids,
        sampling=sampling,
        beams=beams,
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        ends=ends,
        keep_logits=logprobs is not None,
    )
    try:
        for best in steps:
            found = best
    except (KeyboardInterrupt, Terminated) as reason:  # the best texts so far belong to the user
        cut = reason
    if cut is None and not found:
        raise all_banned()
    if cut is None and len(found) < len(rows):
        raise CannotMeet(f"only {len(found)} of {len(rows)} texts are possible here", f"ask for fewer: -N {len(found)}")
    for row, beam in zip(rows, found, strict=False):
        for place, token in enumerate(beam.ids):
            yield row.push(token, None if logprobs is None else _logprob(beam.logits[place], token, logprobs))
            if row.finished:
                break
    if cut is not None:
        raise cut


def _another_text() -> UsageError:
    return UsageError("another text was begun on this model", "finish one text before the next, or load twice")


def _prefill(engine: Engine, ids: list[int], *, resume: bool = False) -> Logits:
    """The logits after `ids` in an engine of one row. Without `resume` they do not depend on what was fed before: not
    even by the rounding that differs between one token and several at a time."""
    if resume:
        return engine.feed([ids[engine.resume(ids) :]])
    engine.reset()
    return engine.feed([ids])


def _logprob(logits: Logits, token: int, count: int) -> Logprob:
    values = log_softmax(logits)
    best = np.argsort(-values, kind="stable")[:count]
    return Logprob(float(values[token]), tuple((int(i), float(values[i])) for i in best))


class _Row:
    """One continuation: its characters, its stop strings, its length."""

    def __init__(
        self, number: int, tokenizer: Tokenizer, stop: Sequence[str], max_tokens: int | None, ends: Sequence[int]
    ) -> None:
        self.number = number
        self.finished = False
        self._text = TextStream(tokenizer)
        self._stop = StopStrings(stop)
        self._left = max_tokens
        self._ends = ends

    def push(self, token: int, logprob: Logprob | None) -> Piece:
        if token in self._ends:
            return self._finish("", None, None, "end")
        text = self._stop.push(self._text.push(token))
        if self._left is not None:
            self._left -= 1
        if self._stop.found or self._left == 0:
            return self._finish(text, token, logprob, "length")
        return Piece(self.number, text, self._stop.held + self._text.held, token, logprob)

    def _finish(self, text: str, token: int | None, logprob: Logprob | None, reason: Finish) -> Piece:
        self.finished = True
        if not self._stop.found:
            text += self._stop.push(self._text.finish())
        text += self._stop.finish()
        return Piece(self.number, text, "", token, logprob, "stop" if self._stop.found else reason)
