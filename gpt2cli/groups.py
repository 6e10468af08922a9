"""Options as values: a verb takes groups of options, frozen dataclasses, and Typer sees their fields.

    @dataclass(frozen=True)
    class TalkOptions:
        heading = "Messages"
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="...")] = False

    def show(name: Name, talk: TalkOptions) -> int: ...

    app.command("show")(spread(show))

A field of a group may be Sampling or Limits: their parameters become options of the same names."""

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_args, get_type_hints

import typer
from typer.models import ParameterInfo

from gpt2cli.errors import UsageError
from gpt2cli.parameters import Parameter, parameters

Verb = Callable[..., int]


def spread(verb: Verb) -> Verb:
    """The verb, with the fields of its groups as parameters of their own."""
    hints = get_type_hints(verb, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    found = [inspect.Parameter("context_", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for name, parameter in inspect.signature(verb).parameters.items():
        if name in groups:
            found += _options(groups[name])
        else:
            found.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))

    @functools.wraps(verb)
    def called(context_: typer.Context, **values: Any) -> int:
        try:
            packed = {name: _packed(group, values) for name, group in groups.items()}
        except UsageError as error:
            raise _blamed(error, context_) from None
        return verb(**{name: values[name] for name in hints.keys() & values.keys() - packed.keys()}, **packed)

    called.__signature__ = inspect.Signature(found)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in found}
    return called


def _options(group: type[Any]) -> Iterator[inspect.Parameter]:
    """What Typer is to see of a group."""
    heading = str(group.heading)
    hints = get_type_hints(group, include_extras=True)
    for one in fields(group):
        hint = hints[one.name]
        if is_dataclass(hint):
            for name, (parameter, inner) in parameters(hint).items():
                if name not in hints:  # else the group writes it in its own way
                    annotation = _from_parameter(name, parameter, inner.type, inner.default)
                    yield _option(name, annotation, heading, inner.default)
        else:
            yield _option(one.name, hint, heading, one.default)


def _option(name: str, annotation: Any, heading: str, default: Any) -> inspect.Parameter:
    kind, info = get_args(annotation)[:2]
    assert isinstance(info, ParameterInfo)
    info = copy(info)
    info.rich_help_panel = heading
    keyword = inspect.Parameter.KEYWORD_ONLY
    default = [] if default == () else default
    return inspect.Parameter(name, keyword, annotation=Annotated[kind, info], default=default)


def _from_parameter(name: str, parameter: Parameter, kind: Any, default: Any) -> Any:
    """An option for a parameter of Sampling or Limits."""
    if str in get_args(kind):
        kind = list[str]
    return Annotated[
        kind,
        typer.Option(
            *(parameter.flags or [f"--{name.replace('_', '-')}"]),
            metavar=None if kind is bool else parameter.metavar,
            envvar=f"GPT2_{name.upper()}" if parameter.variable else None,
            help=parameter.help,
            show_default=default not in (None, ()),
        ),
    ]


def _packed(group: type[Any], values: Mapping[str, Any]) -> Any:
    """The group as a value, of what Typer gave. Raises UsageError."""
    if known := parameters(group):
        given = {name: values[name] for name in known if name in values}
        return group(**{name: None if value == known[name][0].none else value for name, value in given.items()})
    hints = get_type_hints(group)
    inner = {name for name, hint in hints.items() if is_dataclass(hint)}
    others = {name: value for name, value in values.items() if name not in hints}
    return group(
        **{one.name: _packed(hints[one.name], others) if one.name in inner else values[one.name] for one in fields(group)}
    )


def _blamed(error: UsageError, context: typer.Context) -> UsageError:
    """The error, and the environment variable from which a wrong value came."""
    found = re.match("`([a-z_]+)`", error.message)
    source = context.get_parameter_source(found[1]) if found else None
    if found is None or source is None or source.name != "ENVIRONMENT":
        return error
    return UsageError(error.message, f"unset GPT2_{found[1].upper()}, or give it another value: {error.hint}")
