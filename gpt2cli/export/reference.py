"""GPT-2 once more, in plain NumPy: what an export must compute, from the weights that it stores or was made from.

It shares nothing with the graph but the weights, so that a graph, a runtime or a processor that computes something else
is found out. After Radford et al. 2019; slow, for a few tokens."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpt2cli.export.checkpoint import Checkpoint

Array = np.ndarray[Any, np.dtype[Any]]
# The name of a matrix, x [T, in], the matrix [in, out], their product, and what it is added to, where it is.
Seen = Callable[[str, Array, Array, Array, Array | None], None]


def logits(checkpoint: Checkpoint, ids: Sequence[int], *, every: bool = False, seen: Seen | None = None) -> Array:
    """The logits [vocabulary] after `ids`, or with `every` after each of them, [tokens, vocabulary], by the weights of
    a checkpoint or an export of ours; integers are multiplied out. `seen` is shown every product. Raises CorruptFile.
    """
    config = checkpoint.config
    width, inner, heads, size = config.n_embd, config.n_inner, config.n_head, config.head_size
    table = checkpoint.tensor("wte.weight", (config.vocab_size, width))
    places = checkpoint.tensor("wpe.weight", (config.n_positions, width))

    def vector(name: str, size: int) -> Array:
        return checkpoint.tensor(name, (size,)).astype(np.float64)  # and with it all that it is added to

    def times(x: Array, name: str, weight: Array, stream: Array | None = None) -> Array:
        x = x.astype(np.float32)
        product: Array = x @ weight
        if seen:
            seen(name, x, weight, product, stream)
        return product

    def linear(x: Array, name: str, rows: int, columns: int, stream: Array | None = None) -> Array:
        weight = checkpoint.tensor(f"{name}.weight", (rows, columns))
        result: Array = times(x, f"{name}.weight", weight, stream) + vector(f"{name}.bias", columns)
        return result

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + config.layer_norm_epsilon)
        normalised: Array = centred / spread * vector(f"{name}.weight", width) + vector(f"{name}.bias", width)
        return normalised

    activation = _ACTIVATIONS[config.activation_function]
    future = np.triu(np.full((len(ids), len(ids)), -np.inf), 1)
    x = table[list(ids)].astype(np.float64) + places[: len(ids)]
    for layer in range(config.n_layer):
        block = f"h.{layer}"
        qkv = linear(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn", width, 3 * width)
        query, key, value = qkv.reshape(len(ids), 3, heads, size).transpose(1, 2, 0, 3)
        scale = size**-0.5 if config.scale_attn_weights else 1.0
        scale /= layer + 1 if config.scale_attn_by_inverse_layer_idx else 1
        attended = _softmax(query @ key.transpose(0, 2, 1) * scale + future) @ value
        merged = attended.transpose(1, 0, 2).reshape(len(ids), width)
        x = x + linear(merged, f"{block}.attn.c_proj", width, width, x)
        hidden = activation(linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc", width, inner))
        x = x + linear(hidden, f"{block}.mlp.c_proj", inner, width, x)
    last = norm(x if every else x[-1], "ln_f")
    if checkpoint.tied:
        return times(last, "wte.weight", table.T)
    return times(last, "lm_head.weight", checkpoint.tensor("lm_head.weight", (config.vocab_size, width)).T)


def _softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    result: Array = powers / powers.sum(axis=-1, keepdims=True)
    return result


def _sigmoid(x: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-x))
    return result


def _tanh_gelu(x: Array) -> Array:
    result: Array = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return result


def _erf_gelu(x: Array) -> Array:
    result: Array = 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return result


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh"), _tanh_gelu),
    **dict.fromkeys(("gelu", "gelu_python"), _erf_gelu),
    **dict.fromkeys(("silu", "swish"), lambda x: x * _sigmoid(x)),
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
}
