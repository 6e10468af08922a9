"""Our own cache: a folder for each exported model, complete or not there.

A folder is written beside its place under a name with a leading dot, and renamed. `export.json` in it says what it is
and the size and sha256 of every other file. Whatever is under way for a model happens under the model's lock."""

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gpt2cli import paths
from gpt2cli.engine import harmless
from gpt2cli.errors import Homeless, StorageError
from gpt2cli.export.export import export, notes
from gpt2cli.export.names import EXPORTED, LATER, SETTINGS, VERSION
from gpt2cli.paths import contained
from gpt2cli.store import locks
from gpt2cli.store.choice import Listener, Progress
from gpt2cli.store.quality import Gate, Quality

MANIFEST = "export.json"
_DIGEST = 16  # letters at the end of a folder's name
# Names of our folders: an export, one that is being written under a lock, one that is being deleted.
_OURS = re.compile(r"(?:\.(?P<lock>[0-9a-f]{16})\.|\.removed\.)?.*-(?:fp32|fp16|int8|int4)-[0-9a-f]{16}")


@dataclass(frozen=True)
class Export:
    """A cached export, as its manifest says."""

    folder: Path
    model: str  # a repository of the hub, the path of a folder, or the name of the built-in model
    revision: str | None  # a commit of the hub
    branch: str | None  # what was asked for when it was made: a branch, a tag, a commit
    precision: str
    version: int
    quality: Quality | None  # None for fp32
    files: dict[str, dict[str, Any]]  # name -> {"size", "sha256"}; none where only what the gate said was kept

    @property
    def nbytes(self) -> int:
        return sum(facts["size"] for facts in self.files.values())

    @property
    def stale(self) -> bool:
        """Made by another version of the exporter, or from a folder that is gone."""
        return self.version != VERSION or (is_folder(self.model) and not Path(self.model).is_dir())

    def lacks(self, checkpoint: Path) -> bool:
        """Whether `checkpoint` has settings that came after it was exported: other programs, and older versions of this
        one, download fewer files."""
        return bool(self.files) and any((checkpoint / name).exists() and name not in self.files for name in LATER)


