"""The document: a tree of texts, in which a path from the root to a node is one version of what has been written.

Nothing is ever removed from the tree: to undo is to go to the parent, and writing there begins a branch.

A saved document is JSON:

    {"format": "gpt2 document", "version": 1, "current": ID, "names": {NAME: ID, ...},
     "nodes": [{"id", "parent", "author": "you" | "model", "text", "ids", "model", "seed", "settings"}, ...]}

Ids are the nodes' places in the list, from 0; node 0 is the empty root, its own parent is null, and every other parent
stands before its children. "ids" are the tokens that `model` chose for `text` with `seed` and `settings`; of a text of
yours they are empty, `model` and `seed` null."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from gpt2cli.errors import CorruptFile, UsageError

FORMAT = "gpt2 document"
VERSION = 1

Author = Literal["you", "model"]


@dataclass(frozen=True)
class Node:
    """A piece of text, after its parent's."""

    id: int
    parent: int | None
    author: Author
    text: str
    ids: list[int] = field(default_factory=list)
    model: str | None = None
    seed: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


class Document:
    """The tree, and the node at which it is being written."""

    def __init__(self) -> None:
        self.nodes = [Node(0, None, "you", "")]
        self.current = 0
        self.names: dict[str, int] = {}  # of branches: the places to come back to
        self._next: dict[int, int] = {}  # the child that was visited last; what redo goes to
        self._lines: list[str] = []  # the nodes as JSON, as far as they have been asked for
        self._rewritten: dict[int, int] = {}  # where one stood when a rewritten text was begun; what undo goes to

    @property
    def text(self) -> str:
        return self.text_at(self.current)

    def text_at(self, node: int) -> str:
        """The version that ends with a node."""
        return "".join(step.text for step in self.path(node))

    def path(self, node: int | None = None) -> list[Node]:
        """The nodes from the root (left out) to `node`, the current one where none is given."""
        path = []
        place: int | None = self.current if node is None else node
        while place:
            path.append(self.nodes[place])
            place = self.nodes[place].parent
        return path[::-1]

    def append(self, author: Author, text: str, *, parent: int | None = None, **details: Any) -> Node:
        """A new node after `parent`, or after the current one; it becomes the current one. `details` are a Node's."""
        node = Node(len(self.nodes), self.current if parent is None else parent, author, text, **details)
        self.nodes.append(node)
        self.goto(node.id)
        return node

    def goto(self, node: int) -> None:
        """Make `node` the current one. Raises UsageError where there is none such."""
        if not 0 <= node < len(self.nodes):
            raise UsageError(f"there is no place {node}", f"places go from 0 (the beginning) to {len(self.nodes) - 1}")
        self.current = node
        for step in self.path():
            assert step.parent is not None
            self._next[step.parent] = step.id

    def undo(self) -> Node:
        """Go to the parent, or to the text that was rewritten; returns the node that was left. Raises UsageError at the
        beginning."""
        node = self.nodes[self.current]
        if node.parent is None:
            raise UsageError("there is nothing to undo", "this is the beginning of the document")
        before = self._rewritten.get(node.id)
        if before is None:
            self.current = node.parent
        else:
            self.goto(before)
            self._next[before] = node.id
        return node

    def redo(self) -> Node:
        """Go to the child visited last, else to the newest; returns it. Raises UsageError where there is none."""
        children = self.children(self.current)
        place = self._next.get(self.current, children[-1].id if children else None)
        if place is None:
            raise UsageError("there is nothing to redo", "this is the end of its branch; /branches lists the others")
        self.goto(place)
        return self.nodes[self.current]

    def children(self, node: int) -> list[Node]:
        return [child for child in self.nodes if child.parent == node]

    def branches(self) -> list[Node]:
        """The ends of the branches, the places with a name, and the current one, oldest first."""
        parents = {node.parent for node in self.nodes}
        marked = {*self.names.values(), self.current}
        return [node for node in self.nodes if (node.id and node.id not in parents) or node.id in marked]

    def name(self, name: str) -> None:
        """Give the current place a name. Raises UsageError for one that is taken or would be read as a number."""
        if not _is_name(name):
            raise UsageError(f"'{name}' cannot name a branch", "use one word that is not a number")
        if name in self.names and self.names[name] != self.current:
            raise UsageError(f"the name '{name}' is taken by place {self.names[name]}", "choose another")
        self.names[name] = self.current

    def names_of(self, node: int) -> list[str]:
        return [name for name, place in self.names.items() if place == node]

    def find(self, word: str) -> int:
        """The place with this name or number. Raises UsageError."""
        if word in self.names:
            return self.names[word]
        place = whole_number(word)
        if place is None or place >= len(self.nodes):
            raise UsageError(f"there is no branch or place '{word}'", "/branches lists them")
        return place

    def rewrite(self, text: str) -> None:
        """Make the current text `text`: what the path's nodes and it have in common stays theirs, the rest is a new
        node of yours. Does nothing where the texts are equal."""
        if text == self.text:
            return
        kept, node, before = "", 0, self.current
        for step in self.path():
            if not text.startswith(kept + step.text):
                break
            kept, node = kept + step.text, step.id
        self.goto(node)
        if rest := text[len(kept) :]:
            self._rewritten[self.append("you", rest).id] = before

    def to_json(self) -> str:
        """As the module describes it, a node a line."""
        for node in self.nodes[len(self._lines) :]:  # a node never changes
            self._lines.append(json.dumps(vars(node), ensure_ascii=False))
        head = {"format": FORMAT, "version": VERSION, "current": self.current, "names": self.names}
        nodes = ",\n".join(self._lines)
        return f'{json.dumps(head, ensure_ascii=False)[:-1]}, "nodes": [\n{nodes}\n]}}\n'

    @classmethod
    def from_json(cls, text: str, source: str) -> "Document":
        """What `to_json` wrote; `source` names it in errors. Raises CorruptFile for anything else."""
        hint = "give a file that /save has written; /read FILE appends a text"
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as reason:
            raise CorruptFile(f"{source} is no document: {reason}", hint) from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise CorruptFile(f'{source} is no document: "format" is not "{FORMAT}"', hint)
        if data.get("version") != VERSION:
            raise CorruptFile(
                f"{source} is a document of version {data.get('version')}, not {VERSION}", "a newer gpt2 has written it"
            )
        document = cls()
        try:
            document._fill(data)
        except (KeyError, TypeError, ValueError) as reason:
            what = f"{reason} is missing" if isinstance(reason, KeyError) else str(reason)
            raise CorruptFile(f"{source} is a broken document: {what}", hint) from None
        return document

    def _fill(self, data: dict[str, Any]) -> None:
        nodes = [_node(place, entry) for place, entry in enumerate(_of(list, data["nodes"], "nodes"))]
        _require(bool(nodes) and nodes[0].parent is None and not nodes[0].text, "node 0 is not an empty root")
        places = range(len(nodes))
        current, names = _of(int, data["current"], "current"), _of(dict, data["names"], "names")
        _require(current in places, f"current is {current}")
        for name, place in names.items():
            _require(_is_name(name), f"'{name[:40]}' cannot be a name")
            _require(_of(int, place, f"the place of '{name}'") in places, f"'{name}' names node {place}")
        self.nodes, self.names = nodes, names
        self.goto(current)

    def to_markdown(self) -> str:
        """The current text, what is yours in bold. A line break in it stays one."""
        parts = []
        for node in self.path():
            lines = [_escaped(line) for line in node.text.split("\n")]
            parts.append("\n".join(map(_bold, lines) if node.author == "you" else lines))
        # a single line break would be a space in Markdown
        return "".join(parts).replace("****", "").replace("\n", "  \n").rstrip() + "\n"


