"""Documents on disk."""

import contextlib
import os
import tempfile
import time
from pathlib import Path

from gpt2cli import paths
from gpt2cli.console import inputs
from gpt2cli.console.terminal import Output
from gpt2cli.errors import StorageError
from gpt2cli.repl.document import Document

_KEPT = 10


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


def state(path: Path) -> tuple[int, int] | None:
    """Changes when the file does; None where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size


def keep(document: Document, folder: Path | None) -> Path:
    """Write a document that was not saved into a file of its own in `folder`, where the last ten stay; into the
    system's folder for temporary files where there is none, or it cannot be. Returns the path. Raises StorageError."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.json"
    if folder is not None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            save(document, folder / name)
        except (OSError, StorageError):
            folder = None
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="gpt2-unsaved-"))  # only its owner reads it
        save(document, folder / name)
    for old in kept(folder)[:-_KEPT]:
        with contextlib.suppress(OSError):
            old.unlink()
    return folder / name


def kept(folder: Path) -> list[Path]:
    """What `keep` wrote, oldest first."""
    return sorted(folder.glob("*-*.json"))


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
