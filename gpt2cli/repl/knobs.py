"""How the model goes on: the options of `gpt2 generate` that /set changes, by their names without dashes."""

import difflib
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_args

from gpt2cli.console import formoptions, written
from gpt2cli.errors import UsageError
from gpt2cli.generation.forms import KINDS, Constraint
from gpt2cli.generation.parameters import MAX_SEED, Limits, Sampling, parameters

_KINDS = {name: kind for kind in (Limits, Sampling) for name in parameters(kind)}
_PARAMETERS = parameters(Limits) | parameters(Sampling)
_SHORT = {flag.lstrip("-"): name for name, (parameter, _) in _PARAMETERS.items() for flag in parameter.flags}
_SWITCH = {"on": True, "yes": True, "true": True, "1": True, "off": False, "no": False, "false": False, "0": False}

KEYS = tuple(name.replace("_", "-") for name in (*_PARAMETERS, *KINDS))


@dataclass(frozen=True)
class Settings:
    """Raises UsageError where a value is out of range."""

    sampling: Sampling
    limits: Limits = field(default_factory=Limits)  # keep -1: the first text
    logit_bias: tuple[str, ...] = ()  # TOKEN=X, of which each model makes ids of its own
    constraint: Constraint | None = None  # the form of each continuation

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
        if name in KINDS:
            others = self.constraint is not None and self.constraint.kind != name
            return self if value == "off" and others else replace(self, constraint=_constraint(name, value))
        try:
            parsed = _parsed(name, value)
        except ValueError:
            raise UsageError(f"'{value}' is no value for {key}", f"`{name}` must be {_range(name)}") from None
        if name == "logit_bias":
            return replace(self, logit_bias=parsed)
        if _KINDS[name] is Limits:
            return replace(self, limits=replace(self.limits, **{name: parsed}))
        return replace(self, sampling=replace(self.sampling, **{name: parsed}).seeded())

    def shown(self) -> dict[str, str]:
        """Keys and values, as /set takes them."""
        values = self._values()
        none = {name: parameter.none for name, (parameter, _) in _PARAMETERS.items()}
        shown = {name.replace("_", "-"): _text(values[name], none[name]) for name in _PARAMETERS}
        form = self.constraint
        says = {} if form is None else {form.kind: "|".join(form.choices) or " ".join(form.words.split("\n"))}
        return shown | {name.replace("_", "-"): says.get(name, "off") for name in KINDS}

    @staticmethod
    def name(key: str) -> str:
        """The setting's name as `shown` has it, whichever way it was written. Raises UsageError."""
        name = key.lstrip("-").replace("_", "-").lower()
        name = _SHORT.get(name, name).replace("_", "-")
        if name not in KEYS:
            near = difflib.get_close_matches(name, KEYS, n=1)
            raise UsageError(f"there is no setting '{key}'", f"did you mean {near[0]}?" if near else "/show lists them")
        return name

    def record(self) -> dict[str, Any]:
        """Plain data, without the seed: a node's settings."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in self._values().items()}
        del values["seed"]
        return values | ({"constraint": self.constraint.plain()} if self.constraint else {})

    def _values(self) -> dict[str, Any]:
        return asdict(self.sampling) | asdict(self.limits) | {"logit_bias": self.logit_bias}


def _constraint(kind: str, value: str) -> Constraint | None:
    """What /set says: an expression, a schema or a file of it, a grammar's file, or A|B. Raises UsageError."""
    if value == "off":
        return None
    if kind == "choice":
        return Constraint("choice", [written.text(one, escapes=True) for one in value.split("|")])
    return formoptions.read(kind, value)


def worded(text: str) -> str:
    """The library's words in the REPL: the parameter `top_k` is top-k there."""
    return re.sub("`([a-z_]+)`", lambda found: found[1].replace("_", "-"), text)


def _parsed(name: str, value: str) -> Any:
    """The value as the parameter takes it. Raises ValueError."""
    parameter, one = _PARAMETERS[name]
    kinds = get_args(one.type) or (one.type,)
    if name in ("logit_bias", "stop"):
        return () if value == "off" else (written.text(value, escapes=True),)
    if bool in kinds:
        if value.lower() not in _SWITCH:
            raise ValueError
        return _SWITCH[value.lower()]
    if type(None) in kinds and (value in _NONE or value == str(parameter.none)):
        return None
    return int(value) if int in kinds else float(value)


_NONE = ("off", "random")  # of a length there need be none; of the seed any


def _range(name: str) -> str:
    """What a value may be, in words."""
    parameter, one = _PARAMETERS[name]
    return "on or off" if one.type is bool else parameter.written


def _text(value: Any, none: int | None) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(one.encode("unicode_escape").decode() for one in value) or "off"
    if value is None:
        return "off" if none is None else str(none)
    return str(value)