def read(folder: Path) -> Export | None:
    """The manifest of a folder; None where it is no complete export."""
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        quality = facts.pop("quality")
        found = Export(folder=folder, quality=quality and Quality(**quality), **facts)
        complete = all((folder / name).stat().st_size == facts["size"] for name, facts in found.files.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return found if complete else None


def cached() -> list[Export]:
    """Every complete export in the cache, sorted by folder."""
    return [found for folder in _folders() if not folder.name.startswith(".") and (found := read(folder))]


def leftovers() -> list[Path]:
    """What interrupted work left, and exports that are not complete."""
    return [folder for folder in _folders() if _OURS.fullmatch(folder.name) and not read(folder)]


def sweep(folder: Path) -> bool:
    """Delete a leftover, unless somebody works on it now; says whether it is gone. Raises StorageError."""
    match = _OURS.fullmatch(folder.name)
    if match is None or match["lock"] is None:
        remove(folder)
        return True
    with locks.unless_held(locks.model_path(match["lock"])) as free:
        if free:
            remove(folder)
        return free


def _folders() -> list[Path]:
    try:
        return sorted(path for path in paths.exports().iterdir() if path.is_dir())
    except (OSError, Homeless):
        return []


def is_folder(model: str) -> bool:
    """Whether the cache's name of a model is a folder's path."""
    return Path(model).is_absolute()


def folder_for(model: str, precision: str, key: str) -> Path:
    """Where the export of a model lies. `key` changes when its files do; so does the name with the exporter."""
    last = Path(model).name if is_folder(model) else model.replace("/", "--")
    digest = hashlib.sha256(f"{VERSION}\n{model}\n{key}".encode()).hexdigest()[:_DIGEST]
    return paths.exports() / f"{last[-60:].lstrip('.-')}-{precision}-{digest}"


def find(model: str, precision: str, key: str) -> Export | None:
    """The export that is there, if it is."""
    try:
        return read(folder_for(model, precision, key))
    except Homeless:
        return None


def make(
    checkpoint: Path,
    target: Path,
    *,
    model: str,
    revision: str | None,
    branch: str | None,
    precision: str,
    progress: Callable[[int, int], object],
    keep: bool,
) -> Export:
    """Export a checkpoint into `target`; whoever calls holds the lock. Without `keep`, of what does not pass the gate
    only the record stays: nobody will run it. Raises as `export`, and StorageError."""
    part = target.with_name(f".{locks.digest(model)}.{target.name}")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of somebody who was killed
        part.mkdir(parents=True)
        quality = _export(checkpoint, part, precision, progress)
        if quality and not quality.passed and not keep:
            for path in part.iterdir():
                path.unlink()
        files = {path.name: fingerprint(path) for path in sorted(part.iterdir())}
        manifest = {
            "model": model,
            "revision": revision,
            "branch": branch,
            "precision": precision,
            "version": VERSION,
            "quality": quality and asdict(quality),
            "files": files,
        }
        (part / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        if target.exists():  # somebody emptied it
            shutil.rmtree(target)
        part.rename(target)
        made = read(target)
        assert made is not None
        for old in cached():  # of a folder whose files have changed since
            if revision is None and old.model == model and not old.folder.name.endswith(target.name[-_DIGEST:]):
                remove(old.folder)
        return made
    except OSError as error:
        raise locks.unwritable(target.parent, error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def exporting(title: str, precision: str, progress: Progress) -> Callable[[int, int], object]:
    """What is called with the bytes done and in all, for a bar with this title."""
    return partial(progress, f"exporting {title} ({precision})")


def _export(checkpoint: Path, folder: Path, precision: str, progress: Callable[[int, int], object]) -> Quality | None:
    """Write into an empty folder, in the fastest form of the precision that passes the gate, or else the best form;
    returns its quality."""
    gate = Gate(checkpoint, folder, precision) if precision in ("int8", "int4") else None
    quality = None
    for rounding in gate.roundings() if gate else (None,):
        for path in folder.iterdir():  # the form before did not pass
            path.unlink()
        for done, total in export(checkpoint, folder, precision, rounding):
            progress(done, total)
        quality = gate.measure(folder, rounding) if gate else None
        if quality is None or quality.passed:
            break
    return quality


def own_precision(folder: Path) -> str | None:
    """The precision of a folder that is an export of ours (from the names in its weight file's header), else None.
    Raises CorruptFile."""
    if not all((folder / name).exists() for name in ("model.onnx", EXPORTED)):
        return None
    with contained(folder / EXPORTED, folder).open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        head = file.read(min(size, 1 << 24))
    marks = {b'.int4"': "int4", b'.int8"': "int8", b'.uint8"': "int8", b'"F16"': "fp16"}
    return next((precision for mark, precision in marks.items() if mark in head), "fp32")


def write(
    checkpoint: Path,
    folder: Path,
    listener: Listener,
    *,
    precision: str,
    name: str,
    check: Callable[[Path, bool | None], object],
) -> tuple[str, Quality | None]:
    """An export for use without this program, into `folder`, which appears when it is complete and `check`, which is
    told whether it passes the gate, has not raised; returns the precision, of which `auto` is the fastest that passes,
    and what the gate measured. Raises as `export`, and StorageError."""
    folder = folder.resolve()
    try:
        with _part(folder) as part:
            own, quality = own_precision(checkpoint), None
            if own and precision in ("auto", own):
                precision = own
                harmless.check(checkpoint / "model.onnx")
                for file in ("model.onnx", EXPORTED, *SETTINGS):
                    if (checkpoint / file).exists():
                        shutil.copyfile(contained(checkpoint / file, checkpoint), part / file)
            else:
                for text in notes(checkpoint):
                    listener.note(f"{name}: {text}")
                first = "int8" if precision == "auto" else precision
                quality = _export(checkpoint, part, first, exporting(name, first, listener.progress))
                if precision == "auto":
                    precision = "int8" if quality and quality.passed else "fp32"
                    if precision == "fp32":
                        _export(checkpoint, part, precision, exporting(name, precision, listener.progress))
            measured = None if precision in ("fp32", "fp16") else quality
            _describe(part, name, precision, measured)
            check(part, measured.passed if measured else None)
            if folder.exists():  # it is empty, and may be where somebody's shell is
                for path in sorted(part.iterdir(), key=lambda path: path.name == "model.onnx"):
                    path.rename(folder / path.name)
            else:
                part.rename(folder)
            return precision, quality
    except OSError as error:
        where = folder if folder.exists() else folder.parent
        raise StorageError(
            f"cannot write to {where}: {error.strerror or error}", "make room, or choose another folder"
        ) from None


@contextlib.contextmanager
def _part(folder: Path) -> Iterator[Path]:
    """An empty folder beside it, to be filled and renamed, for one process at a time. Raises StorageError, OSError."""
    part, lock = (folder.with_name(f".{folder.name}.gpt2-{kind}") for kind in ("part", "lock"))
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    with locks.unless_held(lock) as free:
        if not free:
            raise StorageError(f"another process is writing {folder}", "wait for it, or choose another folder")
        try:
            shutil.rmtree(part, ignore_errors=True)  # of somebody who was killed
            part.mkdir()
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)
            with contextlib.suppress(OSError):  # Windows: it is open
                lock.unlink()


def _describe(folder: Path, name: str, precision: str, quality: Quality | None) -> None:
    """README.md, for those who have nothing but the folder."""
    from gpt2cli.export.checkpoint import read_config
    from gpt2cli.export.readme import README

    half = precision == "fp16"
    cache = {"cache_type": "float16" if half else "float32", "cache_code": "f2" if half else "f4"}
    facts = {"name": name, "precision": precision, "quality": quality or "not measured", **cache}
    (folder / "README.md").write_text(README.format(**facts, **vars(read_config(folder))), encoding="utf-8")


def fingerprint(path: Path) -> dict[str, Any]:
    """The size and sha256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def damaged(folder: Path, files: Mapping[str, dict[str, Any]]) -> list[str]:
    """The names of what in `folder` are no files, or whose fingerprints are not those of `files`. Raises OSError."""

    def differs(name: str) -> bool:
        odd = (folder / name).exists() and not (folder / name).is_file()  # a pipe would be waited for
        return odd or fingerprint(folder / name) != files[name]

    return [name for name in files if differs(name)]


def remove(folder: Path) -> None:
    """Delete a folder of the cache; under its old name it is gone at once. Raises StorageError, and nothing is gone
    where something in it cannot be deleted."""
    paths.check_removable(folder)
    try:
        if not folder.name.startswith("."):
            grave = folder.with_name(f".removed.{folder.name}")
            shutil.rmtree(grave, ignore_errors=True)  # of a removal that was interrupted
            folder = folder.rename(grave)
        shutil.rmtree(folder)
    except OSError as error:
        raise paths.undeletable(error.filename, error) from None
