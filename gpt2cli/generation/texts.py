"""Prompt -> a stream of Piece: `generate`, `complete`. How the tokens are decided is in decoding.py.

Nothing here prints. Whoever consumes the iterator decides what becomes of the pieces; closing it is cancellation."""

import operator
import reprlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gpt2cli.engine.tasks import Task
from gpt2cli.errors import CannotMeet, UsageError
from gpt2cli.generation import constraints, decoding
from gpt2cli.generation.forms import Constraint
from gpt2cli.generation.parameters import Limits, Sampling, is_whole, most_kept
from gpt2cli.generation.requests import Finish, Piece, Request
from gpt2cli.generation.speculation import Drafter
from gpt2cli.model import Model


@dataclass(frozen=True)
class Prompt:
    """What is fed for a prompt, and whether it had to be cut to the window."""

    ids: list[int]
    cut: bool


# nine parameters: whoever writes Python names each by itself, and help() shows them
def generate(
    model: Model,
    prompt: str | Sequence[int],
    sampling: Sampling | None = None,
    limits: Limits | None = None,
    *,
    samples: int = 1,
    beams: int = 1,
    logprobs: int | None = None,
    drafter: Drafter | None = None,
    constraint: Constraint | None = None,
) -> Iterator[Piece]:
    """Continue `prompt` (text or ids, made to fit as by `fit`), a piece at a time.

    With several samples the rows' pieces interleave; each row's own are in order. With `beams` above 1 the text is
    found by beam search, and comes when it is whole. With `logprobs` each piece has its token's log-probability and
    those of so many of the likeliest. A `drafter` (speculation.py) guesses ahead for a single sample: greedy text is
    as without (at fp32), drawn text has the same distribution. With a `constraint` each text has its form; what does
    not come to an end in time finishes as "incomplete".

    Several texts may be generated on one model at a time, by any number of threads: each comes out as it would alone.
    Raises UsageError and CannotMeet, when called."""
    limits, sampling = Limits() if limits is None else limits, Sampling() if sampling is None else sampling
    check_types(model=(model, Model), sampling=(sampling, Sampling), limits=(limits, Limits))
    ids = fit(model, prompt, keep=limits.keep).ids
    return stream(model, Request(ids, sampling, limits, samples, beams, logprobs, drafter, constraint=constraint))


def complete(
    model: Model,
    prompt: str | Sequence[int],
    sampling: Sampling | None = None,
    limits: Limits | None = None,
    *,
    beams: int = 1,
    drafter: Drafter | None = None,
    constraint: Constraint | None = None,
) -> str:
    """The text that continues `prompt`, as `generate` yields it. Raises as `generate`, and UsageError for limits
    without an end."""
    refuse_endless(limits)
    pieces = generate(model, prompt, sampling, limits, beams=beams, drafter=drafter, constraint=constraint)
    return "".join(piece.text for piece in pieces)


def refuse_endless(limits: Limits | None) -> None:
    """Raises UsageError."""
    if isinstance(limits, Limits) and limits.max_tokens is None and limits.max_length is None:
        raise UsageError("`max_tokens` is None, and the text would have no end", "give it a number")


def stream(
    model: Model, request: Request, decode: Callable[[Model, Request], Task[Piece, None]] = decoding.decode
) -> Iterator[Piece]:
    """The pieces of a request. Raises UsageError and CannotMeet, when called."""
    engine, ids = model.engine, request.ids
    engine.check_ids(ids)
    engine.check_ids(list(request.sampling.logit_bias))
    _check(request)
    tokens = request.limits.tokens(len(ids))
    slides = tokens is None or len(ids) + tokens > engine.window + 1
    if slides:
        request.limits.kept(len(ids), engine.window)
        if request.beams > 1:
            raise CannotMeet(
                f"beams cannot go beyond the window of {engine.window} tokens",
                f"ask for fewer tokens: `max_tokens` {engine.window + 1 - len(ids)}",
            )
    engine.check_room(max(request.samples, request.beams), engine.window if tokens is None else len(ids) + tokens)
    if tokens == 0:
        whole = request.constraint is None or constraints.matcher(model, request.constraint).complete
        finish: Finish = "length" if whole else "incomplete"
        return iter([Piece(row, "", finish=finish) for row in range(request.samples)])
    return model.scheduler.stream(decode(model, request))


