"""What the commands do. Each is a function (repl, the rest of the line)."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2cli import paths
from gpt2cli.console import editor, inputs
from gpt2cli.errors import StorageError, UsageError, UserError
from gpt2cli.repl import files, layout
from gpt2cli.repl.document import whole_number

if TYPE_CHECKING:
    from gpt2cli.repl.loop import Repl

_CONSIDERED = 5  # tokens that /why shows beside the chosen one
_SHOWN = 64  # tokens that /tokens lists


def retry(repl: "Repl", rest: str) -> None:
    document = repl.session.document
    node = document.nodes[document.current]
    if node.author == "model" and node.parent is not None:
        document.goto(node.parent)
    repl.show(most=3)
    repl.go_on()


def undo(repl: "Repl", rest: str) -> None:
    _steps(repl, repl.session.document.undo, _number(rest, 1, "/undo 2"))


def redo(repl: "Repl", rest: str) -> None:
    _steps(repl, repl.session.document.redo, _number(rest, 1, "/redo 2"))


def _steps(repl: "Repl", step: Callable[[], object], count: int) -> None:
    """As many as there are. Raises UsageError where there is none."""
    step()
    with contextlib.suppress(UsageError):
        for _ in range(count - 1):
            step()
    repl.show()


def edit(repl: "Repl", rest: str) -> None:
    before = repl.session.document.text
    after = _edited(repl, before)
    if after == f"{before}\n":  # editors end the last line
        after = before
    elif not before.endswith("\n"):
        after = after.removesuffix("\n")
    repl.session.document.rewrite(after)
    repl.show()


def set_(repl: "Repl", rest: str) -> None:
    key, _, value = rest.partition(" ")
    if not value:
        return show(repl, key)
    repl.session.change(repl.session.settings.changed(key, value))
    return None


def show(repl: "Repl", rest: str) -> None:
    values = repl.session.settings.shown()
    wanted = repl.session.settings.name(rest) if rest else ""
    model = repl.session.model
    if not rest:
        repl.screen.say(f"{'model':<18}{model.name} {model.precision} on {model.device}")
    for key, value in values.items():
        if wanted in ("", key):
            repl.screen.say(f"{key:<18}{value}")


def model(repl: "Repl", rest: str) -> None:
    if rest:
        repl.session.use(repl.open_model(rest))
    opened = repl.session.model
    repl.screen.say(f"{opened.name} {opened.precision}, window {opened.engine.window} tokens")


def seed(repl: "Repl", rest: str) -> None:
    if rest:
        repl.session.change(repl.session.settings.changed("seed", rest))
    repl.screen.say(f"the next continuation has the seed {repl.session.settings.seed}")


def alternatives(repl: "Repl", rest: str) -> None:
    count = _number(rest, 3, "/alternatives 4")
    document = repl.session.document
    place, known = document.current, len(document.nodes)
    repl.screen.say(f"{count} alternatives; Ctrl-C shows what there is ...")
    finish = repl.write(count)
    nodes = document.nodes[known:]
    document.goto(place)
    if not nodes and finish == "interrupted":
        return repl.screen.say("nothing was written yet")
    if not nodes:
        raise UsageError("nothing was added", "the model ended every text at once; /retry, or /set ignore-eos on")
    repl.screen.say(_ending(document.text, repl.screen.columns))
    for line in layout.alternatives([node.text for node in nodes], repl.screen.columns):
        repl.screen.say(line)
    while answer := repl.screen.ask(f"which one? [1-{len(nodes)}, Enter: none] ").strip():
        choice = whole_number(answer)
        if choice and choice <= len(nodes):
            document.goto(nodes[choice - 1].id)
            return repl.screen.text(nodes[choice - 1].text, yours=False)
        repl.screen.error(f"there is no alternative '{answer}'", "a number, or Enter: /goto takes one later")
    return None


def branch(repl: "Repl", rest: str) -> None:
    document = repl.session.document
    name = rest
    if not name:
        numbers = (f"b{number}" for number in range(1, len(document.names) + 2))
        name = next(candidate for candidate in numbers if candidate not in document.names)
    document.name(name)
    repl.screen.say(f"this place is called {name}: /goto {name} comes back to it")


def branches(repl: "Repl", rest: str) -> None:
    document = repl.session.document
    nodes = document.branches()
    if not nodes:
        repl.screen.say("there are no branches yet: nothing has been written")
    for node in nodes:
        mark = "*" if node.id == document.current else " "
        label = " ".join([str(node.id), *document.names_of(node.id)])
        text = "".join(step.text for step in document.path(node.id))
        room = repl.screen.columns - len(label) - 4
        repl.screen.say(f"{mark} {label}  {_ending(text, room)}")


def goto(repl: "Repl", rest: str) -> None:
    if not rest:
        raise UsageError("/goto needs a place", "/branches lists them; 0 is the beginning")
    repl.session.document.goto(repl.session.document.find(rest))
    repl.show()


def save(repl: "Repl", rest: str) -> None:
    force = rest == "-f" or rest.startswith("-f ")
    name = rest.removeprefix("-f").strip() if force else rest
    path = paths.user_path(name) if name else repl.file
    if path is None:
        raise UsageError("/save needs a file", "/save FILE.json; .md is Markdown, .txt the text alone")
    if files.state(path) and path != repl.file and not force:
        raise StorageError(f"'{path}' is there already", f"/save -f {path} replaces it")
    if repl.overtaken(path) and not force:
        raise StorageError(
            f"'{path}' has changed since it was read", f"/save OTHER keeps both, /save -f {path} replaces it"
        )
    if files.save(repl.session.document, path):
        repl.at(path)
    repl.screen.say(f"saved: {path}")


def load(repl: "Repl", rest: str) -> None:
    force = rest.startswith("-f ")
    name = rest.removeprefix("-f").strip() if force else rest
    if not name:
        raise UsageError("/load needs a file", "/load FILE.json")
    if repl.changed and not force:
        raise UsageError("the document is not saved", f"/save FILE first, or drop it: /load -f {name}")
    path = paths.user_path(name)
    repl.session.document = files.load(path)
    repl.at(path)
    repl.show()


def restore(repl: "Repl", rest: str) -> None:
    kept = files.kept(repl.drafts) if repl.drafts else []
    if not kept:
        raise UsageError("no unsaved text is kept", "/load FILE opens a saved one")
    if repl.changed and rest != "-f":
        raise UsageError("the document is not saved", "/save FILE first, or drop it: /restore -f")
    repl.session.document = files.load(kept[-1])
    repl.at(None)
    repl.show()


def read(repl: "Repl", rest: str) -> None:
    if not rest:
        raise UsageError("/read needs a file", "/read FILE appends its text")
    text = inputs.read_file(paths.user_path(rest))
    if text:
        repl.session.document.append("you", text)
    repl.show()


def tokens(repl: "Repl", rest: str) -> None:
    session, tokenizer = repl.session, repl.session.model.tokenizer
    ids = session.ids()
    characters = len(session.document.text)
    window = session.model.engine.window
    repl.screen.say(f"{len(ids)} tokens, {characters} characters; {len(session.context())} of {window} are fed")
    line = "" if len(ids) <= _SHOWN else "..."
    for token in ids[-_SHOWN:]:
        word = f"{token} {layout.quoted(token, tokenizer)}"
        if line and layout.width(line) + 2 + layout.width(word) > repl.screen.columns:
            repl.screen.say(line)
            line = ""
        line = f"{line}  {word}" if line else word
    if line:
        repl.screen.say(line)


def why(repl: "Repl", rest: str) -> None:
    session = repl.session
    considered = session.why(_CONSIDERED)
    node = session.document.nodes[session.document.current]
    first = len(node.ids) - len(considered)  # of a text longer than the window only the end is known
    if not rest:
        ids = node.ids[first:]
        for line in layout.why(ids, considered, session.model.tokenizer, repl.screen.columns, first + 1):
            repl.screen.say(line)
        repl.screen.say("/why TOKEN CHOICE takes another token there and goes on: /why 3 1")
        return
    words = [whole_number(word) for word in rest.split()]
    if len(words) != 2 or None in words:
        raise UsageError(
            f"/why '{rest}' is not two numbers", "the token's and the choice's, as /why shows them: /why 3 1"
        )
    token, choice = (word or 0 for word in words)
    if not first < token <= len(node.ids):
        raise UsageError(f"there is no token {token}", f"tokens go from {first + 1} to {len(node.ids)}")
    top = considered[token - 1 - first].top
    if not 0 < choice <= len(top):
        raise UsageError(f"there is no choice {choice}", f"choices go from 1 to {len(top)}")
    session.choose_instead(token - 1, top[choice - 1][0])
    repl.show(most=3)
    repl.go_on()


def stats(repl: "Repl", rest: str) -> None:
    session = repl.session
    opened, done = session.model, session.stats
    used, window = len(session.context()), opened.engine.window
    document = session.document
    repl.screen.say(f"{opened.name} {opened.precision} on {opened.device} · context {used} of {window} tokens")
    repl.screen.say(f"{len(document.nodes) - 1} texts in the tree, {len(document.path())} on this branch")
    if done:
        repl.screen.say(
            f"last: seed {done.seed}, {done.tokens} tokens in {done.total_s:.2f} s ({done.speed:.1f}/s);"
            f" of {done.fed + done.reused} before them {done.reused} were in the cache"
        )


def clear(repl: "Repl", rest: str) -> None:
    repl.session.document.goto(0)
    repl.screen.say("an empty page; /redo goes back, /branches lists what there was")
    repl.show()


def exit_(repl: "Repl", rest: str) -> None:
    raise EOFError


def _number(rest: str, default: int, example: str) -> int:
    if not rest:
        return default
    number = whole_number(rest)
    if not number:
        raise UsageError(f"'{rest[:40]}' is not a number above 0", f"for example {example}")
    return number


def _ending(text: str, room: int) -> str:
    """The end of a text on one line."""
    flat = " ".join(text.split())
    while layout.width(flat) > max(4, room):
        flat = "…" + flat[2 + (layout.width(flat) - room) // 4 :]
    return flat


def _edited(repl: "Repl", text: str) -> str:
    """What the user's editor made of a text. Raises UsageError and CannotMeet; what was written then stays."""
    folder = Path(tempfile.mkdtemp(prefix="gpt2-"))
    path = folder / "document.txt"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        with repl.screen.aside():
            editor.run(path)
        edited = inputs.file_text(path)
    except UserError as error:
        if not path.exists() or path.read_bytes() == text.encode():
            shutil.rmtree(folder, ignore_errors=True)
            raise type(error)(error.message, "the document is as it was; set EDITOR to use another one") from None
        raise type(error)(error.message, f"what you wrote is in {path}: /read {path}") from None
    shutil.rmtree(folder, ignore_errors=True)
    return edited
