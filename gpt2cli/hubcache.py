"""The cache that every Hugging Face tool shares, without the network: which revisions are there, and are they sound.

Its layout (blobs by hash, snapshots of links to them, refs from branches to commits) is huggingface_hub's, documented
in its guide "Understand caching"."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gpt2cli.errors import Homeless, StorageError

PART = ".gpt2.incomplete"  # the end of the name of a download that is under way, or was cut
_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Repository:
    """`owner/name` at a revision: a branch, a tag, or a commit."""

    name: str
    revision: str = "main"

    def __str__(self) -> str:
        return self.name if self.revision == "main" else f"{self.name}@{self.revision[:12]}"


@dataclass(frozen=True)
class Downloaded:
    """A revision in the shared cache."""

    name: str
    commit: str
    folder: Path
    nbytes: int


def offline() -> bool:
    """Whether HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def root() -> Path:
    """The shared cache (it may not exist). Raises Homeless."""
    from huggingface_hub import constants

    if constants.HF_HUB_CACHE.startswith("~"):  # which the library would take for a folder's name
        raise Homeless("the user has no home folder for downloads", "name one: HF_HOME=FOLDER")
    return Path(constants.HF_HUB_CACHE)


def check_writable() -> None:
    """Raises StorageError where nothing can be downloaded into the shared cache."""
    place = root()
    while not os.access(place, os.F_OK) and place != place.parent:
        place = place.parent
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        raise StorageError(f"nothing can be written to '{root()}'", "name another folder for downloads: HF_HOME=FOLDER")


def cache_folder(name: str) -> Path:
    """Where the shared cache keeps a repository (it may not exist). Raises Homeless."""
    return root() / f"models--{name.replace('/', '--')}"


def snapshot(repository: Repository) -> Path | None:
    """The folder of the revision in the shared cache, if it is there; no HTTP. It need not be complete."""
    commit = repository.revision
    with contextlib.suppress(OSError, ValueError, Homeless):
        folder = cache_folder(repository.name)
        if not (folder / "snapshots" / commit).is_dir():
            commit = (folder / "refs" / commit).read_text(encoding="utf-8").strip()
        found = folder / "snapshots" / commit
        if re.fullmatch("[0-9a-f]{40}", commit) and found.is_dir():
            return found
    return None


def set_reference(repository: Repository, commit: str) -> None:
    """What a branch or tag points at, for the next run without a network. Raises OSError."""
    reference = cache_folder(repository.name) / "refs" / repository.revision
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
        name = path.resolve().name
        if path.is_file() and _HASH.fullmatch(name):
            if name not in file_hashes(path, git=len(name) == 40):
                wrong.append(path)
        elif path.is_symlink() and not path.exists():
            wrong.append(path)
    return wrong


def drop_damaged(folder: Path) -> None:
    """Delete the damaged files of a snapshot, so that they are downloaded again. Raises OSError."""
    for path in damaged(folder):
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def remove(name: str, commits: Iterable[str]) -> int:
    """Delete revisions of a repository from the shared cache, never what another revision uses; returns the bytes."""
    from huggingface_hub import scan_cache_dir

    cache = scan_cache_dir(root())
    # copies of a repository have the same commits: only this one is looked at
    mine = frozenset(repo for repo in cache.repos if repo.repo_type == "model" and repo.repo_id == name)
    cache = dataclasses.replace(cache, repos=mine)
    known = {revision.commit_hash for repo in cache.repos for revision in repo.revisions}
    strategy = cache.delete_revisions(*(known & set(commits)))
    strategy.execute()
    with contextlib.suppress(OSError):
        for part in (cache_folder(name) / "blobs").glob(f"*{PART}"):
            part.unlink()
    return strategy.expected_freed_size


def lock_path(name: str) -> Path:
    """What whoever downloads files of a repository holds: beside the cache that it guards."""
    folder = cache_folder(name)
    return folder.parent / ".locks" / folder.name / "gpt2.lock"


def leftovers() -> dict[Path, str]:
    """Cut downloads of ours in the shared cache, and whose they are."""
    parts = _found(f"models--*/blobs/*{PART}")
    return {part: _name_of(part.parent.parent) for part in parts}


def downloaded() -> list[Downloaded]:
    """The revisions of GPT-2 models in the shared cache, complete or not."""
    found = []
    for config in _found("models--*/snapshots/*/config.json"):
        with contextlib.suppress(OSError, ValueError):
            raw = json.loads(config.read_text(encoding="utf-8"))
            if isinstance(raw, dict) and raw.get("model_type") == "gpt2":
                sizes = {path.resolve(): path.stat().st_size for path in config.parent.rglob("*") if path.is_file()}
                name = _name_of(config.parent.parent.parent)
                found.append(Downloaded(name, config.parent.name, config.parent, sum(sizes.values())))
    return found


def _found(pattern: str) -> list[Path]:
    try:
        return sorted(root().glob(pattern))
    except (OSError, Homeless):
        return []


def _name_of(folder: Path) -> str:
    return folder.name.removeprefix("models--").replace("--", "/", 1)