def _check(request: Request) -> None:
    """Raises UsageError for what cannot be, whatever the model."""
    samples, beams = request.samples, request.beams
    for name, value, least in (
        ("samples", samples, 1),
        ("beams", beams, 1),
        ("logprobs", 0 if request.logprobs is None else request.logprobs, 0),
    ):
        if not is_whole(value):
            raise UsageError(f"`{name}` is {value!r}", f"`{name}` must be a whole number")
        if value < least:
            raise UsageError(f"`{name}` is {value}", f"`{name}` must be {least} or more")
    if 1 < beams < samples:
        raise UsageError(f"{samples} samples of {beams} beams", f"raise `beams` to {samples}, or lower `samples`")
    if request.constraint is not None and not isinstance(request.constraint, Constraint):
        raise UsageError(
            f"`constraint` is {reprlib.repr(request.constraint)}", "`constraint` must be a Constraint(kind, text)"
        )
    if request.drafter is not None and not isinstance(request.drafter, Drafter):
        raise UsageError(f"`drafter` is {reprlib.repr(request.drafter)}", "`drafter` must be Lookup() or a DraftModel")
    if request.drafter is not None and max(samples, beams) > 1:
        raise UsageError(
            "drafts are for a single text", "leave out `samples` and `beams`, or `lookup` and `draft_model`"
        )


def check_types(**values: tuple[object, type]) -> None:
    """Each name's value, and what it must be. Raises UsageError."""
    for name, (value, kind) in values.items():
        if not isinstance(value, kind):
            raise UsageError(f"`{name}` is {reprlib.repr(value)}", f"`{name}` must be a {kind.__name__}")


def checked(text: str | Sequence[int], name: str) -> str | list[int]:
    """A text, or token ids: nothing else. Raises UsageError."""
    if isinstance(text, str):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"`{name}` is no text: {text[error.start]!r} is half a character", "decode it anew"
            ) from None
        return text
    try:
        if not isinstance(text, bytes | bytearray) and not any(isinstance(token, bool) for token in text):
            return [operator.index(token) for token in text]
    except TypeError:
        pass
    raise UsageError(f"`{name}` is {reprlib.repr(text)}", f"`{name}` must be a text, or a list of token ids")


def ids_of(model: Model, text: Any, name: str) -> list[int]:
    """The token ids of a text, or those given. Raises UsageError."""
    text = checked(text, name)
    return model.tokenizer.encode(text) if isinstance(text, str) else text


def fit(
    model: Model, prompt: str | Sequence[int], *, special: bool = False, keep: int = 0, strict: bool = False
) -> Prompt:
    """The ids that are fed for `prompt`. Nothing is put before it, but an empty one is the model's start token; of more
    than the window holds the first `keep` tokens and the most recent are taken (with `strict`: CannotMeet). `special`
    is the tokenizer's. Raises UsageError for an id outside the vocabulary, and CannotMeet."""
    window = model.engine.window
    prompt = checked(prompt, "prompt")
    first = keep if 0 < keep <= most_kept(window) else 0  # too much is told below, where the prompt is in fact cut
    if isinstance(prompt, str):
        ids, cut = model.tokenizer.encode_ends(prompt, first, window - first, special=special)
    else:
        ids, cut = prompt, len(prompt) > window
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
            "shorten it, or leave out `strict` to use its end",
        )
    if cut:
        Limits(keep=max(keep, 0)).kept(len(ids), window)
    return Prompt(ids, cut)
