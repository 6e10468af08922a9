"""Our own cache: a folder for each exported model, complete or not there.

A folder is written beside its place under a name with a leading dot, and renamed. `export.json` in it says what it is
and the size and sha256 of every other file. Whatever is under way for a model happens under the model's lock."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2cli import paths
from gpt2cli.errors import StorageError, UserError
from gpt2cli.export import TOKENIZER_FILES, VERSION, export

MANIFEST = "export.json"
Progress = Callable[[str, int, int], None]  # (title, bytes done, bytes in all)

# A download of gpt2-xl on a slow line takes hours; nobody waits for one that has hung for a day.
_LOCK_SECONDS = 6 * 3600


@dataclass(frozen=True)
class Export:
    """A cached export, as its manifest says."""

    folder: Path
    model: str  # a repository of the hub, or the path of a folder
    revision: str | None  # a commit of the hub; None for a folder
    precision: str
    version: int
    files: dict[str, dict[str, Any]]  # name -> {"size", "sha256"}

    @property
    def nbytes(self) -> int:
        return sum(facts["size"] for facts in self.files.values())

    @property
    def stale(self) -> bool:
        """Made by another version of the exporter, or from a folder that is gone."""
        return self.version != VERSION or (self.revision is None and not Path(self.model).is_dir())


def read(folder: Path) -> Export | None:
    """The manifest of a folder; None where it is no complete export."""
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        found = Export(folder=folder, **facts)
        complete = all((folder / name).stat().st_size == facts["size"] for name, facts in found.files.items())
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if complete else None


def cached() -> list[Export]:
    """Every complete export in the cache, sorted by folder."""
    return [found for folder in _folders() if not folder.name.startswith(".") and (found := read(folder))]


def leftovers() -> list[Path]:
    """What interrupted work left, and folders that are no complete exports; nothing that is being written now."""
    broken = [folder for folder in _folders() if folder.name.startswith(".") or not read(folder)]
    return [folder for folder in broken if not (folder.name.startswith(".") and locked(folder.name.split(".")[1]))]


def _folders() -> list[Path]:
    try:
        return sorted(path for path in paths.exports().iterdir() if path.is_dir())
    except OSError:
        return []


def is_folder(model: str) -> bool:
    """Whether the cache's name of a model is a folder's path (and not a repository)."""
    return Path(model).is_absolute()


def folder_for(model: str, precision: str, key: str) -> Path:
    """Where the export of a model lies. `key` changes when its files do; so does the name with the exporter."""
    last = Path(model).name if is_folder(model) else model.replace("/", "--")
    digest = hashlib.sha256(f"{VERSION}\n{model}\n{key}".encode()).hexdigest()[:16]
    return paths.exports() / f"{last[-60:].lstrip('.-')}-{precision}-{digest}"


def make(
    checkpoint: Path, target: Path, *, model: str, revision: str | None, precision: str, progress: Progress, title: str
) -> None:
    """Export a checkpoint into `target`; whoever calls holds the lock. Raises as `export`, and StorageError."""
    part = target.with_name(f".{digest_of(model)}.{target.name}")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of somebody who was killed
        part.mkdir(parents=True)
        for done, total in export(checkpoint, part, precision):
            progress(f"exporting {title} ({precision})", done, total)
        files = {path.name: _facts(path) for path in sorted(part.iterdir())}
        manifest = {
            "model": model,
            "revision": revision,
            "precision": precision,
            "version": VERSION,
            "files": files,
        }
        (part / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        if target.exists():  # somebody emptied it
            shutil.rmtree(target)
        part.rename(target)
    except OSError as error:
        raise _unwritable(target.parent, error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def own_precision(folder: Path) -> str | None:
    """int8 or fp32 for a folder that is an export of ours (from the names in the weight file's header), else None."""
    if not all((folder / name).exists() for name in ("model.onnx", "weights.safetensors")):
        return None
    with (folder / "weights.safetensors").open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return "int8" if b'.int8"' in file.read(min(size, 1 << 24)) else "fp32"


def write(checkpoint: Path, folder: Path, *, precision: str, name: str, progress: Progress) -> None:
    """An export for use without this program, into `folder`, which appears when it is complete. Raises as `export`, and
    StorageError."""
    folder = folder.absolute()
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        if own_precision(checkpoint) == precision:
            for file in ("model.onnx", "weights.safetensors", "config.json", *TOKENIZER_FILES):
                if (checkpoint / file).exists():
                    shutil.copyfile(checkpoint / file, part / file)
        else:
            for done, total in export(checkpoint, part, precision):
                progress(f"exporting {name} ({precision})", done, total)
        from gpt2cli.export.checkpoint import read_config
        from gpt2cli.export.readme import README

        config = read_config(part)
        (part / "README.md").write_text(README.format(name=name, precision=precision, **vars(config)), encoding="utf-8")
        if folder.exists():  # empty
            folder.rmdir()
        part.rename(folder)
    except OSError as error:
        raise StorageError(
            f"cannot write to {folder.parent}: {error.strerror or error}", "make room, or choose another folder"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def damaged(found: Export) -> list[str]:
    """The names of the files whose bytes are not those that were written."""
    return [name for name, facts in found.files.items() if _facts(found.folder / name) != facts]


def remove(folder: Path) -> None:
    """Delete a folder of the cache; under its old name it is gone at once. Raises StorageError."""
    try:
        grave = folder if folder.name.startswith(".") else folder.rename(folder.with_name(f".removed.{folder.name}"))
        shutil.rmtree(grave)
    except OSError as error:
        raise _unwritable(folder.parent, error) from None


@contextmanager
def lock(model: str, note: Callable[[str], None]) -> Iterator[None]:
    """One process at a time prepares a model. The others say so and wait. Raises StorageError."""
    from filelock import FileLock, Timeout  # 20 ms that a cached model does not pay

    path = _lock_path(digest_of(model))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        guard = FileLock(path)
        try:
            guard.acquire(timeout=0)
        except Timeout:
            note(f"another process is preparing {model}: waiting for it")
            guard.acquire(timeout=_LOCK_SECONDS, poll_interval=0.1)
    except Timeout:
        raise StorageError(f"another process has held {path} for hours", "end it, and try again") from None
    except OSError as error:
        raise _unwritable(path.parent, error) from None
    try:
        yield
    finally:
        guard.release()


def locked(digest: str) -> bool:
    """Whether somebody works under the lock of this name now."""
    from filelock import FileLock, Timeout

    if not _lock_path(digest).exists():
        return False
    try:
        with FileLock(_lock_path(digest), timeout=0):
            return False
    except (Timeout, OSError):
        return True


def digest_of(model: str) -> str:
    """The name of a model's lock."""
    return hashlib.sha256(model.encode()).hexdigest()[:16]


def _lock_path(digest: str) -> Path:
    return paths.cache() / "locks" / f"{digest}.lock"


def _unwritable(folder: Path, error: OSError) -> UserError:
    return StorageError(
        f"cannot write to the cache {folder}: {error.strerror or error}",
        "make room, or set GPT2_CACHE to a folder that can be written",
    )
