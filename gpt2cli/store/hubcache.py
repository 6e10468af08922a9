"""The cache that every Hugging Face tool shares, without the network: which revisions are there, and are they sound.

Its layout (blobs by hash, snapshots of links to them, refs from branches to commits) is huggingface_hub's, documented
in its guide "Understand caching"."""

import contextlib
import dataclasses
import errno
import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2cli.errors import CorruptFile, Homeless, NetworkError, StorageError
from gpt2cli.paths import PART, check_removable, is_writable, json_object, textual, undeletable, user_path

_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Repository:
    """`owner/name` at a revision: a branch, a tag, or a commit."""

    name: str
    revision: str = "main"
    kind: str = "model"  # or "dataset"

    def __str__(self) -> str:
        return self.name if self.revision == "main" else f"{self.name}@{self.revision[:12]}"


@dataclass(frozen=True)
class Downloaded:
    """A revision in the shared cache."""

    name: str
    commit: str
    folder: Path
    nbytes: int


SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Around an import of the client, which reads its variables then, and warns of those that it has given up. Raises
    NetworkError for what it cannot read."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except ValueError as error:
        value = re.search("'(.*)'$", str(error))
        text = value[1] if value else "://"  # where no value is shown, it is about an address
        ours = sorted((name, given) for name, given in os.environ.items() if name.startswith("HF_"))
        names = [name for name, given in ours if (text in given if text else not given)]
        raise NetworkError(
            f"huggingface_hub cannot read {' or '.join(names) or 'one of the HF_ variables'}: {error}",
            "unset it, or give it another value",
        ) from None


