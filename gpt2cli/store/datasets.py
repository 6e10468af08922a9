"""Files of data sets on the hub: found in the cache that every Hugging Face tool shares, or downloaded into it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2cli.errors import CorruptFile, UnknownModel, UsageError
from gpt2cli.store import hub, hubcache, locks, network
from gpt2cli.store.choice import SILENT, Listener
from gpt2cli.store.hubcache import Repository


@dataclass(frozen=True)
class DataFile:
    """A file of a data set at a revision. `sha256` is that of its bytes, where they are established."""

    repo: str
    revision: str
    path: str
    sha256: str | None = None

    @property
    def repository(self) -> Repository:
        return Repository(self.repo, self.revision, "dataset")

    def __str__(self) -> str:
        return f"{self.path} of the data set {self.repo}"


def fetch(data: DataFile, *, offline: bool = False, listener: Listener = SILENT) -> Path:
    """Where the file lies, downloaded if it is not on this machine, and checked by its hash. Raises UnknownModel where
    it is not here and the hub is switched off, NetworkError, CorruptFile and StorageError."""
    found = _cached(data)
    if found is not None and _sound(data, found):
        return found
    if offline or hubcache.offline():
        raise UnknownModel(f"{data} is not on this machine, and the hub is switched off", by_hand(data))
    hubcache.check_writable()
    listing = hub.look(data.repository)
    if data.path not in listing.files:
        raise CorruptFile(f"the data set {data.repo} has no {data.path}", by_hand(data))
    with locks.held(data.repo, listener.note, hubcache.lock_path(data.repo, "dataset")):
        folder = hubcache.cache_folder(data.repo, "dataset") / "snapshots" / listing.commit
        if folder.is_dir():
            hub.drop_damaged(folder)

        def told(done: int, total: int) -> None:
            listener.progress(f"downloading {data.path}", done, total)

        folder = hub.fetch(listing, [data.path], pinned={}, progress=told)
        hub.settle(listing)
    if not _sound(data, folder / data.path):
        raise CorruptFile(
            f"{data} is not the file that this version knows: the hub has other bytes",
            f"check HF_ENDPOINT; or {by_hand(data)}",
        )
    return folder / data.path


def by_hand(data: DataFile) -> str:
    """How whoever has no hub comes by the file."""
    return f"download it from {network.page(data.repository)} (revision {data.revision}), and name it: --data FILE"


def _cached(data: DataFile) -> Path | None:
    snapshot = hubcache.snapshot(data.repository)
    return snapshot / data.path if snapshot is not None and (snapshot / data.path).is_file() else None


def _sound(data: DataFile, path: Path) -> bool:
    return data.sha256 is None or data.sha256 in hubcache.file_hashes(path)


def rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of a Parquet file, of each the values of `columns`. Needs the extra `eval`. Raises UsageError without
    it, and CorruptFile."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise UsageError(
            f"{path.name} is a Parquet file, for which the package pyarrow is missing",
            "pip install 'gpt2cli[eval]'; or convert it to JSONL",
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            if missing := [name for name in columns if name not in file.schema_arrow.names]:
                there = ", ".join(file.schema_arrow.names)
                raise CorruptFile(f"{path} has no column '{missing[0]}'", f"it has {there}: is it the right file?")
            for batch in file.iter_batches(1024, columns=list(columns)):
                found = batch.to_pydict()
                yield from zip(*(found[name] for name in columns), strict=True)
    except (OSError, ArrowException) as error:
        raise CorruptFile(f"{path} is no Parquet file that can be read: {_first(error)}", "download it again") from None


def _first(error: BaseException) -> str:
    """The first sentence of what the library says."""
    return str(error).split("\n", 1)[0].split(". ", 1)[0].rstrip(".")
