"""How tokens are chosen, and where a text ends: `Sampling` and `Limits`. Each parameter is declared once, with its
default, its range and its words; the command line, the REPL, the config file and `help(Sampling)` take them from here.

Imports nothing heavy."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from math import inf
from types import UnionType
from typing import Any, TypeVar, get_args

from gpt2cli.errors import CannotMeet, UsageError

MAX_SEED = 2**53  # JSON readers with doubles keep every integer below it
_DRAWN = 2**32  # seeds that are drawn lie below it: they can be read and copied
_LARGE = 1e9  # biases and penalties up to here cannot overflow float32 together

T = TypeVar("T")


@dataclass(frozen=True)
class Parameter:
    """What a field of `Sampling` or `Limits` means, and which values it takes."""

    help: str
    flags: tuple[str, ...] = ()  # at the command line, where --the-name is not all
    metavar: str = "N"
    least: float = -inf
    most: float = inf
    above: bool = False  # `least` itself is not allowed
    named: Mapping[float, str] = field(default_factory=dict)  # what special values mean
    none: int | None = None  # what stands for None where a number must be written
    variable: bool = False  # it has an environment variable, and is a key of the config file

    @property
    def range(self) -> str:
        """In words."""

        def word(value: float) -> str:
            text = f"{value:g}" if abs(value) < MAX_SEED - 1 else "2^53 - 1"
            return f"{text} ({self.named[value]})" if value in self.named else text

        if self.most == inf:
            return f"above {word(self.least)}" if self.above else f"{word(self.least)} or more"
        if self.above:
            return f"above {word(self.least)} and at most {word(self.most)}"
        return f"from {word(self.least)} to {word(self.most)}"

    @property
    def written(self) -> str:
        """The range where None cannot be said: at the command line, and in files."""
        return self.range if self.none is None else f"{self.range}, or {self.none}"

    @property
    def off(self) -> float | None:
        """The value that switches it off."""
        return next((value for value, name in self.named.items() if name == "off"), None)


def _parameter(default: Any, help: str, *flags: str, **details: Any) -> Any:
    """A field with its Parameter."""
    metadata = {"parameter": Parameter(help, flags, **details)}
    return (
        field(default_factory=dict, metadata=metadata) if default == {} else field(default=default, metadata=metadata)
    )


def parameters(kind: type[Any]) -> dict[str, tuple[Parameter, "Field[Any]"]]:
    """The parameters of Sampling or Limits, by name, in order."""
    return {one.name: (one.metadata["parameter"], one) for one in fields(kind) if "parameter" in one.metadata}


def _documented(kind: type[T]) -> type[T]:
    """A class whose docstring lists its parameters."""
    defaults = {name: {} if one.default is MISSING else one.default for name, (_, one) in parameters(kind).items()}
    lines = [f"    {name} ({defaults[name]!r}): {parameter.help}" for name, (parameter, _) in parameters(kind).items()]
    if kind.__doc__:  # not with python -OO
        kind.__doc__ = "\n".join([kind.__doc__.rstrip(), "", *lines, ""])
    return kind


def _check(values: object) -> None:
    """Raises UsageError for a value of another type, or out of range."""
    for name, (parameter, one) in parameters(type(values)).items():
        value = getattr(values, name)
        kinds = get_args(one.type) if isinstance(one.type, UnionType) else (one.type,)
        if value is None and type(None) in kinds:
            continue
        if bool in kinds:
            fits, kind = isinstance(value, bool), "True or False"
        elif int in kinds:
            fits, kind = is_whole(value), "a whole number"
        elif float in kinds:
            fits, kind = _is_number(value), "a number"
        else:
            continue
        if not fits:
            raise UsageError(f"`{name}` is {value!r}", f"`{name}` must be {kind}")
        if (
            not parameter.least <= value <= parameter.most
            or (parameter.above and value == parameter.least)
            or value == inf
        ):
            raise UsageError(f"`{name}` is {value}", f"`{name}` must be {parameter.range}")


def is_whole(value: object) -> bool:
    """Whether it is a whole number: Python's, or NumPy's."""
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, bool)


_PART: dict[str, Any] = {"metavar": "X", "least": 0, "most": 1, "named": {0: "off"}, "variable": True}
_MASS: dict[str, Any] = _PART | {"above": True, "named": {1: "off"}}
_FACTOR: dict[str, Any] = _MASS | {"least": 1 / _LARGE, "most": _LARGE, "above": False}
_BIAS: dict[str, Any] = {"metavar": "X", "least": -_LARGE, "most": _LARGE}
_COUNT: dict[str, Any] = {"least": 0, "named": {0: "off"}}
_SEED: dict[str, Any] = {"least": 0, "most": MAX_SEED - 1, "none": -1, "variable": True}


@_documented
@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Checked once, here; raises UsageError.

    The steps, in this order: logit bias; repetition, presence and frequency penalties; no-repeat n-gram; temperature;
    top-k; typical; top-p; min-p; draw. See sampling.py."""

    temperature: float = _parameter(
        0.8,
        "Below 1 safer, above 1 bolder; 0: greedy.",
        *("-t", "--temperature", "--temp"),
        metavar="X",
        least=0,
        named={0: "greedy"},
        variable=True,
    )
    top_k: int = _parameter(40, "Draw from the N best; 0: off.", least=0, named={0: "off"}, variable=True)
    top_p: float = _parameter(0.95, "Draw from the best that reach mass X; 1: off.", **_MASS)
    min_p: float = _parameter(0.0, "Drop below X times the best; 0: off.", **_PART)
    typical: float = _parameter(1.0, "Typical sampling; 1: off.", "--typical", "--typical-p", **_MASS)
    repeat_penalty: float = _parameter(
        1.0, "Make repetition less likely; 1: off.", "--repeat-penalty", "--repetition-penalty", **_FACTOR
    )
    repeat_last_n: int = _parameter(
        64, "Tokens the repeat penalty looks back, prompt included; -1: all.", least=-1, named={-1: "all"}
    )
    presence_penalty: float = _parameter(0.0, "Subtracted from tokens that have been generated.", **_BIAS)
    frequency_penalty: float = _parameter(0.0, "The same, for each time they were.", **_BIAS)
    no_repeat_ngram: int = _parameter(
        0, "Never repeat N tokens in a row; 0: off.", "--no-repeat-ngram", "--no-repeat-ngram-size", **_COUNT
    )
    logit_bias: Mapping[int, float] = _parameter({}, "Added to the logits of these tokens; -inf bans one.")
    seed: int | None = _parameter(None, "Same seed, same text. Default: drawn.", "-s", "--seed", **_SEED)

    def __post_init__(self) -> None:
        _check(self)
        if not isinstance(self.logit_bias, Mapping):
            raise UsageError(f"`logit_bias` is {self.logit_bias!r}", "it must be a dictionary: token id -> number")
        for token, bias in self.logit_bias.items():
            if not is_whole(token):
                raise UsageError(f"`logit_bias` is for {token!r}", "a token is named by its id, a whole number")
            if not _is_number(bias) or not (abs(bias) <= _LARGE or bias == -inf):
                raise UsageError(
                    f"`logit_bias` is {bias} for {token}", "it must be from -1e9 to 1e9, or -inf to ban the token"
                )

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    def seeded(self) -> "Sampling":
        """The same with a seed, drawn where there was none."""
        if self.seed is not None:
            return self
        import secrets  # 8 ms, which a given seed does not pay

        return replace(self, seed=secrets.randbelow(_DRAWN))


