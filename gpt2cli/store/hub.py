"""The Hugging Face hub: what a repository holds, and how its files come into the cache that every tool shares.

Nothing becomes visible in that cache before its bytes have the hash that the hub names: a file is downloaded beside its
place (a cut download goes on where it ended, in the next run too), checked, and renamed. The layout of the cache and
the transfer itself are huggingface_hub's."""

import dataclasses
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from gpt2cli.errors import CorruptFile, NetworkError, StorageError, Unreachable, UserError
from gpt2cli.paths import PART, is_pointer
from gpt2cli.store import hubcache, network
from gpt2cli.store.catalog import File
from gpt2cli.store.hubcache import Repository, cache_folder, file_hashes, set_reference

# Wall clock for the first answer. The client's own retries take 23 s where a connection is refused, and minutes where
# a host is silent.
PATIENCE = 3.0
_T = TypeVar("_T")


@dataclass(frozen=True)
class Listing:
    """What a repository holds at one commit: file names and, where the hub says so, their sizes in bytes."""

    repository: Repository
    commit: str
    files: Mapping[str, int | None]


@dataclass(frozen=True)
class Found:
    """A search result."""

    name: str
    downloads: int
    gated: bool


def look(repository: Repository, *, patience: float = PATIENCE) -> Listing:
    """Ask the hub what the repository holds. Raises Unreachable after `patience` seconds without an answer, and
    NetworkError where the answer is a refusal."""

    api = _ready()

    def ask() -> Listing:
        info = api.repo_info(
            repository.name,
            revision=repository.revision,
            repo_type=repository.kind,
            files_metadata=True,
            timeout=patience + 2,  # a thread that is left behind ends then; `_within` gives up before
        )
        return Listing(repository, str(info.sha), {file.rfilename: file.size for file in info.siblings or []})

    answer = _within(patience, ask, repository)
    if not re.fullmatch("[0-9a-f]{40}", answer.commit):
        raise NetworkError(f"{network.host()} gave no commit for '{repository}'", "is HF_ENDPOINT a Hugging Face hub?")
    return answer


def search(words: str, limit: int) -> list[Found]:
    """GPT-2 text-generation models on the hub, the most downloaded first. Raises as `look`."""

    if hubcache.offline():
        switch = next((name for name in hubcache.SWITCHES if os.environ.get(name)), hubcache.SWITCHES[0])
        raise NetworkError(f"the hub is switched off ({switch})", "to search it, unset the variable")
    api = _ready()
    from huggingface_hub.utils import get_session, hf_raise_for_status  # type: ignore[attr-defined]

    def probe() -> None:  # the search itself is repeated for 23 s where nobody answers
        url = f"{network.endpoint()}/api/models"
        hf_raise_for_status(get_session().get(url, params={"limit": 1}, timeout=PATIENCE))

    def ask() -> list[Found]:
        models = api.list_models(
            search=words or None, filter=["gpt2", "text-generation"], sort="downloads", limit=limit
        )
        return [Found(model.id, model.downloads or 0, bool(model.gated)) for model in models]

    _quieten()
    _within(PATIENCE, probe)
    return _within(2 * PATIENCE, ask)