def offline() -> bool:
    """Whether one of SWITCHES is set."""
    with importing():
        from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def setting() -> str:
    """The variable that moves the shared cache."""
    return next((name for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE") if os.environ.get(name)), "HF_HOME")


def root() -> Path:
    """The shared cache (it may not exist). Raises Homeless, and StorageError where its path is not UTF-8."""
    with importing():
        from huggingface_hub import constants

    if constants.HF_HUB_CACHE.startswith("~"):  # which the library would take for a folder's name
        raise Homeless("the user has no home folder for downloads", "name one: HF_HOME=FOLDER")
    return textual(Path(constants.HF_HUB_CACHE), setting())


def check_writable() -> None:
    """Raises StorageError where nothing can be downloaded into the shared cache."""
    if not is_writable(root()):
        raise StorageError(
            f"nothing can be written to '{root()}'", f"name another folder for downloads: {setting()}=FOLDER"
        )


def cache_folder(name: str, kind: str = "model") -> Path:
    """Where the shared cache keeps a repository (it may not exist). Raises as `root`."""
    return root() / _folder_name(name, kind)


def appears(repository: Repository) -> bool:
    """Whether the revision is in the shared cache, by the variables that say where that is: nobody whose model is a
    folder waits 40 ms for the client, or needs it to understand its other settings."""
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    place = f"{home}/hub" if setting() == "HF_HOME" else os.environ[setting()]
    folder = user_path(os.path.expandvars(place)) / _folder_name(repository.name)
    return any(os.path.lexists(folder / kind / repository.revision) for kind in ("refs", "snapshots"))


def snapshot(repository: Repository) -> Path | None:
    """The folder of the revision in the shared cache, if it is there; no HTTP. It need not be complete."""
    commit = repository.revision
    with contextlib.suppress(OSError, ValueError, Homeless):
        folder = cache_folder(repository.name, repository.kind)
        if not (folder / "snapshots" / commit).is_dir():
            commit = (folder / "refs" / commit).read_text(encoding="utf-8").strip()
        found = folder / "snapshots" / commit
        if re.fullmatch("[0-9a-f]{40}", commit) and found.is_dir():
            return found
    return None


def set_reference(repository: Repository, commit: str) -> None:
    """What a branch or tag points at, for the next run without a network. Raises OSError."""
    reference = cache_folder(repository.name, repository.kind) / "refs" / repository.revision
    known = ""
    with contextlib.suppress(OSError, ValueError):
        known = reference.read_text(encoding="utf-8").strip()
    if commit not in (repository.revision, known):
        reference.parent.mkdir(parents=True, exist_ok=True)
        part = reference.with_name(f"{reference.name}{PART}")
        part.write_text(commit, encoding="utf-8")
        part.replace(reference)


def file_hashes(path: Path, *, git: bool = False) -> set[str]:
    """The sha256 of a file and, with `git`, the sha1 that git names it by."""
    whole = hashlib.sha256()
    blob = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            whole.update(block)
            if git:
                blob.update(block)
    return {whole.hexdigest(), blob.hexdigest()} if git else {whole.hexdigest()}


def damaged(folder: Path) -> list[Path]:
    """The files of a snapshot whose bytes are not those that their blob's name says."""
    wrong = []
    for path in sorted(folder.rglob("*")):
        name = _blob(path).name
        if path.is_file() and _HASH.fullmatch(name):
            if name not in file_hashes(path, git=len(name) == 40):
                wrong.append(path)
        elif path.is_symlink() and not path.exists():
            wrong.append(path)
    return wrong


def drop_damaged(folder: Path) -> None:
    """Delete the damaged files of a snapshot, so that they are downloaded again. Raises OSError."""
    for path in damaged(folder):
        _blob(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _blob(path: Path) -> Path:
    """What a file of a snapshot is a link to, in its repository; that in turn may be a link to a place which
    repositories share, and where files have other names than their hash. Without links it is the file itself."""
    return path.parent / path.readlink() if path.is_symlink() else path


def remove(revisions: Iterable[Repository]) -> int:
    """Delete commits from the shared cache, all of them or none, never what another commit uses; returns how many
    bytes are gone. Whoever calls holds the repositories' locks. Raises StorageError."""
    with importing():
        from huggingface_hub import scan_cache_dir
        from huggingface_hub.utils import logging

    revisions = set(revisions)
    try:
        cache = scan_cache_dir(root())
    except OSError as error:
        raise _unreadable(error) from None
    strategies = []
    sizes: dict[Path, int] = {}
    for name in {one.name for one in revisions}:
        # copies of a repository have the same commits: one at a time
        mine = [repo for repo in cache.repos if repo.repo_type == "model" and repo.repo_id == name]
        doomed = [one for repo in mine for one in repo.revisions if Repository(name, one.commit_hash) in revisions]
        if not doomed:  # a branch without its commit, a file between the snapshots
            raise StorageError(
                f"what the cache has of '{name}' is in disorder, and huggingface_hub does not delete from it",
                f"delete it whole: {cache_folder(name)}",
            )
        one_repository = dataclasses.replace(cache, repos=frozenset(mine))
        strategies.append(one_repository.delete_revisions(*(one.commit_hash for one in doomed)))
        sizes |= {file.blob_path.resolve(): file.size_on_disk for one in doomed for file in one.files}
    paths = [path for one in strategies for path in (*one.repos, *one.snapshots, *one.refs, *one.blobs)]
    for path in paths:
        check_removable(path)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # what it cannot delete it only logs
    for strategy in strategies:
        strategy.execute()
    for path in filter(os.path.lexists, paths):
        raise undeletable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    for name in {one.name for one in revisions}:
        with contextlib.suppress(OSError):
            for part in (cache_folder(name) / "blobs").glob(f"*{PART}"):
                part.unlink()
    return sum(size for path, size in sizes.items() if not path.exists())


def check_readable(name: str) -> None:
    """Raises StorageError where nobody can see what the cache has of a repository."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise _unreadable(error) from None

    for _ in os.walk(cache_folder(name), onerror=refuse):
        pass


def _unreadable(error: OSError) -> StorageError:
    return StorageError(
        f"cannot read '{error.filename}': {error.strerror}", "make it readable, or move it out of the cache"
    )


def lock_path(name: str, kind: str = "model") -> Path:
    """What whoever downloads files of a repository holds: beside the cache that it guards."""
    return _lock_of(cache_folder(name, kind))


def leftovers() -> dict[Path, Path]:
    """Cut downloads of ours in the shared cache, and what whoever is at work on them holds."""
    return {part: _lock_of(part.parent.parent) for part in _found(f"*s--*/blobs/*{PART}")}


def _lock_of(folder: Path) -> Path:
    return folder.parent / ".locks" / folder.name / "gpt2.lock"


def downloaded() -> list[Downloaded]:
    """The revisions of GPT-2 models in the shared cache, complete or not."""
    found = []
    for config in _found("models--*/snapshots/*/config.json"):
        with contextlib.suppress(OSError, CorruptFile):
            if (json_object(config) or {}).get("model_type") == "gpt2":
                sizes = {path.resolve(): path.stat().st_size for path in config.parent.rglob("*") if path.is_file()}
                name = _name_of(config.parent.parent.parent)
                found.append(Downloaded(name, config.parent.name, config.parent, sum(sizes.values())))
    return found


def _found(pattern: str) -> list[Path]:
    try:
        return sorted(root().glob(pattern))
    except (OSError, Homeless):
        return []


def _folder_name(name: str, kind: str = "model") -> str:
    return f"{kind}s--{name.replace('/', '--')}"


def _name_of(folder: Path) -> str:
    return folder.name.removeprefix("models--").replace("--", "/", 1)
