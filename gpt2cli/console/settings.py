"""The settings: every option with an environment variable, of any command, is also a key of the config file.

Typer decides between flag, environment, file and default; here it is only handed what the file says. A key is the
variable's name without GPT2_, in small letters, which is also the parameter's name."""

import contextlib
import difflib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import typer
from typer.core import TyperOption

from gpt2cli.console import configfile, help
from gpt2cli.errors import UsageError, UserError
from gpt2cli.generation.parameters import Limits, Sampling, parameters


@dataclass(frozen=True)
class Setting:
    """A key with the value that commands take now. `origin` is default, environment or file; `place` is the variable
    or FILE:LINE that says so, empty for a default."""

    key: str
    value: Any
    origin: str
    place: str


def known(context: typer.Context) -> dict[str, TyperOption]:
    """Every option with an environment variable, of any command, by its parameter's name; in the order of the help."""
    found: dict[str, TyperOption] = {}
    for command in getattr(context.find_root().command, "commands", {}).values():
        for option in command.params:
            if option.name and _variable(option):
                found.setdefault(option.name, option)
    return found


def _variable(option: Any) -> bool:
    return str(option.envvar).startswith("GPT2_")


class Command(help.Command):
    """A command whose options fall back on the config file, which is read when the first of them does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            ctx.default_map = _File(ctx, {option.name for option in self.params if _variable(option)})
        return super().parse_args(ctx, args)

    def get_help(self, ctx: Any) -> str:
        ctx.default_map = None  # help is about the program, and works when the file is broken
        return super().get_help(ctx)


class _File(dict[str, Any]):
    """What Typer asks for defaults."""

    def __init__(self, context: typer.Context, keys: Container[str | None]) -> None:
        """`keys` are those that may be asked for; nothing else opens the file."""
        super().__init__()
        self._context, self._keys = context, keys

    @cached_property
    def _options(self) -> dict[str, TyperOption]:
        return known(self._context)

    @cached_property
    def _values(self) -> Mapping[str, object]:
        values = configfile.read()  # where it is empty no command is built but the one that runs
        for key in values:
            if key not in self._options:
                configfile.broken(key, f"no setting '{key}'", _nearest(key, self._options))
        return values

    def get(self, key: str, default: Any = None) -> Any:
        if key not in self._keys or key not in self._values:
            return default
        try:
            return checked(self._options[key], self._values[key])
        except UsageError as error:
            configfile.broken(key, error.message, error.hint)


def find(context: typer.Context, key: str) -> TyperOption:
    """The option of a key, which may be written like the flag, with dashes. Raises UsageError with the nearest key."""
    options = known(context)
    name = key.replace("-", "_")
    if name not in options:
        raise UsageError(f"no setting '{key}'", _nearest(name, options) or "gpt2 config lists the settings")
    return options[name]


def current(context: typer.Context) -> list[Setting]:
    """What every setting is now, and why. Raises what a command would: CorruptFile for the file, Typer's errors for the
    environment."""
    file = _File(context, known(context))
    return [_setting(context, file, key) for key in known(context)]


def model(context: typer.Context) -> str | None:
    """The model that commands take now; None where nobody named one, or what names it is wrong."""
    with contextlib.suppress(UserError, typer.BadParameter):
        return named_model(context)
    return None


def named_model(context: typer.Context) -> str | None:
    """The same; what is wrong is raised."""
    value = _setting(context, _File(context, ("model",)), "model").value
    return None if value is None else str(value)


def _setting(context: typer.Context, file: "_File", key: str) -> Setting:
    option = known(context)[key]
    with typer.Context(context.command, parent=context.find_root()) as inner:
        inner.default_map = file
        value, _ = option.handle_parse_result(inner, {}, [])
        source = inner.get_parameter_source(key)
    origin = {"ENVIRONMENT": "environment", "DEFAULT_MAP": "file"}.get(source.name if source else "", "default")
    place = configfile.place(key) if origin == "file" else str(option.envvar) if origin == "environment" else ""
    return Setting(key, value, origin, place)


def checked(option: TyperOption, value: object) -> Any:
    """The value as the option takes it. Raises UsageError, with the nearest right value where there are words."""
    text = "a number"
    try:
        text = str(value).lower() if isinstance(value, bool) else str(value)  # not of thousands of hexadecimal digits
        if not isinstance(value, str | int | float):
            raise ValueError("not a text and not a number")
        converted = option.type.convert(text, option, None)  # from text: 40.5 and true are no whole numbers
    except (typer.BadParameter, ValueError) as error:
        reason = getattr(error, "message", str(error)).partition(". ")[0].rstrip(".")  # without a list of all words
        raise UsageError(f"{option.name} = {text}: {reason}", _range(option)) from None
    _check_meaning(str(option.name), converted)
    return converted


def _range(option: TyperOption) -> str:
    """What a value may be, in words."""
    key = str(option.name)
    for kind in (Sampling, Limits):
        if key in (found := parameters(kind)):
            return f"`{key}` must be {found[key][0].written}"
    return "choose true or false" if option.is_flag else option.help or ""


def _check_meaning(key: str, value: Any) -> None:
    if key == "model" and not value:
        raise UsageError("the model's name is empty", "gpt2 list shows the models")
    if key in ("precision", "device"):
        from gpt2cli.export.names import DEVICES, PRECISIONS

        words = DEVICES if key == "device" else ("auto", *PRECISIONS)
        if value not in words:
            near = _nearest(value, words) if key == "precision" else ""  # gpu is nearer to cpu than to cuda
            raise UsageError(f"no {key} '{value}'", near or f"choose {', '.join(words)}")
        return
    for kind in (Sampling, Limits):
        found = parameters(kind)
        if key in found and value != found[key][0].none:
            try:
                kind(**{key: value})
            except UsageError as error:
                raise UsageError(error.message, f"`{key}` must be {found[key][0].written}") from None


def _nearest(word: str, words: Any) -> str:
    close = difflib.get_close_matches(word.lower(), words, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else ""
