"""Folders that hold an adapter of PEFT's: their base is found, and both become one checkpoint."""

import hashlib
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from gpt2cli import paths
from gpt2cli.errors import UnknownModel
from gpt2cli.export.formats import ADAPTER
from gpt2cli.store import locks, sources
from gpt2cli.store.sources import Source


def base(folder: Path) -> Source | None:
    """The base of the adapter in a folder; None where it holds none, or a whole model beside it. A base that is no
    model's name is looked for in the folder, and beside it. Raises UnknownModel, CorruptFile."""
    found = paths.json_object(folder / ADAPTER) or {}
    name = found.get("base_model_name_or_path")
    if not isinstance(name, str) or not name or sources.has_weights(path.name for path in folder.iterdir()):
        return None
    for place in (folder / name, folder.resolve().parent / Path(name).name):
        if sources.is_a(place / "config.json", stat.S_ISREG):
            return Source(name, place.resolve())
    try:
        return sources.resolve(name)
    except UnknownModel:
        raise UnknownModel(
            f"'{folder}' holds an adapter, and its base, '{name}', is not here",
            f"put the base beside it, or mend base_model_name_or_path in {ADAPTER}",
        ) from None


def merged(source: Source, checkpoint: Path, note: Callable[[str], None]) -> Path:
    """The adapter in the source's folder and the checkpoint of its base as one checkpoint, in our cache under a name
    that `gpt2 prune` sweeps. Raises UnknownModel, CorruptFile, StorageError."""
    from gpt2cli.export import adapter  # safetensors: 40 ms that others do not pay

    assert source.folder is not None
    adapter.settings(source.folder)
    digest = hashlib.sha256(f"{sources.key(source, None)}\n{checkpoint.resolve()}".encode()).hexdigest()[:16]
    target = paths.exports() / f".{locks.digest(source.model)}.merged-fp32-{digest}"
    with locks.held(source.model, note):
        try:
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            adapter.merge(source.folder, checkpoint, target)
        except OSError as error:
            shutil.rmtree(target, ignore_errors=True)
            raise locks.unwritable(target.parent, error) from None
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
    return target


def discard(folder: Path) -> None:
    """Delete what `merged` has made; nothing else."""
    if folder.name.startswith(".") and folder.parent == paths.exports():
        shutil.rmtree(folder, ignore_errors=True)