def _within(seconds: float, ask: Callable[[], _T], repository: Repository | None = None) -> _T:
    """What `ask` returns, in a thread that is left behind where it hangs: DNS has no time limit of its own. Raises as
    `look`."""
    from concurrent.futures import Future

    answer: Future[_T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        error = answer.exception(timeout=seconds)
    except TimeoutError:
        raise Unreachable(
            f"{network.host()} did not answer within {seconds:.0f} seconds{network.way()}",
            "check the network and try again",
        ) from None
    if error is not None:
        raise network.explained(error, repository, local=False)
    return answer.result()


def fetch(
    listing: Listing,
    names: Iterable[str],
    *,
    pinned: Mapping[str, File],
    progress: Callable[[int, int], None],
) -> Path:
    """Bring files of the listing into the shared cache; returns the snapshot's folder. What is there stays.

    Only one process of ours may do this for a repository at a time. Raises NetworkError, CorruptFile, StorageError."""
    import huggingface_hub as hf

    _quieten()
    repository = dataclasses.replace(listing.repository, revision=listing.commit)
    folder = cache_folder(repository.name, repository.kind)
    target = folder / "snapshots" / listing.commit
    wanted = [name for name in names if not (target / name).exists()]
    try:
        remote = {name: _metadata(repository, name) for name in wanted}
        total = sum(size for _, size in remote.values())
        missing = {etag: size for etag, size in remote.values() if not (folder / "blobs" / etag).exists()}
        parts = {name: folder / "blobs" / f"{etag}{PART}" for name, (etag, _) in remote.items()}
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        have = sum(part.stat().st_size for part in set(parts.values()) if part.exists())
        needed, free = sum(missing.values()) - have, shutil.disk_usage(folder).free
        if needed > free:
            raise StorageError(
                f"{needed / 1e6:,.0f} MB of '{repository.name}' are to be downloaded, {free / 1e6:,.0f} MB are"
                f" free in {folder.parent}",
                f"make room, or set {hubcache.setting()} to a folder on another disk",
            )
        before = 0
        for name, (etag, size) in remote.items():
            blob = folder / "blobs" / etag
            if not blob.exists():
                _check_pin(listing.repository, name, etag, size, pinned)
                url = _address(repository, name)

                def told(done: int, before: int = before) -> None:
                    progress(before + done, total)

                _download(url, parts[name], size, told)
                _check_hash(listing.repository, name, parts[name], etag, pinned)
                parts[name].replace(blob)
            before += size
            # the blob is there: this makes its link in the snapshot, as every other tool expects it
            hf.hf_hub_download(
                repository.name,
                name,
                revision=listing.commit,
                repo_type=repository.kind,
                endpoint=network.endpoint(),
                cache_dir=folder.parent,
            )
        return target
    except UserError:
        raise
    except Exception as error:
        raise network.explained(error, listing.repository) from None


def _quieten() -> None:
    """The client's bars and warnings would stand between ours, and what a cut leaves of a chunk is lost."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars, logging  # type: ignore[attr-defined]

    disable_progress_bars()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    constants.HF_HUB_DISABLE_SYMLINKS_WARNING = True
    constants.DOWNLOAD_CHUNK_SIZE = min(constants.DOWNLOAD_CHUNK_SIZE, 1 << 20)


def settle(listing: Listing) -> None:
    """Everything is there: let the branch point at it. Raises StorageError."""
    try:
        set_reference(listing.repository, listing.commit)
    except OSError as error:
        raise network.explained(error, listing.repository) from None


def drop_damaged(folder: Path) -> None:
    """Delete what is damaged in a snapshot. Raises StorageError."""
    try:
        hubcache.drop_damaged(folder)
    except OSError as error:
        raise network.explained(error, None) from None


def _address(repository: Repository, name: str) -> str:
    import huggingface_hub as hf

    kind, revision = repository.kind, repository.revision
    return hf.hf_hub_url(repository.name, name, revision=revision, repo_type=kind, endpoint=network.endpoint())


def _metadata(repository: Repository, name: str) -> tuple[str, int]:
    """(etag, size) of a file; the etag names its blob, and is its hash."""
    import huggingface_hub as hf

    found = hf.get_hf_file_metadata(_address(repository, name))
    if not found.etag or found.size is None or not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", found.etag):
        raise NetworkError(
            f"the hub says neither size nor hash of {name} in '{repository}'",
            "is HF_ENDPOINT a Hugging Face hub?",
        )
    return found.etag, found.size


def _download(url: str, part: Path, size: int, progress: Callable[[int], None]) -> None:
    """The file's bytes into `part`, after those that are there. Goes on after every cut that let some bytes through."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    fruitless = 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        if have > size:
            part.unlink()
            continue
        progress(have)
        if have == size and part.exists():
            return
        try:
            with part.open("r+b" if part.exists() else "w+b") as file:
                file.seek(0, os.SEEK_END)
                counted: Any = _Counted(file, progress)
                http_get(url, counted, resume_size=have, headers=build_hf_headers(), expected_size=size)
                file.flush()
                os.fsync(file.fileno())
        except Exception as error:
            status = network.status_of(error)
            if status == 416 and part.stat().st_size:  # what we have is no beginning of what they have
                part.unlink()
            elif status is not None or network.is_local(error):
                raise
            elif not have < part.stat().st_size <= size:
                fruitless += 1
                if fruitless == 2:
                    raise
            time.sleep(0.5)


class _Counted:
    """A file whose every change of length is told."""

    def __init__(self, file: IO[bytes], progress: Callable[[int], None]) -> None:
        self._file, self._progress = file, progress

    def write(self, data: bytes) -> int:
        written = self._file.write(data)
        self._progress(self._file.tell())
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _check_pin(repository: Repository, name: str, etag: str, size: int, pinned: Mapping[str, File]) -> None:
    pin = pinned.get(name)
    if pin and (pin.size != size or (len(etag) == 64 and pin.sha256 != etag)):
        raise CorruptFile(
            f"{name} of '{repository}' is not the file that this version knows: the hub has other bytes",
            "do not trust this hub or mirror; check HF_ENDPOINT",
        )


def _check_hash(repository: Repository, name: str, part: Path, etag: str, pinned: Mapping[str, File]) -> None:
    """An etag of 64 digits is the sha256; one of 40 git's hash of a blob. What differs is deleted, and so is what only
    stands for a file in git."""
    digests = file_hashes(part, git=len(etag) == 40)
    pin = pinned.get(name)
    if etag not in digests or (pin and pin.sha256 not in digests):
        part.unlink()
        raise CorruptFile(
            f"{name} of '{repository}' arrived damaged: its hash is not the one the hub names",
            "try again; if it happens again, a proxy or mirror on the way alters files",
        )
    if is_pointer(part):
        part.unlink()
        raise CorruptFile(
            f"{name} of '{repository}' is a Git LFS pointer, not the file that it stands for",
            "this hub or mirror does not serve large files: check HF_ENDPOINT, or ask the owner of the repository",
        )


def _ready() -> Any:
    """The client. Its import takes a second and more on a busy machine, for which nobody's silence is blamed. Raises
    NetworkError for settings with which nobody can be asked."""
    network.check_settings()
    from huggingface_hub import HfApi

    return HfApi(endpoint=network.endpoint())
