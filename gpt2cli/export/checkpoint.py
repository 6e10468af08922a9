"""A checkpoint folder in Hugging Face format -> its configuration and named float32 arrays, one at a time."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from gpt2cli.errors import CorruptFile, UnknownModel
from gpt2cli.export.quantize import BLOCK, from_int4
from gpt2cli.export.torchfile import TorchFile
from gpt2cli.paths import contained, json_object

Array = np.ndarray[Any, np.dtype[Any]]

# Architectures with a language-model head, or (GPT2Model) one that is tied to the embedding anyway.
_WITH_HEAD = {"GPT2LMHeadModel", "GPT2DoubleHeadsModel", "GPT2Model"}
# [vocabulary, width]; our int8 exports store their transposes
TABLES = ("wte.weight", "lm_head.weight")
_TORCH = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# Larger than any GPT-2 by far; a config beyond it is broken or hostile.
_LIMIT = 1 << 24
_GENERATION = "generation_config.json"
_HEADER = 1 << 22  # bytes; GPT-2 XL's is 60 kB


@dataclass(frozen=True)
class Config:
    """What the graph depends on, under transformers' names (GPT2Config) with its defaults."""

    n_layer: int
    n_head: int
    n_embd: int
    n_inner: int
    n_positions: int
    vocab_size: int
    activation_function: str
    layer_norm_epsilon: float
    scale_attn_weights: bool
    scale_attn_by_inverse_layer_idx: bool
    tie_word_embeddings: bool
    eos_token_ids: tuple[int, ...]  # in the vocabulary
    bos_token_id: int | None

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head

    @property
    def parameters(self) -> int:
        """How many numbers a checkpoint with a tied head has; a head of its own adds vocabulary times width."""
        width, inner = self.n_embd, self.n_inner
        block = 4 * width * width + 2 * width * inner + 9 * width + inner
        head = 0 if self.tie_word_embeddings else self.vocab_size * width
        return (self.vocab_size + self.n_positions) * width + self.n_layer * block + 2 * width + head


