"""The models we know by name: one TOML manifest each in models/."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2cli import paths
from gpt2cli.errors import CorruptFile, UnknownModel

BUILT_IN = "tiny"


@dataclass(frozen=True)
class File:
    """A file whose bytes are established."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """A manifest. Either `folder`, where the files of a built-in model lie, or `repository` on the hub."""

    name: str
    description: str
    licence: str
    revision: str
    parameters: int
    layers: int
    heads: int
    width: int
    positions: int
    vocabulary: int
    repository: str | None
    folder: Path | None
    files: Mapping[str, File]
    published: Mapping[str, float]  # evaluation results, as the authors gave them

    @property
    def download(self) -> int:
        """About how many bytes it is: weights whose size is not established are counted as float32."""
        weights = 0 if any(name.endswith(".safetensors") for name in self.files) else 4 * self.parameters
        return weights + sum(file.size for file in self.files.values())


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
            f"{meant}known models: {', '.join(names())}; also owner/name on the hub, and folders: ./FOLDER",
        )
    path = paths.data("models") / f"{name}.toml"
    try:
        row: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        folder = row.pop("folder", None)
        return Entry(
            name=name,
            repository=row.pop("repository", None),
            folder=paths.data("models") / folder if folder else None,
            files={file: File(**facts) for file, facts in row.pop("files", {}).items()},
            published=row.pop("published", {}),
            **row,
        )
    except (OSError, tomllib.TOMLDecodeError, TypeError) as error:
        raise CorruptFile(f"cannot read the manifest {path}: {error}", "reinstall gpt2cli") from error


def by_repository(repository: str) -> Entry | None:
    """The entry whose model this is."""
    return next((entry for entry in map(find, names()) if entry.repository == repository), None)
