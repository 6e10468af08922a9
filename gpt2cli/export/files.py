"""The files that hold a checkpoint's weights, and the tensors in them by the names that transformers gives them."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from gpt2cli.errors import CorruptFile, UnknownModel
from gpt2cli.export import formats
from gpt2cli.export.names import EXPORTED
from gpt2cli.export.torchfile import TorchFile
from gpt2cli.paths import contained, json_object

_TORCH = ("pytorch_model.bin", "pytorch_model.bin.index.json")
HEADER = 1 << 22  # bytes; GPT-2 XL's is 60 kB
# What PyTorch puts before the names in a module that it wraps: torch.compile, FSDP, checkpointed activations. It may
# stand anywhere, and is nothing else's name.
_INNER = re.compile(r"_(?:orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\.")
# What wraps a whole model more often than not: DistributedDataParallel, PEFT, and training frameworks.
_OUTER = re.compile(r"(?:(?:module|base_model|model)\.)*")
_LANDMARK = "wpe.weight"  # which every GPT-2 stores


class Place(NamedTuple):
    """Where a tensor is: its name in an open file, `file.get_tensor(name)`, and the file's path."""

    name: str
    file: Any
    path: Path


def open_tensors(folder: Path) -> tuple[dict[str, Place], str]:
    """The tensors of a checkpoint, without `transformer.` and whatever else wraps a whole model; and that, "" where
    nothing does. Reads headers only. Raises UnknownModel and CorruptFile."""
    files = [(path, open_weights(path)) for path in _weight_files(folder)]
    places = [Place(name, file, path) for path, file in files for name in file.keys()]  # noqa: SIM118 (no dictionary)
    if adapted := next((place for place in places if ".lora_A." in place.name), None):
        raise UnknownModel(f"{adapted.path} holds an adapter ({adapted.name}), not a whole model", formats.MERGE)
    wrapper = _wrapper(folder, (_INNER.sub("", place.name) for place in places))
    found: dict[str, Place] = {}
    for place in places:
        name = _INNER.sub("", place.name).removeprefix(wrapper).removeprefix("transformer.")
        if name in found and found[name].name != place.name:
            raise CorruptFile(
                f"'{folder}' has the tensor {name} twice: as {found[name].name} and as {place.name}",
                "save the model again, with save_pretrained(folder)",
            )
        found[name] = place
    inner = sorted({mark for place in places for mark in _INNER.findall(place.name)})
    return found, "".join([wrapper, *inner])


def _wrapper(folder: Path, names: Iterable[str]) -> str:
    """What stands before the names of the one GPT-2 in the checkpoint. A name that is known counts before others: a
    training script may keep a second model, to compare with."""
    heads = {name.removesuffix(_LANDMARK).removesuffix("transformer.") for name in names if name.endswith(_LANDMARK)}
    wrappers = {head for head in heads if _OUTER.fullmatch(head)} or heads or {""}
    if "" in wrappers:
        return ""
    if len(wrappers) > 1:
        raise CorruptFile(
            f"'{folder}' holds several models: {', '.join(sorted(wrappers))}", "save the one that is wanted alone"
        )
    return wrappers.pop()


def open_weights(path: Path) -> Any:
    """A TorchFile, or a file of the safetensors library: `keys` and `get_tensor` are the same. Raises
    CorruptFile."""
    if path.suffix == ".bin":
        return TorchFile(path)
    try:
        _check_header(path)
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise corrupt(path, error) from None


def shape_of(place: Place) -> tuple[int, ...]:
    """Reads nothing of the tensor. Raises as `get_tensor`."""
    if isinstance(place.file, TorchFile):
        return tuple(place.file.get_tensor(place.name).shape)
    return tuple(place.file.get_slice(place.name).get_shape())


def _check_header(path: Path) -> None:
    """What the library lets pass: headers of 100 MB, and a name given twice. Raises OSError, ValueError."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > HEADER:
            raise ValueError(f"its header of {size} bytes is no checkpoint's")
        json.loads(file.read(size), object_pairs_hook=_without_twins)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(names := dict(pairs)) < len(pairs):
        raise ValueError("its header gives a name twice")
    return names


def _weight_files(folder: Path) -> list[Path]:
    """The files with the weights: one of safetensors, our own export's, or shards; else the same of PyTorch."""
    for name in ("model.safetensors", EXPORTED, "model.safetensors.index.json", *_TORCH):
        if (folder / name).exists():
            path = contained(folder / name, folder)
            return _shards(path) if path.suffix == ".json" else [path]
    formats.refuse_named(str(folder), formats.names_in(folder))
    raise UnknownModel(
        f"'{folder}' is no checkpoint that can be read: it has neither model.safetensors nor pytorch_model.bin",
        "save it with transformers: model.save_pretrained(folder)",
    )


def _shards(index: Path) -> list[Path]:
    folder = index.parent
    try:
        names = sorted(set((json_object(index) or {})["weight_map"].values()))
        if not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise ValueError("a shard lies outside the folder")
        missing = [name for name in names if not (folder / name).exists()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise corrupt(index, error) from None
    if missing:
        raise CorruptFile(f"the shard {missing[0]} is missing in '{folder}'", "download the checkpoint again")
    return [contained(folder / name, folder) for name in names]


def corrupt(path: Path, error: Exception) -> CorruptFile:
    return CorruptFile(f"cannot read {path}: {error}", "the file is truncated or corrupt: download it again")
