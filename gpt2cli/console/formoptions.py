"""The form that a text must have, as options."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from gpt2cli import paths
from gpt2cli.console import inputs, written
from gpt2cli.console.groups import Options
from gpt2cli.errors import UsageError
from gpt2cli.generation.forms import Constraint, is_json

_HEADING = "Form of the text"


@dataclass(frozen=True)
class FormOptions(Options):
    """Part of a group that says how long texts are; in the help under a heading of their own."""

    regex: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="The text matches this regular expression, as a whole.",
            rich_help_panel=_HEADING,
            show_default=False,
        ),
    ] = None
    json_schema: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|TEXT",
            help="The text is JSON of this schema; in short: 'name, age int'.",
            rich_help_panel=_HEADING,
            show_default=False,
        ),
    ] = None
    grammar: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The text follows the grammar in FILE, Lark's or GBNF.",
            rich_help_panel=_HEADING,
            show_default=False,
        ),
    ] = None
    choice: Annotated[
        list[str],
        typer.Option(
            metavar="TEXT",
            help="The text is TEXT, or another --choice. With JSON: how probable each is.",
            rich_help_panel=_HEADING,
            show_default=False,
        ),
    ] = field(default_factory=list)

    def __post_init__(self) -> None:
        given = [f"--{name.replace('_', '-')}" for name in self._names if getattr(self, name) not in (None, [])]
        if len(given) > 1:
            raise UsageError(f"{given[0]} contradicts {given[1]}", "a text has one form: leave one out")

    _names = ("regex", "json_schema", "grammar", "choice")

    def constraint(self, *, escapes: bool) -> Constraint | None:
        """None where any text will do. Raises UsageError and CannotMeet."""
        for kind, value in (("regex", self.regex), ("json_schema", self.json_schema), ("grammar", self.grammar)):
            if value is not None:
                return read(kind, str(value))
        if self.choice:
            return Constraint("choice", [written.text(one, escapes=escapes) for one in self.choice])
        return None


def read(kind: str, value: str) -> Constraint:
    """A regular expression, a schema or its file, or the file of a grammar. Raises UsageError and CannotMeet."""
    if kind == "regex":
        return Constraint("regex", written.text(value, escapes=False))
    if kind == "json_schema":
        return Constraint("json_schema", _schema(value))
    return Constraint("grammar", inputs.read_file(paths.user_path(value)))


def _schema(given: str) -> str:
    """JSON, the name of a file, or fields in short. Raises UsageError and CannotMeet."""
    if is_json(given) or "\n" in given:
        return given
    path = paths.user_path(given)
    if path.suffix == ".json" or path.is_file():
        return inputs.read_file(path)
    return given
