"""A checkpoint folder in Hugging Face format -> its configuration and named float32 arrays, one at a time."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from gpt2cli.errors import CorruptFile, UnknownModel
from gpt2cli.export import formats
from gpt2cli.export.files import corrupt, open_tensors, shape_of
from gpt2cli.export.names import EXPORTED, GENERATION
from gpt2cli.export.quantize import BLOCK, ZERO, from_int4
from gpt2cli.paths import json_object

Array = np.ndarray[Any, np.dtype[Any]]

# Architectures with a language-model head, or (GPT2Model) one that is tied to the embedding anyway.
_WITH_HEAD = {"GPT2LMHeadModel", "GPT2DoubleHeadsModel", "GPT2Model"}
_HEADLESS = {"GPT2ForSequenceClassification", "GPT2ForTokenClassification", "GPT2ForQuestionAnswering"}
# [vocabulary, width]; our int8 exports store their transposes
TABLES = ("wte.weight", "lm_head.weight")
_MATRICES = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
_BY_HEADS = {"attn.c_attn.weight": 1, "attn.c_attn.bias": 0, "attn.c_proj.weight": 0}  # the axis of the heads
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
    eos_token_ids: tuple[int, ...]  # in the vocabulary
    bos_token_id: int | None

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head

    @property
    def padded_head_size(self) -> int:
        """GroupQueryAttention wants heads in multiples of 8; the rest is filled with zeros, which change nothing."""
        return -(-self.head_size // 8) * 8

    @property
    def parameters(self) -> int:
        """How many numbers it has. A tied head is the embedding, and counts once."""
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
        if inner := [path.parent for path in folder.glob("*/config.json")]:  # of a run of transformers' Trainer
            hint = f"give a checkpoint's own folder: '{max(inner, key=lambda one: one.stat().st_mtime)}'"
        else:
            hint = "give a folder that holds a GPT-2 checkpoint: config.json, model.safetensors and a tokenizer"
            formats.refuse_named(str(folder), formats.names_in(folder))
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
    generation = json_object(folder / GENERATION) or {}

    def tokens(key: str) -> tuple[int, ...]:
        """As transformers has it generation_config.json wins; where that says nothing, config.json counts (for
        transformers such a text then has no end). Ids outside the vocabulary, which some published files name, are
        left out."""
        name, value = GENERATION, generation.get(key)
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
        if architectures[0] in _HEADLESS:
            raise UnknownModel(f"'{folder}' is a {architectures[0]}: it has no language-model head", hint)
        raise UnknownModel(
            f"'{folder}' is a {architectures[0]}, an architecture that gpt2 does not know",
            'if it is plain GPT-2 all the same, name GPT2LMHeadModel under "architectures" in config.json',
        )
    if raw.get("add_cross_attention"):
        raise UnknownModel(f"'{folder}' is a decoder with cross-attention, not a GPT-2 language model", hint)


class Checkpoint:
    """Named tensors of one folder. Opening it reads headers, and the tables where a head is stored beside a tied
    embedding; each `tensor` call reads one tensor. `notes` are for the user: what was not as config.json says.

    It takes one file or shards, of safetensors or PyTorch, names with and without `transformer.` and what wraps a whole
    model, and the int8 and int4 weights of our own exports, which it dequantises."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = read_config(folder)
        self.notes: list[str] = []
        self._files, wrapper = open_tensors(folder)
        self._exported = any(place.path.name == EXPORTED for place in self._files.values())
        if wrapper:
            self.notes.append(f"the names of its tensors are read without {wrapper}")
        if "adapter_config.json" in formats.names_in(folder):
            self.notes.append("the adapter beside its weights is not applied")
        self._check_names()
        self._check_layers()
        self._zeros = self._missing_biases()
        self.tied = self._is_tied()
        self.config = replace(self.config, tie_word_embeddings=self.tied)

    def _check_names(self) -> None:
        if not any(re.match(r"w[tp]e\.|h\.0\.", name) for name in self._files):
            names = ", ".join(sorted(self._files)[:2]) or "nothing"
            raise UnknownModel(
                f"the weights in '{self.folder}' are not GPT-2's: they begin with {names}",
                "save the model again, with transformers' GPT2LMHeadModel: model.save_pretrained(folder)",
            )

    def _check_layers(self) -> None:
        layers, found = self.config.n_layer, len(self._files)
        if layers > found:  # else a number in config.json could cost any amount of memory
            raise CorruptFile(
                f"config.json in '{self.folder}' says {layers} layers, the weights have {found} tensors",
                "config.json and the weights do not belong together: download both again",
            )
        if any(name.startswith(f"h.{layers}.") for name in self._files):
            raise CorruptFile(
                f"the weights in '{self.folder}' have more layers than the {layers} of config.json",
                "config.json and the weights do not belong together: download both again",
            )

    def _is_tied(self) -> bool:
        """Whether the head is the embedding: as transformers has it, a head that is stored and differs is kept."""
        kinds = "int8", "uint8", "int4"
        if any(f"lm_head.weight.{kind}" in self for kind in kinds):  # of an export, which stores no copies
            return False
        if "lm_head.weight" not in self:
            if not self.config.tie_word_embeddings:
                self.notes.append(
                    "config.json says that its head is not tied, but none is stored: the embedding serves"
                )
            return True
        if not self.config.tie_word_embeddings:
            return False
        if "wte.weight" not in self:  # of two names for one tensor safetensors.torch.save_model keeps the first
            self._files["wte.weight"] = self._files["lm_head.weight"]
            return True
        shape = self.config.vocab_size, self.config.n_embd
        if np.array_equal(self._read("lm_head.weight", shape), self._read("wte.weight", shape)):
            return True
        self.notes.append("config.json ties its head to the embedding, but another is stored: that is used")
        return False

    def _missing_biases(self) -> frozenset[str]:
        """The biases of a model without: of the norms, or of a kind of matrix, none is stored in any layer."""
        layers = range(self.config.n_layer)
        norms = {f"h.{layer}.{name}.bias" for layer in layers for name in ("ln_1", "ln_2")} | {"ln_f.bias"}
        kinds = [{f"h.{layer}.{name}.bias" for layer in layers} for name in _MATRICES]
        if len(layers) == 1:  # one that is missing would be a kind
            kinds = [set().union(*kinds)]
        there = self._files.keys()
        missing = frozenset(
            name
            for kind in (norms, *kinds)
            if not kind & there and {name.removesuffix("bias") + "weight" for name in kind} <= there
            for name in kind
        )
        if missing:
            places = sorted({re.sub(r"h\.\d+\.", "", name).removesuffix(".bias") for name in missing})
            self.notes.append(f"it stores no biases of {', '.join(places)}: they are zeros")
        return missing

    @property
    def matrices(self) -> list[str]:
        """The names of what inputs are multiplied by, the head last."""
        layers = [f"h.{layer}.{name}.weight" for layer in range(self.config.n_layer) for name in _MATRICES]
        return [*layers, "wte.weight" if self.tied else "lm_head.weight"]

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def tensor(self, name: str, shape: tuple[int, ...]) -> Array:
        """The tensor as contiguous float32, heads without the padding of an export. Raises CorruptFile where it is
        missing, of another shape, or holds NaN or infinity."""
        axis = _BY_HEADS.get(name.split(".", 2)[-1])
        size, padded = self.config.head_size, self.config.padded_head_size
        if axis is None or size == padded or not self._exported:
            return self._whole(name, shape)
        whole = self._whole(name, (*shape[:axis], shape[axis] // size * padded, *shape[axis + 1 :]))
        heads = whole.reshape(*shape[:axis], shape[axis] // size, padded, *shape[axis + 1 :])
        return np.ascontiguousarray(heads.take(range(size), axis=axis + 1).reshape(shape))

    def _whole(self, name: str, shape: tuple[int, ...]) -> Array:
        """As it is stored."""
        if name in self._zeros:
            return np.zeros(shape, np.float32)
        kind = next((kind for kind in ("int8", "uint8") if name not in self and f"{name}.{kind}" in self), None)
        if kind:
            stored = shape[::-1] if name in TABLES else shape
            zero = np.float32(ZERO if kind == "uint8" else 0)
            with np.errstate(all="ignore"):  # NaN is told below
                value = (self._read(f"{name}.{kind}", stored) - zero) * self._read(f"{name}.scale", stored[1:])
            if f"{name}.channels" in self:
                value *= self._read(f"{name}.channels", stored[:1])[:, None]
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
        stored, file, path = place = self._files[name]
        try:
            found = shape_of(place)
            if found == shape:  # else it may be of any size
                value: Array = file.get_tensor(stored)
                return value
        except (SafetensorError, OSError, ValueError) as error:  # ValueError: a shape that NumPy cannot have
            raise corrupt(path, error) from None
        except (AttributeError, TypeError, KeyError):  # how the library says that NumPy has no such type
            raise _not_floating(name, self.folder, file.get_slice(stored).get_dtype()) from None
        if found == shape[::-1] and name.startswith("h."):
            raise CorruptFile(
                f"the tensor {name} in '{self.folder}' is stored as a torch.nn.Linear's, not as GPT-2's",
                "transpose the matrices of attn and mlp (as nanoGPT's from_pretrained does), and save them again",
            )
        raise CorruptFile(
            f"the tensor {name} in '{self.folder}' has shape {list(found)}, config.json says {list(shape)}",
            "config.json and the weights do not belong together: download both again",
        )


def _not_floating(name: str, folder: Path, kind: str) -> CorruptFile:
    return CorruptFile(
        f"the tensor {name} in '{folder}' is of type {kind}, not float32, float16 or bfloat16",
        "quantised checkpoints of other tools cannot be exported; use the original",
    )
