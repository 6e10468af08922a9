"""An adapter in PEFT's format, LoRA for a GPT-2: merged into its base, in NumPy."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from gpt2cli.errors import CorruptFile, UnknownModel
from gpt2cli.export.checkpoint import Checkpoint, Config
from gpt2cli.export.files import Place, corrupt, open_weights, shape_of
from gpt2cli.export.formats import ADAPTER, MERGE
from gpt2cli.export.names import SETTINGS
from gpt2cli.paths import contained, json_object

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_PREFIX = "base_model.model."
_LARGEST = 1e6  # that a factor may be
_FLOATING = ("float16", "bfloat16", "float32", "float64")
# What else PEFT can do, which is more than adding a product to a matrix.
_OTHERS = ("use_dora", "modules_to_save", "trainable_token_indices", "alora_invocation_tokens", "layer_replication")

# How its matrices may have begun; all else that has a name changes the base, as PiSSA and OLoRA do.
_PLAIN_STARTS = ("gaussian", "eva", "orthogonal")


def settings(folder: Path) -> dict[str, Any]:
    """adapter_config.json. Raises UnknownModel where it is another kind of adapter, CorruptFile."""
    path = folder / ADAPTER
    found = json_object(path) or {}
    if not isinstance(found.get("base_model_name_or_path"), str):
        raise CorruptFile(f"{path} names no base model", "write it in: base_model_name_or_path")
    patterns = found.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise CorruptFile(f"{path}: 'alpha_pattern' is no object", "mend it, or leave it out")
    odd = [name for name in _OTHERS if found.get(name)]
    if isinstance(start := found.get("init_lora_weights"), str) and start not in _PLAIN_STARTS:
        odd.append(f"init_lora_weights {start!r}")
    # PEFT takes them for regular expressions
    odd += [f"the alpha_pattern {name!r}" for name in patterns if not re.fullmatch(r"[\w.]+", name)]
    if found.get("peft_type") != "LORA" or odd or found.get("bias", "none") != "none":
        what = odd[0] if odd else found.get("peft_type") if found.get("peft_type") != "LORA" else "bias"
        raise UnknownModel(f"'{folder}' holds an adapter with {what}, which is more than LoRA", MERGE)
    return found


def merge(folder: Path, base: Path, target: Path) -> None:
    """Write the checkpoint of `base` with the adapter in `folder` to `target`, an empty folder. Raises UnknownModel,
    CorruptFile, OSError."""
    checkpoint, added = Checkpoint(base), _Added(folder)
    tensors = {}
    for name, shape in shapes(checkpoint.config, tied=checkpoint.tied).items():
        tensors[name] = checkpoint.tensor(name, shape)
        if (more := added.to(name, shape)) is not None:
            tensors[name] = tensors[name] + more
    added.check_used()
    for name in SETTINGS:
        if (base / name).exists():
            shutil.copyfile(contained(base / name, base), target / name)
    config = (json_object(target / "config.json") or {}) | {"tie_word_embeddings": checkpoint.tied}
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    part = target / "model.safetensors.part"
    save_file(tensors, part, {"format": "pt"})
    part.replace(target / "model.safetensors")


def shapes(config: Config, *, tied: bool) -> dict[str, tuple[int, ...]]:
    """The tensors of a checkpoint."""
    width, inner = config.n_embd, config.n_inner
    found: dict[str, tuple[int, ...]] = {
        "wte.weight": (config.vocab_size, width),
        "wpe.weight": (config.n_positions, width),
        "ln_f.weight": (width,),
        "ln_f.bias": (width,),
    }
    if not tied:
        found["lm_head.weight"] = config.vocab_size, width
    for layer in range(config.n_layer):
        for name in ("ln_1", "ln_2"):
            found |= {f"h.{layer}.{name}.weight": (width,), f"h.{layer}.{name}.bias": (width,)}
        for name, inputs, outputs in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, inner),
            ("mlp.c_proj", inner, width),
        ):
            found |= {f"h.{layer}.{name}.weight": (inputs, outputs), f"h.{layer}.{name}.bias": (outputs,)}
    return found


class _Added:
    """What an adapter adds to the matrices of its base. Opening it reads the header; a tensor is read when its shape
    is known to fit."""

    def __init__(self, folder: Path) -> None:
        self._config = settings(folder)
        there = [name for name in _WEIGHTS if (folder / name).exists()]
        if not there:
            raise CorruptFile(
                f"'{folder}' has no weights of its adapter: {_WEIGHTS[0]} is missing",
                "download it again, or save it with peft: model.save_pretrained(FOLDER)",
            )
        self._path = contained(folder / there[0], folder)
        self._file = open_weights(self._path)
        self._names = set(self._file.keys())
        self._used: set[str] = set()

    def to(self, name: str, shape: tuple[int, ...]) -> Any:
        """What is added to a tensor of this name, [in, out]; None for nothing."""
        module = name.removesuffix(".weight")
        first, second = (next(self._named(module, letter), None) for letter in "AB")
        if first is None or second is None:
            return None
        try:
            narrow, wide = (shape_of(Place(stored, self._file, self._path)) for stored in (first, second))
        except (SafetensorError, OSError, ValueError) as error:
            raise corrupt(self._path, error) from None
        rank = narrow[0] if narrow else 0
        if len(shape) != 2 or (narrow, wide) != ((rank, shape[0]), (shape[1], rank)) or not 0 < rank <= max(shape):
            raise CorruptFile(
                f"{self._path}: {first} has shape {list(narrow)}, the base's {name} {list(shape)}",
                "the adapter belongs to another base",
            )
        self._used |= {first, second}
        with np.errstate(all="ignore"):  # what comes of it is told
            added = (self._read(second) @ self._read(first)).T * np.float32(self._scale(module, rank))
        if not np.isfinite(added).all():
            raise CorruptFile(
                f"{self._path}: what it adds to {name} holds NaN or infinity",
                "the adapter is broken (a failed training run?): use another one",
            )
        return added

    def _read(self, name: str) -> Any:
        try:
            value = self._file.get_tensor(name)
            kind = value.dtype.name
        except (SafetensorError, OSError, ValueError) as error:
            raise corrupt(self._path, error) from None
        except (AttributeError, TypeError, KeyError):  # how the library says that NumPy has no such type
            kind = self._file.get_slice(name).get_dtype()
        if kind not in _FLOATING:
            raise CorruptFile(f"{self._path}: {name} is of the type {kind}", "save it in float32 or float16")
        return np.asarray(value, np.float32)

    def _named(self, module: str, letter: str) -> Iterator[str]:
        for prefix in (f"{_PREFIX}transformer.", _PREFIX):
            if (name := f"{prefix}{module}.lora_{letter}.weight") in self._names:
                yield name

    def _scale(self, module: str, rank: int) -> float:
        alpha = self._config.get("lora_alpha", 8)
        for pattern, value in (self._config.get("alpha_pattern") or {}).items():
            if f".transformer.{module}".endswith(f".{pattern}"):
                alpha = value
                break
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) <= _LARGEST:
            raise CorruptFile(f"{self._path.parent / ADAPTER}: 'lora_alpha' is {str(alpha)[:40]}", "mend it")
        return float(alpha) / (rank**0.5 if self._config.get("use_rslora") else rank)

    def check_used(self) -> None:
        """Raises CorruptFile where the base has no place for some of it."""
        if left := sorted(self._names - self._used):
            raise CorruptFile(
                f"{self._path}: the base has no place for {left[0]}", "the adapter belongs to another base"
            )
