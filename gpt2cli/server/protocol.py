"""A request's JSON -> what is asked for, checked field by field. Pure: knows no model, no socket.

The schema is that of OpenAI's legacy completions (openai/openai-openapi, CreateCompletionRequest) with the extensions
that clients of vLLM and llama.cpp send; every parameter of `Sampling` and `Limits` is a field of its own name. A wrong
value is a BadRequest that names the field; an unknown field is not, but is reported."""

import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from types import MappingProxyType
from typing import Any, TypeVar

from gpt2cli.errors import CannotMeet, CorruptFile, UsageError, UserError
from gpt2cli.generation.forms import Constraint
from gpt2cli.generation.parameters import MAX_SEED, Limits, Sampling, parameters
from gpt2cli.server import forms

Body = Mapping[str, Any]
Check = Callable[[object], bool]
Values = TypeVar("Values", Sampling, Limits)

# What the schema says where nothing is sent: the model's own distribution.
NEUTRAL = Sampling(temperature=1.0, top_k=0, top_p=1.0)
MAX_TOKENS = 16
MOST_SAMPLES = 128
MOST_PROMPTS = 2048
MOST_TEXTS = 4096

_LARGE = 1e300  # what is larger may be no float
_CHANGED = frozenset({"stop", "seed", "logit_bias", "max_tokens"})  # which are not simply taken over
_ALIASES = {"typical_p": "typical", "repetition_penalty": "repeat_penalty"}
_HARMLESS = frozenset({"user", "model"})
TEXTS = "a text, a list of texts, a list of token ids, or a list of such lists"


