"""What the commands do. Each is a function (desk, the rest of the line)."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from gpt2cli import paths
from gpt2cli.console import editor, inputs
from gpt2cli.drawing.cells import width
from gpt2cli.errors import StorageError, UsageError, UserError
from gpt2cli.repl import files, layout
from gpt2cli.repl.desk import Desk
from gpt2cli.repl.document import whole_number

_CONSIDERED = 5  # tokens that /why shows beside the chosen one
_SHOWN = 64  # tokens that /tokens lists


def retry(desk: Desk, rest: str) -> None:
    document = desk.session.document
    node = document.nodes[document.current]
    if node.author == "model" and node.parent is not None:
        document.goto(node.parent)
    desk.show(most=3)
    desk.go_on()


def undo(desk: Desk, rest: str) -> None:
    _steps(desk, desk.session.document.undo, _number(rest, 1, "/undo 2"))


def redo(desk: Desk, rest: str) -> None:
    _steps(desk, desk.session.document.redo, _number(rest, 1, "/redo 2"))


def _steps(desk: Desk, step: Callable[[], object], count: int) -> None:
    """As many as there are. Raises UsageError where there is none."""
    step()
    with contextlib.suppress(UsageError):
        for _ in range(count - 1):
            step()
    desk.show()


def edit(desk: Desk, rest: str) -> None:
    before = desk.session.document.text
    after = _edited(desk, before)
    if after == f"{before}\n":  # editors end the last line
        after = before
    elif not before.endswith("\n"):
        after = after.removesuffix("\n")
    desk.session.document.rewrite(after)
    desk.show()


def set_(desk: Desk, rest: str) -> None:
    key, _, value = rest.partition(" ")
    if not value:
        return show(desk, key)
    desk.session.change(desk.session.settings.changed(key, value))
    return None


def show(desk: Desk, rest: str) -> None:
    values = desk.session.settings.shown()
    wanted = desk.session.settings.name(rest) if rest else ""
    model = desk.session.model
    if not rest:
        desk.screen.say(f"{'model':<18}{model.name} {model.precision} on {model.device}")
    for key, value in values.items():
        if wanted in ("", key):
            desk.screen.say(f"{key:<18}{value}")


def model(desk: Desk, rest: str) -> None:
    if rest:
        desk.session.use(desk.open_model(rest))
    opened = desk.session.model
    desk.screen.say(f"{opened.name} {opened.precision}, window {opened.engine.window} tokens")


def seed(desk: Desk, rest: str) -> None:
    if rest:
        desk.session.change(desk.session.settings.changed("seed", rest))
    desk.screen.say(f"the next continuation has the seed {desk.session.settings.seed}")


def alternatives(desk: Desk, rest: str) -> None:
    count = _number(rest, 3, "/alternatives 4")
    document = desk.session.document
    place, known = document.current, len(document.nodes)
    desk.screen.say(f"{count} alternatives; Ctrl-C shows what there is ...")
    finish = desk.write(count)
    nodes = document.nodes[known:]
    document.goto(place)
    if not nodes and finish == "interrupted":
        return desk.screen.say("nothing was written yet")
    if not nodes:
        raise UsageError("nothing was added", "the model ended every text at once; /retry, or /set ignore-eos on")
    desk.screen.say(layout.last_words(document.text, desk.screen.columns))
    for line in layout.alternatives([node.text for node in nodes], desk.screen.columns):
        desk.screen.say(line)
    while answer := desk.screen.ask(f"which one? [1-{len(nodes)}, Enter: none] ").strip():
        choice = whole_number(answer)
        if choice and choice <= len(nodes):
            document.goto(nodes[choice - 1].id)
            return desk.screen.text(nodes[choice - 1].text, yours=False)
        desk.screen.error(f"there is no alternative '{answer}'", "a number, or Enter: /goto takes one later")
    return None


def branch(desk: Desk, rest: str) -> None:
    document = desk.session.document
    name = rest
    if not name:
        numbers = (f"b{number}" for number in range(1, len(document.names) + 2))
        name = next(candidate for candidate in numbers if candidate not in document.names)
    document.name(name)
    desk.screen.say(f"this place is called {name}: /goto {name} comes back to it")


def branches(desk: Desk, rest: str) -> None:
    document = desk.session.document
    if not document.nodes[1:]:
        return desk.screen.say("there are no branches yet: nothing has been written")
    for node in document.branches():
        mark = "*" if node.id == document.current else " "
        label = " ".join([str(node.id), *document.names_of(node.id)])
        room = desk.screen.columns - width(label) - 4
        desk.screen.say(f"{mark} {label}  {layout.last_words(document.text_at(node.id), room)}".rstrip())
    return None


def goto(desk: Desk, rest: str) -> None:
    if not rest:
        raise UsageError("/goto needs a place", "/branches lists them; 0 is the beginning")
    desk.session.document.goto(desk.session.document.find(rest))
    desk.show()


def save(desk: Desk, rest: str) -> None:
    force = rest == "-f" or rest.startswith("-f ")
    name = rest.removeprefix("-f").strip() if force else rest
    path = paths.user_path(name) if name else desk.file
    if path is None:
        raise UsageError("/save needs a file", "/save FILE.json; .md is Markdown, .txt the text alone")
    if files.state(path) and path != desk.file and not force:
        raise StorageError(f"'{path}' is there already", f"/save -f {path} replaces it")
    if desk.overtaken(path) and not force:
        raise StorageError(
            f"'{path}' has changed since it was read", f"/save OTHER keeps both, /save -f {path} replaces it"
        )
    if files.save(desk.session.document, path):
        desk.at(path)
    desk.screen.say(f"saved: {path}")


def load(desk: Desk, rest: str) -> None:
    force = rest.startswith("-f ")
    name = rest.removeprefix("-f").strip() if force else rest
    if not name:
        raise UsageError("/load needs a file", "/load FILE.json")
    if desk.changed and not force:
        raise UsageError("the document is not saved", f"/save FILE first, or drop it: /load -f {name}")
    path = paths.user_path(name)
    desk.session.document = files.load(path)
    desk.at(path)
    desk.show()
    desk.say_cut()


def restore(desk: Desk, rest: str) -> None:
    kept = desk.drafts.others() if desk.drafts else []
    if not kept:
        raise UsageError("no unsaved text is kept", "/load FILE opens a saved one")
    if desk.changed and rest != "-f":
        raise UsageError("the document is not saved", "/save FILE first, or drop it: /restore -f")
    desk.session.document = files.load(kept[-1])
    desk.at(None)
    desk.show()
    desk.say_cut()


def read(desk: Desk, rest: str) -> None:
    if not rest:
        raise UsageError("/read needs a file", "/read FILE appends its text")
    text = inputs.read_file(paths.user_path(rest))
    known = len(desk.session.ids())
    if text:
        desk.session.document.append("you", text)
    desk.show()
    desk.say_cut(known)


def tokens(desk: Desk, rest: str) -> None:
    session, tokenizer = desk.session, desk.session.model.tokenizer
    ids = session.ids()
    characters = len(session.document.text)
    window = session.model.engine.window
    desk.screen.say(f"{len(ids)} tokens, {characters} characters; {len(session.context())} of {window} are fed")
    line = "" if len(ids) <= _SHOWN else "..."
    for token in ids[-_SHOWN:]:
        word = f"{token} {layout.quoted(token, tokenizer)}"
        if line and width(line) + 2 + width(word) > desk.screen.columns:
            desk.screen.say(line)
            line = ""
        line = f"{line}  {word}" if line else word
    if line:
        desk.screen.say(line)


def why(desk: Desk, rest: str) -> None:
    session = desk.session
    considered = session.why(_CONSIDERED)
    node = session.document.nodes[session.document.current]
    first = len(node.ids) - len(considered)  # of a text longer than the window only the end is known
    if not rest:
        ids = node.ids[first:]
        for line in layout.why(ids, considered, session.model.tokenizer, desk.screen.columns, first + 1):
            desk.screen.say(line)
        desk.screen.say("/why TOKEN CHOICE takes another token there and goes on: /why 3 1")
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
    desk.show(most=3)
    desk.go_on()


def stats(desk: Desk, rest: str) -> None:
    session = desk.session
    opened, done = session.model, session.stats
    used, window = len(session.context()), opened.engine.window
    document = session.document
    desk.screen.say(f"{opened.name} {opened.precision} on {opened.device} · context {used} of {window} tokens")
    desk.screen.say(f"{len(document.nodes) - 1} texts in the tree, {len(document.path())} on this branch")
    if done:
        desk.screen.say(
            f"last: seed {done.seed}, {done.tokens} tokens in {done.total_s:.2f} s ({done.speed:.1f}/s);"
            f" of {done.fed + done.reused} before them {done.reused} were in the cache"
        )


def clear(desk: Desk, rest: str) -> None:
    desk.session.document.goto(0)
    desk.screen.say("an empty page; /redo goes back, /branches lists what there was")
    desk.show()


def exit_(desk: Desk, rest: str) -> None:
    raise EOFError


def _number(rest: str, default: int, example: str) -> int:
    if not rest:
        return default
    number = whole_number(rest)
    if not number:
        raise UsageError(f"'{rest[:40]}' is not a number above 0", f"for example {example}")
    return number


def _edited(desk: Desk, text: str) -> str:
    """What the user's editor made of a text. Raises UsageError and CannotMeet; what was written then stays."""
    folder = Path(tempfile.mkdtemp(prefix="gpt2-"))
    path = folder / "document.txt"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        with desk.screen.aside():
            editor.run(path)
        edited = inputs.file_text(path)
    except UserError as error:
        if not path.exists() or path.read_bytes() == text.encode():
            shutil.rmtree(folder, ignore_errors=True)
            raise type(error)(error.message, "the document is as it was; set EDITOR to use another one") from None
        raise type(error)(error.message, f"what you wrote is in {path}: /read {path}") from None
    shutil.rmtree(folder, ignore_errors=True)
    return edited