_LENGTH = ("-n", "--max-tokens", "--n-predict", "--predict", "--max-new-tokens", "--length")
_STOP = ("--stop", "-r", "--reverse-prompt", "--truncate")
_ENDLESS: dict[str, Any] = {"least": 0, "none": -1, "variable": True}


@_documented
@dataclass(frozen=True)
class Limits:
    """Where a text ends, and what of it stays in the window. Checked once, here; raises UsageError."""

    max_tokens: int | None = _parameter(256, "Tokens to generate; -1: until interrupted.", *_LENGTH, **_ENDLESS)
    min_tokens: int = _parameter(0, "Do not end the text before N tokens.", least=0)
    max_length: int | None = _parameter(None, "Tokens of prompt and text together, at most.", least=1)
    stop: str | Sequence[str] = _parameter((), "End before TEXT; may be repeated.", *_STOP, metavar="TEXT")
    ignore_eos: bool = _parameter(False, "Never choose an end token.")
    keep: int = _parameter(
        0,
        "First tokens kept when the window is full; -1: the prompt.",
        least=-1,
        named={-1: "the prompt"},
        variable=True,
    )

    def __post_init__(self) -> None:
        stop: Any = (self.stop,) if isinstance(self.stop, str) else self.stop
        if not isinstance(stop, list | tuple) or not all(isinstance(one, str) for one in stop):
            raise UsageError(f"`stop` is {stop!r}", "`stop` must be a text, or a list of texts")
        object.__setattr__(self, "stop", tuple(stop))
        _check(self)
        if "" in self.stop:
            raise UsageError("`stop` holds an empty text", "give it some text, or leave it out")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise UsageError(
                f"`min_tokens` {self.min_tokens} is more than `max_tokens` {self.max_tokens}",
                "raise `max_tokens`, or lower `min_tokens`",
            )

    def tokens(self, prompt: int) -> int | None:
        """How many tokens may follow a prompt of so many; None: no matter how many. Raises CannotMeet and
        UsageError."""
        if self.max_length is None:
            return self.max_tokens
        room = self.max_length - prompt
        if room <= 0:
            raise CannotMeet(
                f"the prompt has {prompt} tokens already, `max_length` is {self.max_length}",
                f"`max_length` counts prompt and text together: use at least {prompt + 1}, or `max_tokens`",
            )
        if self.min_tokens > room:
            raise UsageError(
                f"`min_tokens` {self.min_tokens} is more than `max_length` {self.max_length} leaves",
                f"the prompt has {prompt} tokens: raise `max_length`, or lower `min_tokens`",
            )
        return room if self.max_tokens is None else min(self.max_tokens, room)

    def kept(self, prompt: int, window: int) -> int:
        """`keep` as a number of tokens. Raises CannotMeet where little would be left for the text."""
        tokens, most = prompt if self.keep == -1 else self.keep, most_kept(window)
        if tokens > most:
            what = f"`keep` -1 (the prompt's {prompt} tokens)" if self.keep == -1 else f"`keep` {self.keep}"
            raise CannotMeet(f"{what} leaves too little of the window of {window} tokens", f"keep at most {most}")
        return tokens


def most_kept(window: int) -> int:
    """Tokens of a window that may stay while a text goes on."""
    return min(window // 2, window - 1)
