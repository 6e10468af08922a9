"""What can be typed after a slash: the table of commands, and completion."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from gpt2cli.errors import UsageError
from gpt2cli.repl import actions, explaining, files, layout
from gpt2cli.repl.desk import Desk
from gpt2cli.store import catalog

_META = 40  # cells of a text beside its name


@dataclass(frozen=True)
class Command:
    run: Callable[[Desk, str], None]
    usage: str
    help: str
    completes: str = ""  # what its argument is: a file, a model, a place, a setting, a command
    beside: bool = False  # in the row of the one before it, so that /help fits a terminal of 24 rows


def help_(desk: Desk, rest: str) -> None:
    wanted = [[_find(rest.removeprefix("/"))]] if rest else _together()
    usages = ["  ".join(f"/{name} {COMMANDS[name].usage}".rstrip() for name in names) for names in wanted]
    longest = max(map(len, usages))
    for usage, names in zip(usages, wanted, strict=True):
        what = "; ".join(COMMANDS[name].help for name in names)
        fits = longest + 2 + len(what) <= desk.screen.columns
        desk.screen.say(f"{usage:<{longest}}  {what}" if fits else f"{usage}\n    {what}")
    if not rest:
        desk.screen.say(_KEYS)


def _together() -> list[list[str]]:
    """The commands' names, those together that stand in one row."""
    found: list[list[str]] = []
    for name, command in COMMANDS.items():
        if command.beside:
            found[-1].append(name)
        else:
            found.append([name])
    return found


COMMANDS = {
    "help": Command(help_, "[COMMAND]", "this list", "command"),
    "retry": Command(actions.retry, "", "write the model's last text again, otherwise"),
    "undo": Command(actions.undo, "[N]", "take the last text back"),
    "redo": Command(actions.redo, "[N]", "bring it back", beside=True),
    "edit": Command(actions.edit, "", "the whole text in $VISUAL or $EDITOR"),
    "set": Command(actions.set_, "KEY VALUE", "change a setting: /set top-k 9", "setting"),
    "show": Command(actions.show, "[KEY]", "all settings", "setting", beside=True),
    "model": Command(actions.model, "[NAME]", "another model", "model"),
    "seed": Command(actions.seed, "[N]", "the seed of the next text", beside=True),
    "alternatives": Command(actions.alternatives, "[N]", "N continuations, of which you take one"),
    "branch": Command(actions.branch, "[NAME]", "name this place, to come back to it"),
    "branches": Command(actions.branches, "", "all versions of the text"),
    "goto": Command(actions.goto, "PLACE", "one, by name or number", "place", beside=True),
    "save": Command(actions.save, "[-f] FILE", "all branches as JSON; .md, .txt: the text", "file"),
    "load": Command(actions.load, "[-f] FILE", "a saved document", "file"),
    "restore": Command(actions.restore, "[-f]", "what was not saved last time", beside=True),
    "read": Command(actions.read, "FILE", "append the text of a file", "file"),
    "tokens": Command(actions.tokens, "", "what is fed"),
    "stats": Command(actions.stats, "", "context, speed", beside=True),
    "explain": Command(explaining.explain, "[N]", "why it says so", beside=True),
    "why": Command(actions.why, "[TOKEN CHOICE]", "how probable each token was; take another one"),
    "clear": Command(actions.clear, "", "a new text; this one stays a branch"),
    "exit": Command(actions.exit_, "", "leave", beside=True),
}
_ALIASES = {"?": "help", "quit": "exit", "bye": "exit", "q": "exit", "regen": "retry", "alt": "alternatives"}
_KEYS = """\
Enter: your text as typed (a new word begins with a space), then the model's.
Alt-Enter: a new line. \"\"\" begins and ends a block; // is a slash in the text.
Ctrl-C stops the model and keeps the text; Ctrl-R searches; Ctrl-D leaves."""


def run(desk: Desk, line: str) -> None:
    """Run a line that begins with a slash. Raises UserError, and EOFError to leave."""
    typed, _, rest = line[1:].partition(" ")
    name = _find(typed)
    if name != "exit":
        desk.screen.rule(line.strip())
    COMMANDS[name].run(desk, rest.lstrip() if name == "set" else rest.strip())


def _find(name: str) -> str:
    name = _ALIASES.get(name.strip(), name.strip())
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, [*COMMANDS, *_ALIASES], n=1)
        hint = f"did you mean /{near[0]}?" if near else "/help lists them;"
        raise UsageError(f"there is no command /{name}", f"{hint} a text that begins with a slash begins with //")
    return name


def complete(desk: Desk, line: str) -> tuple[int, list[tuple[str, str]]]:
    """How many characters at the end of `line` are replaced by which words, and what each of these is."""
    if not line.startswith("/") or "\n" in line:
        return 0, []
    name, space, rest = line[1:].partition(" ")
    if not space:
        return len(line), [(f"/{word}", command.help) for word, command in COMMANDS.items() if word.startswith(name)]
    kind = COMMANDS[name].completes if name in COMMANDS else ""
    if kind == "file":
        rest = rest.removeprefix("-f ")
        return len(rest), [(word, "") for word in files.matching(rest)]
    words = [(word, what) for word, what in _words(desk, kind).items() if word.startswith(rest)]
    return len(rest), words


def _words(desk: Desk, kind: str) -> dict[str, str]:
    """What an argument of this kind may be, and what that is."""
    document = desk.session.document
    match kind:
        case "command":
            return {name: command.help for name, command in COMMANDS.items()}
        case "model":
            return {name: catalog.find(name).description for name in catalog.names()}
        case "place":
            places = sorted(document.names.items())
            return {name: layout.last_words(document.text_at(place), _META) for name, place in places}
        case "setting":
            return desk.session.settings.shown()
    return {}
