"""gpt2 config: the settings, and the file that keeps them."""

import json
import os
from typing import Annotated, Any

import typer

from gpt2cli import paths
from gpt2cli.console import choices, editor, help, settings, terminal
from gpt2cli.console import configfile as file
from gpt2cli.console import options as o
from gpt2cli.console.settings import Setting
from gpt2cli.errors import UnknownModel, UsageError

MORE = """\
Without a command: each value and where it came from. A flag wins over its environment variable, that over the file,
and the file over the default."""
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 config
  gpt2 config set model distilgpt2
  gpt2 config get temperature
  gpt2 config unset model
"""
_LIST = """\b
Examples:
  gpt2 config list
  gpt2 config list --json | jq -r '.[] | select(.origin != "default") | .key'
"""
_GET = """\b
Examples:
  gpt2 config get model
  GPT2_TOP_K=5 gpt2 config get top_k --json
"""
_SET = """\b
Examples:
  gpt2 config set model distilgpt2
  gpt2 config set max_tokens -1
"""
_UNSET = """\b
Example:
  gpt2 config unset model
"""
_PATH = """\b
Examples:
  gpt2 config path
  cp "$(gpt2 config path)" backup.toml
"""
_EDIT = """\b
Examples:
  gpt2 config edit
  EDITOR="code --wait" gpt2 config edit
"""

app = typer.Typer(cls=help.Group, epilog=EXAMPLES)


def _keys(context: typer.Context, incomplete: str) -> choices.Choices:
    known = settings.known(context)
    return [(name, option.help or "") for name, option in known.items() if name.startswith(incomplete)]


def _values(context: typer.Context, incomplete: str) -> choices.Choices:
    """Of the setting that the word before names."""
    option = settings.known(context).get(str(context.params.get("key")).replace("-", "_"))
    if option is None:
        return []
    if option.is_flag:
        return [(word, "") for word in ("true", "false") if word.startswith(incomplete)]
    return [(one.value, one.help or "") for one in option.shell_complete(context, incomplete)]


Key = Annotated[str, typer.Argument(metavar="KEY", help="A setting of `gpt2 config`.", autocompletion=_keys)]
Value = Annotated[str, typer.Argument(metavar="VALUE", help="Its value.", autocompletion=_values)]


@app.callback(invoke_without_command=True)
def config(context: typer.Context, as_json: o.Json = False) -> int:
    if context.invoked_subcommand is None:
        return list_(context, as_json=as_json)
    if as_json:
        command = context.invoked_subcommand
        hint = f"write: gpt2 config {command} ... --json" if command in ("list", "get") else "leave it out"
        raise UsageError("--json before the command", hint)
    return 0


@app.command("list", cls=help.Command, help="Show each value and where it came from.", epilog=_LIST)
def list_(context: typer.Context, as_json: o.Json = False) -> int:
    current = settings.current(context)
    if as_json:
        terminal.say_json([_row(setting) for setting in current])
    else:
        rows = [(one.key, _shown(context, one), one.place or one.origin) for one in current]
        terminal.say_table(("SETTING", "VALUE", "FROM"), rows)
    return 0


@app.command("get", cls=help.Command, help="Print the value that commands take now.", epilog=_GET)
def get(context: typer.Context, key: Key, as_json: o.Json = False) -> int:
    name = settings.find(context, key).name
    setting = next(one for one in settings.current(context) if one.key == name)
    if as_json:
        terminal.say_json(_row(setting))
    else:
        terminal.say_out(_shown(context, setting))
    return 0


# a value may be -1
@app.command(
    "set",
    cls=help.Command,
    help="Write a setting into the file.",
    epilog=_SET,
    context_settings={"ignore_unknown_options": True},
)
def set_(context: typer.Context, key: Key, value: Value) -> int:
    option = settings.find(context, key)
    name = str(option.name)
    file.change(name, _model(value) if name == "model" else settings.checked(option, value))
    if os.environ.get(str(option.envvar)):
        terminal.note(f"{option.envvar}={os.environ[str(option.envvar)]} in the environment wins over it")
    return 0


@app.command("unset", cls=help.Command, help="Take a setting out of the file.", epilog=_UNSET)
def unset(context: typer.Context, key: Key) -> int:
    name = key if key in file.read() else settings.find(context, key).name  # also a key that is no setting
    file.change(str(name), None)
    return 0


@app.command("path", cls=help.Command, help="Print where the file is, or would be.", epilog=_PATH)
def path() -> int:
    terminal.say_out(str(paths.config()))
    return 0


@app.command("edit", cls=help.Command, help="Open the file in $VISUAL or $EDITOR.", epilog=_EDIT)
def edit(context: typer.Context) -> int:
    where = paths.config()
    if not os.access(where, os.F_OK):
        file.write(_template(context))
    editor.run(where)
    settings.current(context)  # complain now, not when a text is wanted
    return 0


def _row(setting: Setting) -> dict[str, Any]:
    return {"key": setting.key, "value": setting.value, "origin": setting.origin, "place": setting.place or None}


def _shown(context: typer.Context, setting: Setting) -> str:
    """A value for people; where it is None, what the option's help says: gpt2, drawn."""
    if setting.value is None:
        return str(settings.find(context, setting.key).help).rpartition("Default: ")[2].rstrip(".")
    return str(setting.value).lower() if isinstance(setting.value, bool) else str(setting.value)


def _model(name: str) -> str:
    """The model's name, as it has to be in the file: a folder from the root. Raises UsageError."""
    from gpt2cli.store import sources

    try:
        source = sources.resolve(name, terminal.note)
    except UnknownModel as error:
        raise UsageError(error.message, error.hint) from None
    return name if source.repository or source.entry else source.model


def _template(context: typer.Context) -> str:
    """A file that changes nothing, with every setting as a comment."""
    lines = ["# Settings of gpt2. A flag or an environment variable wins over them.", ""]
    for key, option in settings.known(context).items():
        lines.append(f"# {option.help}")
        lines.append(f"# {key} = {json.dumps('' if option.default is None else option.default)}")
        lines.append("")
    return "\n".join(lines)
