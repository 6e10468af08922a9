"""The models we know by name: one TOML manifest each in models/."""

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path

from gpt2cli import paths
from gpt2cli.errors import CorruptFile, UnknownModel


@dataclass(frozen=True)
class Entry:
    """A manifest. `folder` is where the files of a built-in model lie."""

    name: str
    description: str
    licence: str
    revision: str
    parameters: int
    folder: Path


def names() -> list[str]:
    """The names in the catalogue, sorted."""
    return sorted(path.stem for path in paths.data("models").glob("*.toml"))


def find(name: str) -> Entry:
    """The manifest of `name`. Raises UnknownModel with the nearest name."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.4)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UnknownModel(
            f"no model named '{name}'",
            f"{meant}known models: {', '.join(names())}; a folder with a GPT-2 checkpoint works too: -m FOLDER",
        )
    path = paths.data("models") / f"{name}.toml"
    try:
        row = tomllib.loads(path.read_text(encoding="utf-8"))
        return Entry(
            name=name,
            description=row["description"],
            licence=row["licence"],
            revision=row["revision"],
            parameters=row["parameters"],
            folder=paths.data("models") / row["folder"],
        )
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise CorruptFile(f"cannot read the manifest {path}: {error}", "reinstall gpt2cli") from error