def whole_number(word: str) -> int | None:
    """A number as people write it; None for anything else."""
    return int(word) if word.isascii() and word.isdigit() and len(word) < 16 else None


def _is_name(name: str) -> bool:
    """One word that could not be a number, and moves no cursor."""
    return bool(name) and name.isprintable() and not name.isdigit() and len(name.split()) == 1


def _bold(line: str) -> str:
    """In asterisks, which may not stand beside white space."""
    core = line.strip()
    return line.replace(core, f"**{core}**", 1) if core else line


def _escaped(line: str) -> str:
    return "".join(f"\\{character}" if character in "\\`*_[]<>#" else character for character in line)


def _node(place: int, entry: Any) -> Node:
    entry = _of(dict, entry, f"node {place}")
    what = f"of node {place}"
    node = Node(
        id=_of(int, entry["id"], f"the id {what}"),
        parent=None if entry["parent"] is None else _of(int, entry["parent"], f"the parent {what}"),
        author=entry["author"],
        text=_of(str, entry["text"], f"the text {what}"),
        ids=[_of(int, token, f"a token {what}") for token in _of(list, entry["ids"], f"ids {what}")],
        model=None if entry["model"] is None else _of(str, entry["model"], f"the model {what}"),
        seed=None if entry["seed"] is None else _of(int, entry["seed"], f"the seed {what}"),
        settings=_of(dict, entry["settings"], f"settings {what}"),
    )
    _require(node.id == place, f"node {place} has the id {node.id}")
    _require((node.parent is None) == (place == 0), f"node {place} has the parent {node.parent}")
    _require(node.parent is None or 0 <= node.parent < place, f"node {place} has the parent {node.parent}")
    _require(node.author in get_args(Author), f"the author {what} is {node.author}")
    _require(min(node.ids, default=0) >= 0, f"a token {what} is negative")
    node.text.encode()  # half of a surrogate pair raises ValueError
    return node


def _of(kind: type, value: Any, what: str) -> Any:
    _require(isinstance(value, kind) and not isinstance(value, bool), f"{what} is {json.dumps(value)[:40]}")
    return value


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)
