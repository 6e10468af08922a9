"""Documents on disk."""

import os
from pathlib import Path

from gpt2cli import inputs, paths
from gpt2cli.repl.document import Document
from gpt2cli.terminal import Output


def save(document: Document, path: Path) -> bool:
    """Write the whole tree as JSON; the current text alone as Markdown or plain text where the name ends so. Returns
    whether it is the tree. Raises StorageError."""
    kind = path.suffix.lower()
    text = document.to_markdown() if kind == ".md" else document.text if kind == ".txt" else document.to_json()
    with Output(path) as output:
        output.write(text)
    return kind not in (".md", ".txt")


def load(path: Path) -> Document:
    """Raises UsageError where the file cannot be read, CannotMeet where it is not UTF-8, CorruptFile where it is no
    document."""
    return Document.from_json(inputs.file_text(path), f"'{path}'")


def matching(prefix: str) -> list[str]:
    """Names of files that begin with `prefix`, folders with a slash behind."""
    folder, name = os.path.split(prefix)
    try:
        entries = sorted(paths.user_path(folder or ".").iterdir())
    except OSError:
        return []
    hidden = name.startswith(".")
    return [
        str(Path(folder) / entry.name) + ("/" if entry.is_dir() else "")
        for entry in entries
        if entry.name.startswith(name) and (hidden or not entry.name.startswith("."))
    ]
