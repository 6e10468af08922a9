"""Folders that hold an adapter of PEFT's: their base is found, and both become one checkpoint."""

import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from gpt2cli import paths
from gpt2cli.errors import CorruptFile, UnknownModel
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


def bases(source: Source) -> Iterator[Source]:
    """The base of the adapter that a source is, where it is one, and so on. Raises as `base`, and CorruptFile where an
    adapter is its own base."""
    above = [source.model]
    while source.folder and (found := base(source.folder)):
        if found.model in above:
            raise CorruptFile(
                f"'{source.folder}' holds an adapter that is its own base",
                f"name the model that it was trained on: base_model_name_or_path in {ADAPTER}",
            )
        above.append(found.model)
        source = found
        yield found


def merged(source: Source, checkpoint: Path, note: Callable[[str], None]) -> Path:
    """The adapter in the source's folder and the checkpoint of its base as one checkpoint, in our cache under a name of
    its own, for whoever asked to `discard`; else `gpt2 prune` sweeps it. Raises UnknownModel, CorruptFile,
    StorageError."""
    from gpt2cli.export import adapter  # safetensors: 40 ms that others do not pay

    assert source.folder is not None
    adapter.settings(source.folder)
    target = paths.exports() / f".{locks.digest(source.model)}.merged-fp32-{secrets.token_hex(8)}"
    with locks.held(source.model, note):
        try:
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
