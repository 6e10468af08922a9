"""A checkpoint folder in Hugging Face format -> its configuration and named float32 arrays, one at a time."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from gpt2cli.errors import CorruptFile, UnknownModel

Array = np.ndarray[Any, np.dtype[Any]]

# Architectures with a language-model head, or (GPT2Model) one that is tied to the embedding anyway.
_WITH_HEAD = {"GPT2LMHeadModel", "GPT2DoubleHeadsModel", "GPT2Model"}
# [vocabulary, width]; our int8 exports store their transposes
TABLES = ("wte.weight", "lm_head.weight")
# Larger than any GPT-2 by far; a config beyond it is broken or hostile.
_LIMIT = 1 << 24


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
    eos_token_id: int | None

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head


def read_config(folder: Path) -> Config:
    """Parse and check `folder`/config.json. Raises UnknownModel for what is not GPT-2, CorruptFile for nonsense."""
    path = folder / "config.json"
    hint = "give a folder that holds a GPT-2 checkpoint: config.json, model.safetensors and a tokenizer"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnknownModel(f"'{folder}' is no checkpoint: it has no config.json", hint) from None
    except (OSError, ValueError) as error:
        raise CorruptFile(f"cannot read {path}: {error}", "download the checkpoint again") from None
    if not isinstance(raw, dict):
        raise CorruptFile(f"{path} is not a JSON object", "download the checkpoint again")
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
    eos = raw.get("eos_token_id", raw.get("bos_token_id", 50256))
    eos = eos[0] if isinstance(eos, list) and eos else eos
    vocab_size = number("vocab_size", default=50257)
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
        # some published configs name an end token outside the vocabulary: they have none
        eos_token_id=eos if isinstance(eos, int) and 0 <= eos < vocab_size else None,
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

    It takes one safetensors file or shards, names with and without `transformer.`, and the int8 weights of our
    own exports, which it dequantises."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = read_config(folder)
        self._files = {}
        for path in _weight_files(folder):
            try:
                file = safe_open(path, framework="numpy")
                names: list[str] = list(file.keys())  # type: ignore[no-untyped-call]
            except (SafetensorError, OSError) as error:
                raise _corrupt(path, error) from None
            for name in names:
                self._files[name.removeprefix("transformer.")] = (name, file, path)
        if any(name.startswith(f"h.{self.config.n_layer}.") for name in self._files):
            raise CorruptFile(
                f"the weights in '{folder}' have more layers than the {self.config.n_layer} of config.json",
                "config.json and the weights do not belong together: download both again",
            )
        stored_head = "lm_head.weight" in self or "lm_head.weight.int8" in self
        self.tied = self.config.tie_word_embeddings or not stored_head

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def tensor(self, name: str, shape: tuple[int, ...]) -> Array:
        """The tensor as contiguous float32. Raises CorruptFile where it is missing, of another shape, or holds
        NaN or infinity."""
        if name not in self and f"{name}.int8" in self:
            value = self._read(f"{name}.int8") * self._read(f"{name}.scale")
            value = value.T if name in TABLES else value
        else:
            value = self._read(name)
        if value.shape != shape:
            raise CorruptFile(
                f"the tensor {name} in '{self.folder}' has shape {list(value.shape)}, config.json says {list(shape)}",
                "config.json and the weights do not belong together: download both again",
            )
        if value.dtype.name not in ("float16", "bfloat16", "float32", "float64"):
            raise _not_floating(name, self.folder, value.dtype.name)
        value = np.ascontiguousarray(value, dtype=np.float32)
        if not np.isfinite(value).all():
            raise CorruptFile(
                f"the tensor {name} in '{self.folder}' holds NaN or infinity",
                "the checkpoint is broken (a failed training run?): use another one",
            )
        return value

    def _read(self, name: str) -> Array:
        if name not in self._files:
            raise CorruptFile(f"the tensor {name} is missing in '{self.folder}'", "download the checkpoint again")
        stored, file, path = self._files[name]
        try:
            value: Array = file.get_tensor(stored)  # type: ignore[no-untyped-call]
        except (SafetensorError, OSError) as error:
            raise _corrupt(path, error) from None
        except (AttributeError, TypeError, KeyError):  # how the library says that NumPy has no such type
            kind = file.get_slice(stored).get_dtype()  # type: ignore[no-untyped-call]
            raise _not_floating(name, self.folder, kind) from None
        return value


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: one, the shards of an index, or our own export's."""
    for name in ("model.safetensors", "weights.safetensors"):
        if (folder / name).exists():
            return [folder / name]
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        only_bin = any(folder.glob("pytorch_model*.bin"))
        raise UnknownModel(
            f"'{folder}' is no checkpoint that can be read: it has "
            + ("only pytorch_model.bin" if only_bin else "no model.safetensors"),
            "save it as safetensors: model.save_pretrained(folder, safe_serialization=True)",
        )
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if not all(isinstance(shard, str) and Path(shard).name == shard for shard in shards):
            raise ValueError("a shard lies outside the folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _corrupt(index, error) from None
    for shard in shards:
        if not (folder / shard).exists():
            raise CorruptFile(f"the shard {shard} is missing in '{folder}'", "download the checkpoint again")
    return [folder / shard for shard in shards]


def _not_floating(name: str, folder: Path, kind: str) -> CorruptFile:
    return CorruptFile(
        f"the tensor {name} in '{folder}' is of type {kind}, not float32, float16 or bfloat16",
        "quantised checkpoints of other tools cannot be exported; use the original",
    )


def _corrupt(path: Path, error: Exception) -> CorruptFile:
    return CorruptFile(f"cannot read {path}: {error}", "the file is truncated or corrupt: download it again")
