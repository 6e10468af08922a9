"""Options as values: a verb takes groups of options, frozen dataclasses, and Typer sees their fields.

    @dataclass(frozen=True)
    class TalkOptions(Options):
        heading = "Messages"
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="...")] = False

    def show(name: Name, talk: TalkOptions) -> int: ...

    app.command("show")(spread(show))

A field of a group may be Sampling or Limits: their parameters become options of the same names, unless the group has a
field of such a name itself."""

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, cast, get_args, get_type_hints

import typer
from typer.models import ParameterInfo

from gpt2cli.errors import UsageError
from gpt2cli.generation.parameters import Parameter, parameters

Given = Callable[[str], bool]  # whether a parameter stands on the command line


class Options:
    """What a group is made from."""

    heading = "Options"  # in the help

    @classmethod
    def settle(cls, values: dict[str, Any], given: Given) -> None:
        """Change what was given where one option decides about another. Raises UsageError where they contradict."""


def given(context: typer.Context, name: str) -> bool:
    """Whether a parameter stands on the command line (not in the environment, and not in the config file)."""
    return _source(context, name) == "COMMANDLINE"


def spread(verb: Callable[..., int]) -> Callable[..., int]:
    """The verb, with the fields of its groups as parameters of their own."""
    hints = get_type_hints(verb, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, Options)}
    seen = [_parameter("context_", typer.Context)]
    for name, parameter in inspect.signature(verb).parameters.items():
        if name in groups:
            seen += _options(groups[name])
        elif hints[name] is not typer.Context:
            seen.append(_parameter(name, hints[name], parameter.default))

    @functools.wraps(verb)
    def called(context_: typer.Context, **values: Any) -> int:
        stands = functools.partial(given, context_)
        try:
            packed = {name: _packed(group, values, stands) for name, group in groups.items()}
        except UsageError as error:
            raise _blamed(error, context_) from None
        others = {name: values.get(name, context_) for name in hints if name not in packed and name != "return"}
        return verb(**others, **packed)

    called.__signature__ = inspect.Signature(seen)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in seen}
    return called


def _options(group: type[Options]) -> Iterator[inspect.Parameter]:
    """What Typer is to see of a group."""
    hints = get_type_hints(group, include_extras=True)
    for one in fields(group):  # type: ignore[arg-type]
        kind: Any = hints[one.name]
        if is_dataclass(kind):
            inner = parameters(cast(type[Any], kind))
            found = [(name, *_declared(name, *inner[name])) for name in inner if name not in hints]
        else:
            default = one.default if one.default_factory is MISSING else one.default_factory()
            found = [(one.name, *get_args(hints[one.name])[:2], default)]
        for name, kind, info, default in found:
            assert isinstance(info, ParameterInfo)
            info = copy(info)
            info.rich_help_panel = info.rich_help_panel or group.heading
            yield _parameter(name, Annotated[kind, info], default)


def _declared(name: str, parameter: Parameter, one: "Field[Any]") -> tuple[Any, Any, Any]:
    """Type, option and default for a parameter of Sampling or Limits."""
    kind: Any = list[str] if str in get_args(one.type) else one.type
    default: Any = [] if kind == list[str] else one.default
    option = typer.Option(
        *(parameter.flags or [f"--{name.replace('_', '-')}"]),
        metavar=None if kind is bool else parameter.metavar,
        envvar=f"GPT2_{name.upper()}" if parameter.variable else None,
        help=parameter.help,
        show_default=default not in (None, []),
    )
    return kind, option, default


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _packed(group: type[Options], values: dict[str, Any], stands: Given) -> Options:
    """The group as a value, of what Typer gave. Raises UsageError."""
    group.settle(values, stands)
    hints = get_type_hints(group)
    packed = {}
    for one in fields(group):  # type: ignore[arg-type]
        kind: Any = hints[one.name]
        if is_dataclass(kind):
            inner = {name: found for name, (found, _) in parameters(cast(type[Any], kind)).items() if name not in hints}
            packed[one.name] = _value(kind, inner, values)
        else:
            packed[one.name] = values[one.name]
    return group(**packed)


def _value(kind: Any, known: Mapping[str, Parameter], values: Mapping[str, Any]) -> Any:
    """Sampling or Limits. Raises UsageError."""
    given = {name: None if values[name] == one.none else values[name] for name, one in known.items()}
    try:
        return kind(**given)
    except UsageError as error:
        wrong = known.get(_blames(error))
        special = "" if wrong is None or wrong.none is None else f", or {wrong.none}"
        raise UsageError(error.message, error.hint + special) from None


def _blamed(error: UsageError, context: typer.Context) -> UsageError:
    """The error, with the environment variable from which the wrong value came."""
    name = _blames(error)
    if _source(context, name) != "ENVIRONMENT":
        return error
    return UsageError(error.message, f"unset GPT2_{name.upper()}, or give it another value: {error.hint}")


def _blames(error: UsageError) -> str:
    """The parameter whose value is wrong; empty where none is named."""
    found = re.match("`([a-z_]+)` is ", error.message)
    return found[1] if found else ""


def _source(context: typer.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    return source.name if source is not None else ""