class BadRequest(Exception):
    """What is wrong with a request, as the schema's error object has it."""

    def __init__(
        self,
        message: str,
        param: str | None = None,
        *,
        code: str | None = None,
        status: int = 400,
        hint: str | None = None,
    ) -> None:
        """`hint` is the part of the message that says what helps."""
        super().__init__(message)
        self.message, self.param, self.code, self.status, self.hint = message, param, code, status, hint
        self.headers: dict[str, str] = {}

    def plain(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        found = error(self.message, kind, self.param, self.code)
        if self.hint:
            found["error"]["hint"] = self.hint
        return found


def error(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The schema's error object: all four keys are always there."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True)
class Completions:
    """A request for continuations: `n` of each prompt, the best of `best_of`."""

    prompts: tuple[str | list[int], ...]
    sampling: Sampling
    limits: Limits
    n: int = 1
    best_of: int = 1
    echo: bool = False
    logprobs: int | None = None  # -1: the whole vocabulary
    stop_tokens: tuple[int, ...] = ()
    stream: bool = False
    include_usage: bool = False
    token_ids: bool = False
    slide: bool = False  # beyond the window as `gpt2 generate` goes, which cuts the prompt's beginning
    truncate: int | None = None  # the last so many tokens of a prompt; -1: as many as there is room for
    special: bool = False
    strict: bool = False
    constraint: Constraint | None = None
    form: str | None = None  # the field that asks for it
    unknown: tuple[str, ...] = ()  # fields that mean nothing here


def completions(body: object) -> Completions:
    """Raises BadRequest."""
    fields = Fields(body)
    _refuse_suffix(fields)
    form, constraint = _constraint(fields)
    n, best_of = fields.whole("n", 1, 1, MOST_SAMPLES), fields.whole("best_of", None, 1, MOST_SAMPLES)
    stream = fields.switch("stream")
    found = Completions(
        prompts=fields.texts("prompt") or ("",),
        sampling=_sampling(fields),
        limits=_limits(fields),
        n=n or 1,
        best_of=best_of or n or 1,
        echo=fields.switch("echo"),
        logprobs=_logprobs(fields),
        stop_tokens=tuple(dict.fromkeys(fields.ids("stop_token_ids"))),
        stream=stream,
        include_usage=_include_usage(fields, stream),
        token_ids=fields.switch("return_token_ids"),
        slide=fields.switch("slide"),
        truncate=fields.whole("truncate_prompt_tokens", None, -1),
        special=fields.switch("special"),
        strict=fields.switch("strict"),
        constraint=constraint,
        form=form,
    )
    if found.best_of < found.n:
        raise BadRequest(f"best_of is {found.best_of}, less than n, which is {found.n}", "best_of")
    if found.stream and found.best_of > found.n:
        raise BadRequest("the best of several texts is known at their end: best_of cannot be streamed", "best_of")
    if (texts := len(found.prompts) * found.best_of) > MOST_TEXTS:
        raise BadRequest(f"the request asks for {texts} texts; at most {MOST_TEXTS} fit into one", "n")
    endless = found.limits.max_tokens is None and found.limits.max_length is None
    if endless and not (found.stream and found.slide):
        raise BadRequest("max_tokens -1 needs stream and slide: the text has no end", "max_tokens")
    return replace(found, unknown=fields.unknown())


class Fields:
    """The fields of a JSON object, and which of them somebody has asked for. null is as good as absent."""

    def __init__(self, body: object) -> None:
        """Raises BadRequest for another value than an object, as all methods do for a field's."""
        if not isinstance(body, dict):
            raise BadRequest("the body must be a JSON object")
        self._body: Body = body
        self._seen: set[str] = set()

    def get(self, name: str) -> Any:
        self._seen.add(name)
        return self._body.get(name)

    def unknown(self) -> tuple[str, ...]:
        """Those that nobody has asked for, and that are not harmless."""
        return tuple(sorted(set(self._body) - self._seen - _HARMLESS))

    def first(self, *names: tuple[str, Check, str]) -> Any:
        """The first of these that is there, null or not: name, check, and what it must be."""
        self._seen.update(name for name, _, _ in names)
        for name, check, expected in names:
            if name in self._body:
                if not check(self._body[name]):
                    raise wrong(name, self._body[name], expected)
                return self._body[name]
        raise BadRequest(f"{names[0][0]} is missing; it must be {names[0][2]}", names[0][0])

    def switch(self, name: str) -> bool:
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            raise wrong(name, value, "true or false")
        return bool(value)

    def whole(self, name: str, default: int | None, least: int, most: float = inf) -> int | None:
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            words = f"a whole number, {least} or more" if most == inf else f"a whole number from {least} to {most}"
            raise wrong(name, value, words)
        return value

    def number(self, name: str) -> float | None:
        value = self.get(name)
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > _LARGE):
            raise wrong(name, value, "a number")
        return value

    def ids(self, name: str) -> list[int]:
        value = self.get(name)
        if value is not None and not are_ids(value):
            raise wrong(name, value, "a list of token ids")
        return value or []

    def texts(self, name: str) -> tuple[str | list[int], ...] | None:
        """One text or several, each as text or as token ids; a list of numbers is one. None where there is none."""
        value = self.get(name)
        if value is None:
            return None
        found = [value] if isinstance(value, str) or (value != [] and are_ids(value)) else value
        if not isinstance(found, list) or not found or not all(isinstance(one, str) or are_ids(one) for one in found):
            raise wrong(name, value, TEXTS)
        if len(found) > MOST_PROMPTS:
            raise BadRequest(f"{name} has {len(found)} texts; at most {MOST_PROMPTS} fit into a request", name)
        return tuple(found)


def wrong(name: str, value: object, expected: str) -> BadRequest:
    text = reprlib.repr(value)  # it may be large, or deep
    return BadRequest(f"{name} is {text if len(text) < 60 else text[:57] + '...'}; it must be {expected}", name)


def are_ids(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in value)


def _refuse_suffix(fields: Fields) -> None:
    if fields.get("suffix") not in (None, ""):
        raise BadRequest("suffix is not supported: GPT-2 continues a text, it cannot fill a gap in one", "suffix")


def _constraint(fields: Fields) -> tuple[str | None, Constraint | None]:
    """The field that asks for a form, and what it asks for."""
    name = None
    try:
        found = forms.wishes(fields.get)
        if len(found) > 1:
            raise BadRequest(f"{found[0][0]} and {found[1][0]}: a text has one form, send one of them", found[1][0])
        for name, kind, text in found:
            return name, Constraint(kind, text)
    except UsageError as problem:
        raise refused(problem, param=name) from None
    return None, None


def _logprobs(fields: Fields) -> int | None:
    value = fields.get("logprobs")
    if isinstance(value, bool):  # as some clients send the chat schema's switch
        return 0 if value else None
    return fields.whole("logprobs", None, -1)


def _include_usage(fields: Fields, stream: bool) -> bool:
    value = fields.get("stream_options")
    if value is None:
        return False
    if not isinstance(value, dict):
        raise wrong("stream_options", value, "an object")
    if not stream:
        raise BadRequest("stream_options is for streams: set stream", "stream_options")
    return Fields(value).switch("include_usage")


def _sampling(fields: Fields) -> Sampling:
    changes: dict[str, Any] = {
        name: value
        for name in parameters(Sampling)
        if name not in _CHANGED and (value := fields.number(name)) is not None
    }
    for alias, name in _ALIASES.items():
        if (value := fields.number(alias)) is not None:
            changes.setdefault(name, value)
            if name == "repeat_penalty":  # where it has this name it looks at the whole text
                changes.setdefault("repeat_last_n", -1)
    if changes.get("top_k") == -1:
        changes["top_k"] = 0
    changes["logit_bias"] = _biases(fields)
    changes["seed"] = _seed(fields)
    called = {name: alias for alias, name in _ALIASES.items() if fields.get(alias) is not None}
    return _built(NEUTRAL, changes, called).seeded()


def _seed(fields: Fields) -> int | None:
    """Any 64-bit number, as the schema allows; -1 is drawn. Ours lie from 0 to 2^53 - 1: others wrap around."""
    value = fields.whole("seed", None, -(2**63), 2**64 - 1)
    return None if value is None or value == -1 else value % MAX_SEED


def _biases(fields: Fields) -> dict[int, float]:
    value = fields.get("logit_bias")
    if value is None:
        return {}
    expected = "an object of token ids and numbers, or '-inf' to ban one"
    if not isinstance(value, dict):
        raise wrong("logit_bias", value, expected)
    for token, bias in value.items():
        number = isinstance(bias, float) or (type(bias) is int and abs(bias) <= _LARGE)
        if not re.fullmatch(r"[0-9]{1,9}", token) or not (number or bias == "-inf"):
            raise wrong("logit_bias", {token: bias}, expected)
    return {int(token): float(bias) for token, bias in value.items()}


def _limits(fields: Fields) -> Limits:
    tokens = fields.whole("max_tokens", MAX_TOKENS if fields.get("max_length") is None else -1, -1)
    changes: dict[str, Any] = {"max_tokens": None if tokens == -1 else tokens}
    for name, (_, one) in parameters(Limits).items():
        if name not in _CHANGED:
            value = fields.switch(name) if one.type is bool else fields.number(name)
            if value is not None:
                changes[name] = value
    stop = fields.get("stop")
    if stop is not None:
        if not isinstance(stop, str) and not (isinstance(stop, list) and all(isinstance(one, str) for one in stop)):
            raise wrong("stop", stop, "a text, or a list of texts")
        changes["stop"] = stop
    return _built(Limits(), changes)


def _built(default: Values, changes: dict[str, Any], called: Mapping[str, str] = MappingProxyType({})) -> Values:
    """A copy of `default` with the changes. Raises BadRequest; parameters are `called` as in the request."""
    try:
        return replace(default, **changes)
    except UsageError as problem:
        raise refused(problem, called) from None


def broken(problem: CorruptFile) -> BadRequest:
    """The model itself is at fault, and not what was asked for."""
    return BadRequest(f"{problem.message}: {problem.hint}", status=500)


def refused(
    problem: UserError, called: Mapping[str, str] = MappingProxyType({}), *, param: str | None = None
) -> BadRequest:
    """The library's complaint as the schema has it: about the parameter that its message names, as `called` in the
    request, else about `param`, else about the one that its hint names."""

    def renamed(text: str) -> str:
        return re.sub("`([a-z_]+)`", lambda name: f"`{called.get(name[1], name[1])}`", text)

    message, hint = renamed(problem.message), renamed(problem.hint)
    named = re.search("`([a-z_]+)`", message) or (None if param else re.search("`([a-z_]+)`", hint))
    code = "cannot_meet" if isinstance(problem, CannotMeet) else None
    return BadRequest(f"{message}: {hint}", named[1] if named else param, code=code, hint=hint)
