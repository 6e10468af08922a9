"""Files on disk: from a model's name to a folder that the engine runs, exported first where it is not cached."""

import hashlib
import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpt2cli import catalog, paths
from gpt2cli.errors import CorruptFile, StorageError, UnknownModel, UsageError
from gpt2cli.export import PRECISIONS, TOKENIZER_FILES, VERSION, export

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a folder with a checkpoint, an export of ours, or both (the built-in model)."""

    name: str
    folder: Path
    revision: str | None = None

    @property
    def exported(self) -> bool:
        return all((self.folder / name).exists() for name in ("model.onnx", "weights.safetensors"))


def resolve(name: str) -> Source:
    """A name of the catalogue, or a folder (which a path separator makes plain). Raises UnknownModel."""
    if name in catalog.names():
        entry = catalog.find(name)
        return Source(name, entry.folder, entry.revision)
    folder = paths.user_path(name)
    if _is(folder, stat.S_ISDIR):
        return Source(name, folder)
    if _is(folder, stat.S_ISREG):
        raise UnknownModel(f"'{name}' is a file, not a folder", f"give the folder: -m '{folder.parent}'")
    if "/" in name or "\\" in name:
        raise UnknownModel(
            f"no folder '{name}'",
            "give the path of a checkpoint folder; this version does not download models",
        )
    catalog.find(name)  # raises, with the nearest name
    raise AssertionError(name)


def ensure(source: Source, precision: str, progress: Progress | None = None) -> Path:
    """The folder of the export of `source` in `precision`: its own, a cached one, or one made now.

    `auto` is the ready-made export where there is one, and fp32 otherwise. Raises UnknownModel, CorruptFile,
    StorageError. What is cached is complete: a folder is written beside its place and renamed into it."""
    if precision not in ("auto", *PRECISIONS):
        raise UsageError(f"no precision '{precision}'", f"choose auto, {' or '.join(PRECISIONS)}")
    if source.exported and precision in ("auto", _own_precision(source.folder)):
        return source.folder
    precision = "fp32" if precision == "auto" else precision
    target = paths.exports() / f"{source.folder.resolve().name[:60]}-{precision}-{_key(source.folder)}"
    if (target / "model.onnx").exists():
        return target
    part: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        for done, total in export(source.folder, part, precision):
            if progress is not None:
                progress(done, total)
        _put(part, target)
    except OSError as error:
        raise StorageError(
            f"cannot write the export to {target.parent}: {error.strerror or error}",
            "make room or set GPT2_CACHE to a folder that can be written",
        ) from None
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
    return target


def _put(part: Path, target: Path) -> None:
    """Rename a complete folder into its place. What another process put there first stays: it is the same."""
    try:
        part.rename(target)
    except OSError:
        if (target / "model.onnx").exists():
            return
        with tempfile.TemporaryDirectory(prefix=f"{part.name}-", dir=part.parent) as aside:  # somebody emptied it
            target.rename(Path(aside) / target.name)
        part.rename(target)


def _is(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether there is something of this kind (stat.S_ISDIR ...). No name is too long or too odd to ask."""
    try:
        return kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _own_precision(folder: Path) -> str:
    """int8 or fp32, from the names in the weight file's header."""
    with (folder / "weights.safetensors").open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return "int8" if b'.int8"' in file.read(min(size, 1 << 24)) else "fp32"


def _key(folder: Path) -> str:
    """Changes when the exporter does, or the files of the checkpoint: their names, sizes and times."""
    digest = hashlib.sha256(f"{VERSION}\n{folder.resolve()}\n".encode())
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors" or path.name in ("config.json", *TOKENIZER_FILES):
            try:
                status = path.stat()
            except OSError as error:
                raise CorruptFile(
                    f"cannot read {path}: {error.strerror}", "a link to a file that is gone? copy the checkpoint anew"
                ) from None
            digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
