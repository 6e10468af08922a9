"""One process at a time: the locks of models, and of downloads in the hub's cache."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt2cli import paths
from gpt2cli.errors import StorageError
from gpt2cli.store import hubcache

# Seconds. A download of gpt2-xl on a slow line takes hours; nobody waits for one that has hung for a day.
_PATIENCE = 6 * 3600


@contextmanager
def held(model: str, note: Callable[[str], None], download: Path | None = None) -> Iterator[None]:
    """One process at a time prepares a model, or touches a download of the hub's cache, whose lock is given. The others
    say so and wait. Raises StorageError."""
    from filelock import FileLock, Timeout  # 20 ms that a cached model does not pay

    path = download or model_path(digest(model))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        guard = FileLock(path)
        try:
            guard.acquire(timeout=0)
        except Timeout:
            note(f"another process is preparing {model}: waiting for it")
            guard.acquire(timeout=_PATIENCE, poll_interval=0.1)
    except Timeout:
        raise StorageError(f"another process has held {path} for hours", "end it, and try again") from None
    except OSError as error:
        raise unwritable(path.parent, error, hubcache.setting() if download else "GPT2_CACHE") from None
    try:
        yield
    finally:
        guard.release()


@contextmanager
def unless_held(path: Path) -> Iterator[bool]:
    """Holds a lock if nobody else does; gives whether it does. Raises StorageError."""
    from filelock import FileLock, Timeout

    guard = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        guard.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise StorageError(
            f"cannot lock {path}: {error.strerror or error}", "make its folder writable, or let its owner do this"
        ) from None
    try:
        yield True
    finally:
        guard.release()


def digest(model: str) -> str:
    """The name of a model's lock."""
    return hashlib.sha256(model.encode(errors="surrogatepass")).hexdigest()[:16]


def model_path(name: str) -> Path:
    """The file of a model's lock, which has this name."""
    return paths.cache() / "locks" / f"{name}.lock"


def file_path(file: Path) -> Path:
    """The file of the lock of a file of the user's that grows: with what is temporary, where there is no cache that can
    be written."""
    name = digest(str(file.resolve()))
    with contextlib.suppress(StorageError):
        path = model_path(name)
        if paths.is_writable(path.parent):
            return path
    user = getattr(os, "getuid", int)()  # elsewhere everybody has a folder of his own
    return Path(tempfile.gettempdir()) / f"gpt2-{user}-{name}.lock"


def unwritable(folder: Path, error: OSError, setting: str = "GPT2_CACHE") -> StorageError:
    """What to raise where a cache, which `setting` can move, cannot be written."""
    return StorageError(
        f"cannot write to the cache {folder}: {error.strerror or error}",
        f"make it writable, or make room, or set {setting} to another folder",
    )