def read_config(folder: Path) -> Config:
    """Parse and check `folder`/config.json and, of `folder`/generation_config.json, what begins and ends a text. Raises
    UnknownModel for what is not GPT-2, CorruptFile for nonsense."""
    path = folder / "config.json"
    raw = json_object(path)
    if raw is None:
        hint = "give a folder that holds a GPT-2 checkpoint: config.json, model.safetensors and a tokenizer"
        raise UnknownModel(f"'{folder}' is no checkpoint: it has no config.json", hint)
    _refuse_others(raw, folder)

    def number(*keys: str, default: int | None = None) -> int:
        value = next((raw[key] for key in keys if raw.get(key) is not None), default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _LIMIT:
            raise CorruptFile(f"{path}: '{keys[0]}' is {value!r}, not a positive size", "mend config.json")
        return value

    width = number("n_embd", default=768)
    epsilon = raw.get("layer_norm_epsilon", 1e-5)
    if not isinstance(epsilon, int | float) or not 0 <= epsilon < 1:
        raise CorruptFile(f"{path}: 'layer_norm_epsilon' is {epsilon!r}", "mend config.json")
    vocab_size = number("vocab_size", default=50257)
    generation = json_object(folder / _GENERATION) or {}

    def tokens(key: str) -> tuple[int, ...]:
        """As transformers has it generation_config.json wins; where that says nothing, config.json counts. Ids
        outside the vocabulary, which some published files name, are left out."""
        name, value = _GENERATION, generation.get(key)
        if value is None:
            name, value = path.name, raw.get(key, 50256)
        ids = value if isinstance(value, list) else [value] * (value is not None)
        if not all(isinstance(token, int) and not isinstance(token, bool) for token in ids):
            raise CorruptFile(f"{folder / name}: '{key}' is {value!r}, no token id", f"mend {name}")
        return tuple(token for token in dict.fromkeys(ids) if 0 <= token < vocab_size)

    config = Config(
        n_layer=number("n_layer", default=12),
        n_head=number("n_head", default=12),
        n_embd=width,
        n_inner=number("n_inner", default=4 * width),
        n_positions=number("n_positions", "n_ctx", default=1024),
        vocab_size=vocab_size,
        activation_function=str(raw.get("activation_function", "gelu_new")),
        layer_norm_epsilon=float(epsilon),
        scale_attn_weights=raw.get("scale_attn_weights") is not False,
        scale_attn_by_inverse_layer_idx=raw.get("scale_attn_by_inverse_layer_idx") is True,
        tie_word_embeddings=raw.get("tie_word_embeddings") is not False,
        eos_token_ids=tokens("eos_token_id"),
        bos_token_id=next(iter(tokens("bos_token_id")), None),
    )
    if width % config.n_head:
        raise CorruptFile(f"{path}: n_embd {width} cannot be divided into {config.n_head} heads", "mend config.json")
    return config


def _refuse_others(raw: dict[str, Any], folder: Path) -> None:
    named = raw.get("architectures")
    architectures = [str(name) for name in named] if isinstance(named, list) else []
    kind = raw.get("model_type") or ("gpt2" if _WITH_HEAD & set(architectures) else None)
    hint = "gpt2 runs checkpoints whose config.json says model_type gpt2, with a language-model head"
    if kind != "gpt2":
        raise UnknownModel(f"'{folder}' is {kind or 'of no named model type'}, not GPT-2", hint)
    if architectures and not _WITH_HEAD & set(architectures):
        raise UnknownModel(f"'{folder}' is a {architectures[0]}: it has no language-model head", hint)
    if raw.get("add_cross_attention"):
        raise UnknownModel(f"'{folder}' is a decoder with cross-attention, not a GPT-2 language model", hint)


class Checkpoint:
    """Named tensors of one folder. Opening it reads headers only; each `tensor` call reads one tensor.

    It takes one file or shards, of safetensors or PyTorch, names with and without `transformer.`, and the int8
    and int4 weights of our own exports, which it dequantises."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = read_config(folder)
        self._files: dict[str, tuple[str, Any, Path]] = {}
        for path in _weight_files(folder):
            file = _opened(path)
            for name in file.keys():  # noqa: SIM118 (it is no dictionary)
                self._files[name.removeprefix("transformer.")] = (name, file, path)
        layers, found = self.config.n_layer, len(self._files)
        if layers > found:  # else a number in config.json could cost any amount of memory
            raise CorruptFile(
                f"config.json in '{folder}' says {layers} layers, the weights have {found} tensors",
                "config.json and the weights do not belong together: download both again",
            )
        if any(name.startswith(f"h.{self.config.n_layer}.") for name in self._files):
            raise CorruptFile(
                f"the weights in '{folder}' have more layers than the {self.config.n_layer} of config.json",
                "config.json and the weights do not belong together: download both again",
            )
        int4 = "lm_head.weight.int4" in self  # of an export, whose head is stored apart from the embedding
        stored_head = "lm_head.weight" in self or "lm_head.weight.int8" in self
        self.tied = not int4 and (self.config.tie_word_embeddings or not stored_head)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def tensor(self, name: str, shape: tuple[int, ...]) -> Array:
        """The tensor as contiguous float32. Raises CorruptFile where it is missing, of another shape, or holds
        NaN or infinity."""
        if name not in self and f"{name}.int8" in self:
            stored = shape[::-1] if name in TABLES else shape
            with np.errstate(all="ignore"):  # NaN is told below
                value = self._read(f"{name}.int8", stored) * self._read(f"{name}.scale", stored[1:])
            value = value.T if name in TABLES else value
        elif name not in self and f"{name}.int4" in self:
            inputs, outputs = shape[::-1] if name in TABLES else shape
            blocks = outputs, -(-inputs // BLOCK)
            packed = self._read(f"{name}.int4", (*blocks, BLOCK // 2))
            with np.errstate(all="ignore"):
                value = from_int4(packed, self._read(f"{name}.blocks", blocks), inputs)
            value = value.T if name in TABLES else value
        else:
            value = self._read(name, shape)
        if value.dtype.name not in ("float16", "bfloat16", "float32", "float64"):
            raise _not_floating(name, self.folder, value.dtype.name)
        with np.errstate(over="ignore"):  # beyond float32 it is infinity, and told as such
            value = np.ascontiguousarray(value, dtype=np.float32)
        if not np.isfinite(value).all():
            raise CorruptFile(
                f"the tensor {name} in '{self.folder}' holds NaN or infinity",
                "the checkpoint is broken (a failed training run?): use another one",
            )
        return value

    def _read(self, name: str, shape: tuple[int, ...]) -> Array:
        if name not in self._files:
            raise CorruptFile(f"the tensor {name} is missing in '{self.folder}'", "download the checkpoint again")
        stored, file, path = self._files[name]
        try:
            value: Array = file.get_tensor(stored)
        except (SafetensorError, OSError, ValueError) as error:  # ValueError: a shape that NumPy cannot have
            raise _corrupt(path, error) from None
        except (AttributeError, TypeError, KeyError):  # how the library says that NumPy has no such type
            raise _not_floating(name, self.folder, file.get_slice(stored).get_dtype()) from None
        if value.shape != shape:
            raise CorruptFile(
                f"the tensor {name} in '{self.folder}' has shape {list(value.shape)}, config.json says {list(shape)}",
                "config.json and the weights do not belong together: download both again",
            )
        return value


def _opened(path: Path) -> Any:
    """A TorchFile, or a file of the safetensors library: `keys` and `get_tensor` are the same."""
    if path.suffix == ".bin":
        return TorchFile(path)
    try:
        _check_header(path)
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise _corrupt(path, error) from None


def _check_header(path: Path) -> None:
    """What the library lets pass: headers of 100 MB, and a name given twice. Raises OSError, ValueError."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _HEADER:
            raise ValueError(f"its header of {size} bytes is no checkpoint's")
        json.loads(file.read(size), object_pairs_hook=_without_twins)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(names := dict(pairs)) < len(pairs):
        raise ValueError("its header gives a name twice")
    return names


def _weight_files(folder: Path) -> list[Path]:
    """The files with the weights: one of safetensors, our own export's, or shards; else the same of PyTorch."""
    for name in ("model.safetensors", "weights.safetensors", "model.safetensors.index.json", *_TORCH):
        if (folder / name).exists():
            path = contained(folder / name, folder)
            return _shards(path) if path.suffix == ".json" else [path]
    raise UnknownModel(
        f"'{folder}' is no checkpoint that can be read: it has neither model.safetensors nor pytorch_model.bin",
        "save it with transformers: model.save_pretrained(folder)",
    )


def _shards(index: Path) -> list[Path]:
    folder = index.parent
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise ValueError("a shard lies outside the folder")
        missing = [name for name in names if not (folder / name).exists()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _corrupt(index, error) from None
    if missing:
        raise CorruptFile(f"the shard {missing[0]} is missing in '{folder}'", "download the checkpoint again")
    return [contained(folder / name, folder) for name in names]


def _not_floating(name: str, folder: Path, kind: str) -> CorruptFile:
    return CorruptFile(
        f"the tensor {name} in '{folder}' is of type {kind}, not float32, float16 or bfloat16",
        "quantised checkpoints of other tools cannot be exported; use the original",
    )


def _corrupt(path: Path, error: Exception) -> CorruptFile:
    return CorruptFile(f"cannot read {path}: {error}", "the file is truncated or corrupt: download it again")
