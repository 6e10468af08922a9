"""Where things live on this machine: the package's own data, the cache, and the config file."""

import os
from pathlib import Path

from gpt2cli.errors import CorruptFile, Homeless, StorageError

_PACKAGE = Path(__file__).parent


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
    """Our own cache folder, $GPT2_CACHE or the platform's. It may not exist yet. Raises Homeless, as the next two."""
    return _own("GPT2_CACHE", "cache", "FOLDER")


def config() -> Path:
    """The config file, $GPT2_CONFIG or in the platform's config folder. It may not exist."""
    place = _own("GPT2_CONFIG", "config", "FILE")
    return place if os.environ.get("GPT2_CONFIG") else place / "config.toml"


def state() -> Path:
    """Our own folder for what is remembered between runs, $GPT2_STATE or the platform's. It may not exist yet."""
    return _own("GPT2_STATE", "state", "FOLDER")


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


def exports() -> Path:
    """Where exported graphs are kept."""
    return cache() / "exports"


def contained(path: Path, folder: Path) -> Path:
    """`path`, a file of the checkpoint in `folder`, links followed no further than the checkpoint goes.

    A snapshot of the hub's cache consists of links to its repository's blobs, which belong to it. Raises CorruptFile
    for a link to anything else: a checkpoint from a stranger could name a file of ours, to be copied and shown."""
    try:
        target, home = path.resolve(), folder.resolve()
        if home.parent.name == "snapshots":
            home = home.parent.parent
        inside = target.is_relative_to(home)
    except (OSError, RuntimeError, ValueError):  # links in a circle, or where nobody may look, or no path at all
        inside = False
    if not inside:
        raise CorruptFile(f"'{path}' is a link to a file outside the folder", "copy the file into the folder")
    return path
