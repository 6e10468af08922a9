"""What can be typed after a slash: the table of commands, and completion."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpt2cli.errors import UsageError
from gpt2cli.repl import actions, files
from gpt2cli.repl.knobs import KEYS
from gpt2cli.store import catalog

if TYPE_CHECKING:
    from gpt2cli.repl.loop import Repl


@dataclass(frozen=True)
class Command:
    run: Callable[["Repl", str], None]
    usage: str
    help: str
    completes: str = ""  # what its argument is: a file, a model, a place, a setting, a command


def help_(repl: "Repl", rest: str) -> None:
    wanted = [_find(rest.removeprefix("/"))] if rest else list(COMMANDS)
    usages = {name: f"/{name} {COMMANDS[name].usage}".rstrip() for name in wanted}
    longest = max(map(len, usages.values()))
    for name in wanted:
        help_text = COMMANDS[name].help
        if longest + 2 + len(help_text) <= repl.screen.columns:
            repl.screen.say(f"{usages[name]:<{longest}}  {help_text}")
        else:
            repl.screen.say(f"{usages[name]}\n    {help_text}")
    if not rest:
        repl.screen.say(_KEYS)


COMMANDS = {
    "help": Command(help_, "[COMMAND]", "this list", "command"),
    "retry": Command(actions.retry, "", "write the model's last text again, otherwise"),
    "undo": Command(actions.undo, "[N]", "take the last text back, the model's or yours"),
    "redo": Command(actions.redo, "[N]", "bring it back"),
    "edit": Command(actions.edit, "", "the whole text in $VISUAL or $EDITOR"),
    "set": Command(actions.set_, "KEY VALUE", "change a setting: /set temperature 0.7", "setting"),
    "show": Command(actions.show, "[KEY]", "the settings", "setting"),
    "model": Command(actions.model, "[NAME]", "go on with another model", "model"),
    "seed": Command(actions.seed, "[N]", "the seed of the next continuation"),
    "alternatives": Command(actions.alternatives, "[N]", "N continuations, of which you take one"),
    "branch": Command(actions.branch, "[NAME]", "name this place, to come back to it"),
    "branches": Command(actions.branches, "", "every version of the text"),
    "goto": Command(actions.goto, "PLACE", "to a branch, by its name or number", "place"),
    "save": Command(actions.save, "[-f] FILE", "all branches as JSON; .md, .txt: the text", "file"),
    "load": Command(actions.load, "[-f] FILE", "a saved document", "file"),
    "restore": Command(actions.restore, "[-f]", "what was not saved when you last left"),
    "read": Command(actions.read, "FILE", "append the text of a file", "file"),
    "tokens": Command(actions.tokens, "", "the text as the model sees it"),
    "why": Command(actions.why, "[TOKEN CHOICE]", "how probable each token was; take another one"),
    "stats": Command(actions.stats, "", "context, speed and cache"),
    "clear": Command(actions.clear, "", "a new text; this one stays a branch"),
    "exit": Command(actions.exit_, "", "leave"),
}
_ALIASES = {"?": "help", "quit": "exit", "bye": "exit", "q": "exit", "regen": "retry", "alt": "alternatives"}
_KEYS = """\
Enter  the text goes on, yours as typed (a new word begins with a space), then the model's; empty: the model's alone
Alt-Enter  a new line; \"\"\" begins and ends a block of lines; // is a slash that begins a text
Ctrl-C  stops the model and keeps the text; Ctrl-R  searches; Ctrl-D  leaves"""


def run(repl: "Repl", line: str) -> None:
    """Run a line that begins with a slash. Raises UserError, and EOFError to leave."""
    typed, _, rest = line[1:].partition(" ")
    name = _find(typed)
    if name != "exit":
        repl.screen.rule(line.strip())
    COMMANDS[name].run(repl, rest.lstrip() if name == "set" else rest.strip())


def _find(name: str) -> str:
    name = _ALIASES.get(name.strip(), name.strip())
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, [*COMMANDS, *_ALIASES], n=1)
        hint = f"did you mean /{near[0]}?" if near else "/help lists them;"
        raise UsageError(f"there is no command /{name}", f"{hint} a text that begins with a slash begins with //")
    return name


def complete(repl: "Repl", line: str) -> tuple[int, list[str]]:
    """How many characters at the end of `line` are replaced by which words."""
    if not line.startswith("/") or "\n" in line:
        return 0, []
    name, space, rest = line[1:].partition(" ")
    if not space:
        return len(line), [f"/{command}" for command in COMMANDS if command.startswith(name)]
    kind = COMMANDS[name].completes if name in COMMANDS else ""
    rest = rest.removeprefix("-f ") if kind == "file" else rest
    if kind == "file":
        return len(rest), files.matching(rest)
    words = {
        "command": list(COMMANDS),
        "model": catalog.names(),
        "place": sorted(repl.session.document.names),
        "setting": list(KEYS),
    }.get(kind, [])
    return len(rest), [word for word in words if word.startswith(rest)]
