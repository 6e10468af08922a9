"""Where things live on this machine: the package's own data, the caches, the config file; and what is looked at before
a file that strangers may have made is opened, or a file is deleted."""

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

from gpt2cli.errors import CorruptFile, Homeless, StorageError, UsageError

PART = ".gpt2.incomplete"  # the end of the name of a file in the hub's cache that is under way, or was cut
_PACKAGE = Path(__file__).parent
# How a pointer begins, and how large it may be (docs/spec.md of git-lfs).
_POINTER, _POINTER_SIZE = b"version https://git-lfs.github.com/spec/", 1024
# What the system says where there is no room: on the disk, for this user, in one file. Windows may have no quotas.
FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
SMALL = 1 << 26  # bytes of a file that is read whole; the largest vocabularies have half of it


def data(name: str) -> Path:
    """The folder `models` or `completions`: inside an installed package, beside it in the repository."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def settle_home() -> None:
    """Let a HOME that is no path from the root be none, for every library: each of them reads it in its own way."""
    if os.name == "posix" and not os.environ.get("HOME", "/").startswith("/"):
        del os.environ["HOME"]


def home() -> Path:
    """The user's own folder. Raises Homeless."""
    try:
        return Path.home()
    except RuntimeError:
        raise Homeless("the user has no home folder", "name one: HOME=FOLDER") from None


def cache() -> Path:
    """Our own cache folder, $GPT2_CACHE or the platform's. It may not exist yet. Raises Homeless, as the next three,
    and StorageError where its path is not UTF-8."""
    return textual(_own("GPT2_CACHE", "cache", "FOLDER"), "GPT2_CACHE")


def config() -> Path:
    """The config file, $GPT2_CONFIG or in the platform's config folder. It may not exist."""
    place = _own("GPT2_CONFIG", "config", "FILE")
    return place if os.environ.get("GPT2_CONFIG") else place / "config.toml"


def state() -> Path:
    """Our own folder for what is remembered between runs, $GPT2_STATE or the platform's. It may not exist yet."""
    return _own("GPT2_STATE", "state", "FOLDER")


def models() -> Path:
    """Where the models lie that `gpt2 finetune` made and gave a name, $GPT2_MODELS or in the platform's data folder. It
    may not exist yet."""
    place = _own("GPT2_MODELS", "data", "FOLDER")
    return textual(place if os.environ.get("GPT2_MODELS") else place / "models", "GPT2_MODELS")


def _own(variable: str, kind: str, what: str) -> Path:
    named = os.environ.get(variable)
    if named:
        path = user_path(named)
        if str(path).startswith("~"):
            raise StorageError(f"{variable}={named}: there is no such home folder", "name the path from the root")
        return path
    import platformdirs  # 15 ms, and the built-in model never needs it

    try:
        path = Path(getattr(platformdirs, f"user_{kind}_dir")("gpt2cli", appauthor=False))
    except RuntimeError:
        path = Path()
    if not path.is_absolute():
        raise Homeless(f"the user has no home folder, and {variable} is not set", f"name one: {variable}={what}")
    return path


def user_path(name: str) -> Path:
    """A path that somebody wrote, `~` and `~user` expanded where there is such a user."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def is_text(path: Path) -> bool:
    """Whether it is UTF-8, which is all that the libraries take for a path."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def textual(folder: Path, setting: str) -> Path:
    """A folder that `setting` can move. Raises StorageError where its path is not UTF-8."""
    if not is_text(folder):
        raise StorageError(f"the path of the folder, '{folder}', is not UTF-8 text", f"set {setting} to another folder")
    return folder


def check_text(folder: Path) -> None:
    """Raises UsageError where the path of a folder that a model is to be written into is not UTF-8."""
    if not is_text(path := folder.resolve()):
        raise UsageError(f"the path of the folder, '{path}', is not UTF-8 text", "give it another name")


def is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder, which may have to be made itself."""
    while not os.access(folder, os.F_OK) and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def exports() -> Path:
    """Where exported graphs are kept."""
    return cache() / "exports"


def check_removable(path: Path) -> None:
    """Whether a file, or a folder and all that is in it, can be deleted: what can be renamed, and is renamed back, can.

    Neither permissions, nor a disk that is read-only, nor a file that Windows has open allow that. Raises
    StorageError, with everything where it was."""
    entries = [path]
    try:
        if path.is_dir() and not path.is_symlink():
            for folder, folders, files in os.walk(path, onerror=_refuse):
                entries += [Path(folder, name) for name in (*folders, *files)]
        for entry in entries:
            aside = entry.with_name(f"{entry.name}{PART}")
            try:
                entry.rename(aside)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    aside.rename(entry)
    except OSError as error:
        raise undeletable(error.filename, error) from None


def _refuse(error: OSError) -> None:
    raise error


def undeletable(path: object, error: OSError) -> StorageError:
    return StorageError(
        f"cannot delete '{path}': {error.strerror or error}",
        "make its folder writable and close what has it open, or let its owner delete it",
    )


def contained(path: Path, folder: Path) -> Path:
    """`path`, a file of the model in `folder`, fit to be opened. What is not there is whoever opens it to tell.

    A snapshot of the hub's cache consists of links to its repository's blobs, which belong to it; so do the blobs that
    repositories share, to which those may be links. Raises CorruptFile for a link to anything else (a checkpoint from a
    stranger could name a file of ours, to be copied and shown), for what is no file (a pipe would be waited for), and
    for what Git LFS left in a file's place."""
    try:
        target = path.resolve()
        inside = any(target.is_relative_to(home) for home in _homes(folder.resolve()))
        odd = target.exists() and not target.is_file()
    except (OSError, RuntimeError, ValueError):  # links in a circle, or where nobody may look, or no path at all
        inside = odd = False
    if not inside:
        raise CorruptFile(f"'{path}' is a link to a file outside the folder", "copy the file into the folder")
    if odd:
        raise CorruptFile(f"'{path}' is a pipe, a device or a folder, not a file", "put the file itself in its place")
    if is_pointer(path):
        raise CorruptFile(
            f"'{path}' is a pointer of Git LFS: the file itself has not been fetched", "in its repository: git lfs pull"
        )
    return path


def _homes(folder: Path) -> list[Path]:
    """Where the files of a resolved folder may lie: in it, and for a snapshot of the hub's cache (or a folder in one,
    as onnx/) among the blobs of its repository, or those that repositories share."""
    for place in (folder, *folder.parents):
        repository = place.parent.parent
        if place.parent.name == "snapshots" and repository.name.startswith("models--"):
            return [folder, repository / "blobs", repository.parent / "blobs"]
    return [folder]


def is_pointer(path: Path) -> bool:
    """Whether it is what Git LFS puts in a file's place."""
    try:
        if path.stat().st_size > _POINTER_SIZE:
            return False
        with path.open("rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def check_small(path: Path) -> None:
    """Raises CorruptFile where a file of a checkpoint is too large to be read whole, or not fit to be opened."""
    try:
        size = contained(path, path.parent).stat().st_size
        if size > SMALL:
            raise ValueError(f"{size:,} bytes are too many")
    except (OSError, ValueError) as error:
        raise CorruptFile(f"cannot read {path}: {error}", "download the checkpoint again") from None


def json_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file of a checkpoint; None where there is no file. Raises CorruptFile."""
    if not os.path.lexists(path):
        return None
    check_small(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptFile(f"cannot read {path}: {error}", "download the checkpoint again") from None
    if not isinstance(value, dict):
        raise CorruptFile(f"{path} is not a JSON object", "download the checkpoint again")
    return value
