"""The sha256 of a model's files: as they were when they were downloaded or written, where that was noted; else computed
once, and remembered as long as size and time of the file stay."""

import contextlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from gpt2cli import paths
from gpt2cli.errors import CorruptFile, StorageError
from gpt2cli.store import builds, catalog

_REMEMBERED = 1 << 20  # bytes; what is smaller is quickly computed
_MOST = 500  # files
_Memory = dict[str, list[object]]  # path -> size, time and sha256


def of(files: Iterable[Path]) -> dict[str, str]:
    """Name -> sha256. Raises CorruptFile for a file that cannot be read."""
    return {path.name: _noted(path) or _computed(path) for path in files}


def _noted(path: Path) -> str | None:
    """What the manifest of an export, the catalogue, or the hub's name of a download says."""
    built_in = catalog.find(catalog.BUILT_IN)
    if path.parent == built_in.folder:
        return built_in.files[path.name].sha256 if path.name in built_in.files else None
    export = builds.read(path.parent)
    if export is not None and path.name in export.files:
        return str(export.files[path.name]["sha256"])
    blob = path.readlink().name if path.is_symlink() else ""
    return blob if re.fullmatch("[0-9a-f]{64}", blob) else None


def _computed(path: Path) -> str:
    try:
        status = path.stat()
        state = [status.st_size, status.st_mtime_ns]
        memory = _memory() if status.st_size >= _REMEMBERED else None
        key = str(path.resolve())
        if memory and (known := memory.get(key)) and known[:2] == state:
            return str(known[2])
        found = str(builds.fingerprint(path)["sha256"])
    except OSError as error:
        raise CorruptFile(f"cannot read {path}: {error.strerror}", "check the file and its permissions") from None
    if memory is not None:
        memory.pop(key, None)
        _remember(memory | {key: [*state, found]})
    return found


def _place() -> Path:
    return paths.cache() / "hashes.json"


def _memory() -> _Memory:
    with contextlib.suppress(OSError, ValueError, StorageError):
        found = json.loads(_place().read_text(encoding="utf-8"))
        if isinstance(found, dict) and all(isinstance(one, list) and len(one) == 3 for one in found.values()):
            return found
    return {}


def _remember(memory: _Memory) -> None:
    """Without a place for it the next receipt takes longer, and no more."""
    with contextlib.suppress(OSError, StorageError, UnicodeError):
        place = _place()
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f"{place.name}{paths.PART}")
        part.write_text(json.dumps(dict(list(memory.items())[-_MOST:])), encoding="utf-8")
        part.replace(place)
