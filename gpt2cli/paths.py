"""Where things live on this machine: the package's own data, and the cache."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).parent


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


def user_path(name: str) -> Path:
    """A path that somebody wrote, `~` and `~user` expanded where there is such a user."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def exports() -> Path:
    """Where exported graphs are kept."""
    return cache() / "exports"
