"""How the model goes on: the options of `gpt2 generate` that /set changes, by their names without dashes."""

import difflib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from gpt2cli.console import inputs
from gpt2cli.errors import UsageError
from gpt2cli.generation.parameters import MAX_SEED, Sampling


@dataclass(frozen=True)
class Settings:
    """Raises UsageError where a value is out of range."""

    sampling: Sampling
    max_tokens: int | None = 128  # None: until interrupted
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    keep: int = 0  # -1: the first text
    logit_bias: tuple[str, ...] = ()  # TOKEN=X, of which each model makes ids of its own

    def __post_init__(self) -> None:
        least = {"max-tokens": (self.max_tokens or 0, 0), "min-tokens": (self.min_tokens, 0), "keep": (self.keep, -1)}
        for key, (value, lowest) in least.items():
            if value < lowest:
                raise UsageError(f"{key} is {value}", f"{key} must be {lowest} or more")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise UsageError(f"min-tokens {self.min_tokens} is more than max-tokens", "change the other one first")
        if "" in self.stop:
            raise UsageError("a stop string is empty", "give stop some text; off removes all")

    @property
    def seed(self) -> int:
        """Of the next continuation."""
        return self.sampling.seed or 0

    def later(self) -> "Settings":
        """The same with the seed after this one."""
        return replace(self, sampling=replace(self.sampling, seed=(self.seed + 1) % MAX_SEED))

    def changed(self, key: str, value: str) -> "Settings":
        """The same with `key` set to what `value` says. Raises UsageError."""
        name = self.name(key).replace("-", "_")
        try:
            parsed = _PARSERS[name](value)
        except ValueError:
            raise UsageError(f"'{value}' is no value for {key}", f"for example /set {_EXAMPLES[name]}") from None
        if name in _SAMPLING:
            return replace(self, sampling=replace(self.sampling, **{name: parsed}).seeded())
        return replace(self, **{name: parsed})

    def shown(self) -> dict[str, str]:
        """Keys and values, as /set takes them."""
        values = {**asdict(self.sampling), **asdict(self)}
        return {name.replace("_", "-"): _text(values[name]) for name in _PARSERS}

    @staticmethod
    def name(key: str) -> str:
        """The setting's name as `shown` has it, whichever way it was written. Raises UsageError."""
        name = key.lstrip("-").replace("-", "_").lower()
        name = _SHORT.get(name, name).replace("_", "-")
        if name not in KEYS:
            near = difflib.get_close_matches(name, KEYS, n=1)
            raise UsageError(f"there is no setting '{key}'", f"did you mean {near[0]}?" if near else "/show lists them")
        return name

    def record(self) -> dict[str, Any]:
        """Plain data, without the seed: a node's settings."""
        sampling = asdict(self.sampling)
        del sampling["seed"]
        others = asdict(self)
        del others["sampling"]
        return sampling | others | {"logit_bias": list(self.logit_bias), "stop": list(self.stop)}


def _count(value: str) -> int | None:
    return None if int(value) == -1 else int(value)


def _switch(value: str) -> bool:
    words = {"on": True, "yes": True, "true": True, "1": True, "off": False, "no": False, "false": False, "0": False}
    if value.lower() not in words:
        raise ValueError
    return words[value.lower()]


def _texts(value: str) -> tuple[str, ...]:
    return () if value == "off" else (inputs.argument_text(value, escapes=True),)


def _seed(value: str) -> int | None:
    return None if value in ("random", "-1") else int(value)


# each name, how its value is read, and an example
_TABLE: dict[str, tuple[Callable[[str], Any], str]] = {
    "max_tokens": (_count, "max-tokens 200"),
    "min_tokens": (int, "min-tokens 10"),
    "temperature": (float, "temperature 0.8"),
    "top_k": (int, "top-k 40"),
    "top_p": (float, "top-p 0.95"),
    "min_p": (float, "min-p 0.05"),
    "typical": (float, "typical 0.9"),
    "repeat_penalty": (float, "repeat-penalty 1.1"),
    "repeat_last_n": (int, "repeat-last-n 64"),
    "presence_penalty": (float, "presence-penalty 0.5"),
    "frequency_penalty": (float, "frequency-penalty 0.5"),
    "no_repeat_ngram": (int, "no-repeat-ngram 3"),
    "logit_bias": (_texts, "logit-bias 262=-5"),
    "seed": (_seed, "seed 42"),
    "stop": (_texts, "stop \\n"),
    "ignore_eos": (_switch, "ignore-eos on"),
    "keep": (int, "keep 20"),
}
_PARSERS = {name: parser for name, (parser, _) in _TABLE.items()}
_EXAMPLES = {name: example for name, (_, example) in _TABLE.items()}
_SAMPLING = {field.name for field in fields(Sampling)} - {"logit_bias"}
_SHORT = {"n": "max_tokens", "t": "temperature", "temp": "temperature", "s": "seed"}

KEYS = tuple(name.replace("_", "-") for name in _TABLE)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(one.encode("unicode_escape").decode() for one in value) or "off"
    return "-1" if value is None else str(value)
