"""The models that `gpt2 finetune` made here and gave a name: a folder each, in a folder of ours."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from gpt2cli import paths
from gpt2cli.errors import Homeless, UsageError
from gpt2cli.store import catalog

_NAME = re.compile(r"[\w][\w.-]*")


def place(name: str) -> Path:
    """Where a model of this name is made. Raises UsageError where it can be no name, Homeless."""
    if name in catalog.names():
        raise UsageError(f"'{name}' is a model of the catalogue", "choose another name, or a folder: -o ./NAME")
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' can be no name of a model", "letters, digits, . _ and - ; or a folder: -o ./NAME")
    return paths.models() / name


def find(name: str) -> Path | None:
    """The folder of the model of this name, which can be run; None where there is none."""
    try:
        return folder if (folder := begun(name)) and (folder / "config.json").is_file() else None
    except (OSError, ValueError, Homeless):
        return None


def begun(name: str) -> Path | None:
    """The folder of this name, also where a run in it has made no model yet."""
    try:
        return folder if _NAME.fullmatch(name) and (folder := paths.models() / name).is_dir() else None
    except (OSError, ValueError, Homeless):
        return None


def names() -> list[str]:
    """Of those that can be run, sorted."""
    try:
        return sorted(path.name for path in paths.models().iterdir() if find(path.name))
    except (OSError, Homeless):
        return []


def facts(name: str) -> dict[str, Any]:
    """What is told of a model in a list: what it was made from, how many numbers and bytes it has."""
    folder = paths.models() / name
    try:
        plan = json.loads((folder / "run" / "plan.json").read_text(encoding="utf-8"))
        told = f"trained here from {plan['base']}" if plan["base"] else "trained here from scratch"
        parameters = int(plan["parameters"])
    except (OSError, ValueError, KeyError, TypeError):
        told, parameters = "trained here", None
    weights = folder / "model.safetensors"
    nbytes = weights.stat().st_size if weights.exists() else None
    return {"description": told, "parameters": parameters, "bytes": nbytes, "trained": True}


def remove(folder: Path) -> int:
    """Delete a model; returns how many bytes that freed. Raises StorageError, and nothing is gone where something in it
    cannot be deleted."""
    paths.check_removable(folder)
    nbytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    try:
        grave = folder.with_name(f".removed.{folder.name}")
        shutil.rmtree(grave, ignore_errors=True)  # of a removal that was interrupted
        shutil.rmtree(folder.rename(grave))
    except OSError as error:
        raise paths.undeletable(error.filename, error) from None
    return nbytes
