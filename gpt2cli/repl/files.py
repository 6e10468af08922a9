"""Documents on disk."""

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2cli import paths
from gpt2cli.console import inputs
from gpt2cli.console.outputs import Output
from gpt2cli.errors import StorageError
from gpt2cli.repl.document import Document

if TYPE_CHECKING:
    from filelock import BaseFileLock

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


class Drafts:
    """The folder of texts that are not saved: each REPL has a file of its own there, which grows with its text. A lock
    beside it says that its REPL still runs."""

    def __init__(self, folder: Path | None) -> None:
        """Without a folder a text is only written when it is kept at the end."""
        self._folder = folder
        self._path: Path | None = None
        self._lock: BaseFileLock | None = None

    def write(self, document: Document) -> None:
        """The text as it is now. Where that cannot be, it is for `keep` to find another place."""
        if self._folder is not None:
            with contextlib.suppress(OSError, StorageError):
                save(document, self._path or self._begin(self._folder))

    def _begin(self, folder: Path) -> Path:
        from filelock import FileLock, Timeout  # 20 ms

        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / _name()
        lock = FileLock(_lock(self._path), timeout=1)
        with contextlib.suppress(OSError, NotImplementedError, Timeout):  # not every file system has locks
            lock.acquire()
            self._lock = lock
        return self._path

    def keep(self, document: Document) -> Path:
        """Write the text for the last time, into the system's folder for temporary files where it cannot stay here;
        only the last ten stay. Returns the path. Raises StorageError."""
        try:
            if self._folder is None:
                raise StorageError("there is no folder", "")
            save(document, path := self._path or self._begin(self._folder))
        except (OSError, StorageError):
            path = Path(tempfile.mkdtemp(prefix="gpt2-unsaved-")) / _name()  # only its owner reads it
            save(document, path)
        self._release()
        for old in self.others()[:-_KEPT]:
            _remove(old)
        return path

    def drop(self) -> None:
        """The text is saved, or there is none."""
        if self._path:
            _remove(self._path)
        self._release()

    def _release(self) -> None:
        if self._lock and self._path:
            with contextlib.suppress(OSError):
                self._lock.release()
            _remove(_lock(self._path))
        self._path = self._lock = None

    def others(self) -> list[Path]:
        """The texts of those REPLs that have left, oldest first."""
        return [path for path in sorted(self._folder.glob("*-*.json")) if not _is_live(path)] if self._folder else []


def _name() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.json"


def _lock(path: Path) -> Path:
    return path.with_suffix(".lock")


def _is_live(path: Path) -> bool:
    """Whether a REPL writes there."""
    lock = _lock(path)
    if not lock.exists():
        return False
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock, timeout=0):
            _remove(lock)  # its owner was killed
    except Timeout:
        return True
    except (OSError, NotImplementedError):  # nobody can hold one here
        return False
    return False


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


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
