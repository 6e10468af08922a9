"""Where things live on this machine: the package's own data, the cache, and the config file."""

import json
import os
from pathlib import Path
from typing import Any

from gpt2cli.errors import CorruptFile

_PACKAGE = Path(__file__).parent
SMALL = 1 << 26  # bytes of a file that is read whole; the largest vocabularies have half of it


def data(name: str) -> Path:
    """The folder `models` or `completions`: inside an installed package, beside it in the repository."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def cache() -> Path:
    """Our own cache folder, $GPT2_CACHE or the platform's. It may not exist yet."""
    override = os.environ.get("GPT2_CACHE")
    if override:
        return user_path(override)
    import platformdirs  # 15 ms, and the built-in model never needs it

    return Path(platformdirs.user_cache_dir("gpt2cli", appauthor=False))


def config() -> Path:
    """The config file, $GPT2_CONFIG or in the platform's config folder. It may not exist."""
    override = os.environ.get("GPT2_CONFIG")
    if override:
        return user_path(override)
    import platformdirs

    return Path(platformdirs.user_config_dir("gpt2cli", appauthor=False)) / "config.toml"


def state() -> Path:
    """Our own folder for what is remembered between runs, $GPT2_STATE or the platform's. It may not exist yet."""
    override = os.environ.get("GPT2_STATE")
    if override:
        return user_path(override)
    import platformdirs

    return Path(platformdirs.user_state_dir("gpt2cli", appauthor=False))


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


def check_small(path: Path) -> None:
    """Raises CorruptFile where a file of a checkpoint is too large to be read whole, is none (a pipe would be waited
    for), or lies outside its folder."""
    try:
        size = contained(path, path.parent).stat().st_size
        if size > SMALL:
            raise ValueError(f"{size:,} bytes are too many")
        if not path.is_file():
            raise ValueError("it is no file")
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
