"""The Typer app, and main(argv) -> exit code: the one place where errors become words."""

import functools
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

import gpt2cli
from gpt2cli.console import help, inputs, settings, terminal
from gpt2cli.console.groups import spread
from gpt2cli.errors import (
    EXIT_BROKEN_PIPE,
    EXIT_INTERRUPTED,
    BrokenPipe,
    StorageError,
    Terminated,
    UserError,
)

# What one wants a model for, and what there is besides, with the line that --help has for each: so it imports none.
_WORK = {
    "generate": "Continue a text, streaming.",
    "repl": "Write a text together with a model.",
    "serve": "Serve a model over HTTP, with a page to write on.",
    "tokens": "Split text into tokens, count them, or put ids together again.",
    "score": "Score texts: each line, each argument, or each file as a whole.",
    "eval": "Measure a model: on the usual tasks, or on items of your own.",
    "embed": "Turn texts into vectors: lines, arguments, or whole files.",
    "explain": "Show what the model made of a text, and why it says so.",
    "compare": "Compare prompts: what follows each, exactly or in samples.",
    "batch": "Answer each row of a file, many at a time, whatever crashes.",
    "finetune": "Train a model on your texts: files, folders, lines of JSONL.",
    "replay": "Make a text again from its receipt, and compare.",
}
_BESIDES = {
    "Models": {
        "pull": "Download models, check and mend every byte, export them.",
        "list": "List the catalogue, and the models on this machine.",
        "show": "Show a model: origin, shape, device, files, exports, results.",
        "verify": "Check downloads and exports: hashes, and a self-test.",
        "rm": "Remove exports of models, with --downloads the rest, and models that were trained here.",
        "prune": "Remove stale exports, and what interrupted work left.",
        "export": "Write a model as a folder of ONNX that runs anywhere.",
        "bench": "Measure prompt processing and generation.",
    },
    "Settings": {
        "config": "Show and change settings.",
        "completion": "Print or install the completion of a shell.",
    },
}
_LINES = {name: line for part in (_WORK, *_BESIDES.values()) for name, line in part.items()}
COMMANDS = tuple(_LINES)
_DELETING = ("rm", "prune")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gpt2cli {gpt2cli.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _tree(name: str | None = None) -> Any:
    """Typer's tree, with this command of all."""
    app = typer.Typer(
        name="gpt2",
        cls=help.Group,
        help="The command line for GPT-2. `gpt2 help COMMAND` shows examples.",
        rich_markup_mode=None,
        add_completion=False,  # `gpt2 completion` does it
        pretty_exceptions_enable=False,
        no_args_is_help=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": help.WIDTH},
    )
    app.callback()(_root)
    if name is not None:
        module = importlib.import_module(f"gpt2cli.commands.{name}")
        text = f"{_LINES[name]}\n\n{getattr(module, 'MORE', '')}".rstrip()
        if group := getattr(module, "app", None):
            app.add_typer(group, name=name, help=text)
        else:
            verb = spread(getattr(module, name))
            app.command(name, cls=settings.Command, help=text, epilog=module.EXAMPLES)(verb)
    return typer.main.get_command(app)


class _Commands(dict[str, Any]):
    """The commands by name. One is imported and built when it is asked for: none pays for the others."""

    def __getitem__(self, name: str) -> Any:
        if super().__getitem__(name) is None:
            self[name] = _tree(name).commands[name]
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401 - that would be this method

    def values(self) -> Any:
        return [self[name] for name in self]

    def items(self) -> Any:
        return [(name, self[name]) for name in self]


@functools.cache
def command() -> Any:
    """The tree of Typer's commands."""
    tree = _tree()
    tree.commands = _Commands(dict.fromkeys(COMMANDS))
    tree.lines, tree.besides = _WORK, _BESIDES
    return tree


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code. Text on a pipe and no arguments mean `generate`."""
    try:
        asks_help = list(argv[:1]) == ["help"]
        words = list(argv[1:] if asks_help else argv)
        if "_GPT2_COMPLETE" in os.environ:  # a script of completions/ asks
            from gpt2cli.commands import completion

            return completion.answer(command(), words, os.environ.get("_GPT2_WORD", ""))
        if asks_help:
            words.append("--help")
        return int(command()(words or _bare(), prog_name="gpt2", standalone_mode=False) or 0)
    except UserError as error:
        if os.environ.get("GPT2_DEBUG"):
            raise
        terminal.error(error.message, error.hint)
        return error.exit_code
    except typer.TyperException as error:
        return _usage_error(error, argv)
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipe:
        terminal.silence_stdout()
        return EXIT_BROKEN_PIPE
    except Terminated as leaving:
        return leaving.exit_code
    except SystemExit as leaving:  # how Typer ends completion, and help that nobody reads any more
        if not isinstance(leaving.__context__, BrokenPipeError):
            return int(leaving.code or 0)
        terminal.silence_stdout()
        return EXIT_BROKEN_PIPE
    except Exception as error:
        if os.environ.get("GPT2_DEBUG"):
            raise
        if isinstance(error.__context__, KeyboardInterrupt | Terminated):  # a lock that was cut off in its waiting
            return getattr(error.__context__, "exit_code", EXIT_INTERRUPTED)
        if isinstance(error, OSError):  # not foreseen where it happened, but the system says what is wrong
            terminal.silence_stdout()
            unnamed = "the working folder" if isinstance(error, FileNotFoundError) else "stdout"
            where = f"'{error.filename}'" if error.filename else unnamed
            terminal.error(f"{where}: {error.strerror or error}", "check the path, its permissions and the free space")
            return StorageError.exit_code
        terminal.error(
            f"unexpected {type(error).__name__}: {error}",
            "this is a bug: run again with GPT2_DEBUG=1 and report it",
        )
        return 1


def _bare() -> list[str]:
    """`echo text | gpt2` generates; with nothing to read, help."""
    if sys.stdin is None or sys.stdin.isatty():
        return ["--help"]
    try:
        inputs.note_silence(terminal.note)
        waiting = sys.stdin.buffer.peek(1)  # type: ignore[union-attr]
    except (OSError, ValueError, AttributeError):
        waiting = b""
    return ["generate"] if waiting else ["--help"]


def _usage_error(error: typer.TyperException, argv: Sequence[str]) -> int:
    """Typer's own complaint (an unknown option or command, a value of the wrong type) in our two lines."""
    render = getattr(error, "format_message", None)
    message = (render() if render else str(error)).rstrip(".")
    near = getattr(error, "possibilities", None)
    command = (getattr(getattr(error, "ctx", None), "command_path", None) or _path(argv)).strip()
    hint = f"{command} --help lists the options"
    option = getattr(error, "option_name", "")
    if command == "gpt2" and (owner := _owner(option)):
        hint = f"options follow a command: gpt2 {owner} {option} ..."
    elif variable := _variable(error):
        hint = f"unset {variable}, or give it another value"
    elif near:
        message = str(error)
        hint = f"did you mean {' or '.join(sorted(near))}? {hint}"
    elif message.startswith("No such option") and command != "gpt2":
        hint = f"{hint}; text that begins with a dash goes after --: {command} -- TEXT"
    elif message.startswith("No such command"):
        message = message.partition(". Did")[0]
        word = message.partition("'")[2].rstrip("'")
        if close := _near(word.lower(), _subcommands(error)):
            hint = f"did you mean {command} {close}?"
        elif command == "gpt2":
            hint = f'gpt2 help lists the commands; to continue a text: gpt2 generate "{word}"'
    terminal.error(f"{message[:1].lower()}{message[1:]}", hint)
    return int(getattr(error, "exit_code", 2))


def _path(argv: Sequence[str]) -> str:
    """The command that the words begin with, where an error does not say which it is of."""
    path, found = "gpt2", command()
    for word in argv:
        below = getattr(found, "commands", {})
        if word not in below:
            break
        path, found = f"{path} {word}", below[word]
    return path


def _owner(option: str) -> str | None:
    """The first command that has this option."""
    commands = command().commands
    return next((name for name in COMMANDS if any(option in one.opts for one in commands[name].params)), None)


def _variable(error: typer.TyperException) -> str:
    """The environment variable that gave the wrong value; empty where none did. Typer's words name it in any case."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    if context is None or parameter is None:
        return ""
    source = context.get_parameter_source(parameter.name)
    return str(parameter.envvar) if source is not None and source.name == "ENVIRONMENT" else ""


def _near(word: str, names: Sequence[str]) -> str | None:
    """The command that was meant: one that is begun, or in which a letter is missing, wrong or too many, or two are
    swapped. Nobody is led to one that deletes."""

    def near(name: str) -> bool:
        if len(word) > 2 and (name.startswith(word) or word.startswith(name)):
            return True
        same = next(
            (place for place, (a, b) in enumerate(zip(word, name, strict=False)) if a != b), min(len(word), len(name))
        )
        said, meant = word[same:], name[same:]
        swapped = said[:2] == meant[:2][::-1] and said[2:] == meant[2:]
        return swapped or said[1:] in (meant, meant[1:]) or said == meant[1:]

    return next((name for name in names if near(name) and name not in _DELETING), None)


def _subcommands(error: typer.TyperException) -> list[str]:
    """The commands among which the unknown one was looked for."""
    return list(getattr(getattr(error, "cmd", None), "commands", COMMANDS))
