"""GPT-2 in plain NumPy, written from the papers: the slow path that every fast path is compared with.

Radford et al. 2019 (pre-norm blocks, learned positions, tied head) on Vaswani et al. 2017 (attention). No cache, no
batch, float64 throughout, nothing shared with the package."""

from math import erf

import numpy as np


def layer_norm(x, weight, bias, epsilon):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * weight + bias


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def tanh_gelu(x):  # Hendrycks and Gimpel 2016, the approximation
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {
    "gelu_new": tanh_gelu,
    "gelu_fast": tanh_gelu,
    "gelu_accurate": tanh_gelu,
    "gelu_pytorch_tanh": tanh_gelu,
    "gelu_python_tanh": tanh_gelu,
    "gelu": lambda x: 0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2))),
    "gelu_python": lambda x: 0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2))),
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "silu": lambda x: x * sigmoid(x),
    "swish": lambda x: x * sigmoid(x),
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "linear": lambda x: x,
}


def exact(x, weight):
    """x @ weight: what the int8 simulation replaces."""
    return x @ weight


def rounded(weight):
    """`weight` [in, out] on the exporter's grid: a scale for each column, integers from -127 to 127."""
    columns = np.abs(weight).max(0)
    columns = np.where(columns > 0, columns / 127, 1)
    return np.rint(weight / columns) * columns


def int8_weights(x, weight):
    return x @ rounded(weight)


def int8(x, weight):
    """Both sides rounded as the exporter does, `x` to 256 levels between the least and the largest of each row."""
    least = x.min(-1, keepdims=True)
    span = np.maximum(x.max(-1, keepdims=True) - least, 1e-30)
    return (np.rint((x - least) / span * 255) / 255 * span + least) @ rounded(weight)


def forward(tensors, config, ids, product=exact):
    """Logits [len(ids), vocabulary] after each of `ids`. With `product=int8` tables are rounded as well."""
    embedding = np.asarray(tensors["wte.weight"], np.float64)
    head = embedding if config.get("tie_word_embeddings", True) else tensors.get("lm_head.weight", embedding)
    return product(hidden_states(tensors, config, ids, product)[-1], np.asarray(head, np.float64).T)


def hidden_states(tensors, config, ids, product=exact):
    """The embeddings, and the states [len(ids), width] after each block, the last of them normalised as the head reads
    it."""
    states, _ = insides(tensors, config, ids, product)
    return [*states[:-1], final_norm(tensors, config, states[-1])]


def final_norm(tensors, config, x):
    return layer_norm(x, tensors["ln_f.weight"], tensors["ln_f.bias"], config.get("layer_norm_epsilon", 1e-5))


def insides(tensors, config, ids, product=exact, zeroed=None):
    """The embeddings and the states [len(ids), width] after each block, and each block's attention [heads, len(ids),
    len(ids)]. `zeroed`: a layer, and a token whose values count as zero in it. `tensors` have the names of a checkpoint
    without `transformer.`; `config` is config.json."""
    t = {name: np.asarray(value, np.float64) for name, value in tensors.items()}
    heads, width = config["n_head"], config["n_embd"]
    size, epsilon = width // heads, config.get("layer_norm_epsilon", 1e-5)
    activation = ACTIVATIONS[config.get("activation_function", "gelu_new")]
    embedding = t["wte.weight"]
    if product is not exact:
        embedding = rounded(embedding.T).T

    length = len(ids)
    x = embedding[ids] + t["wpe.weight"][:length]
    states, attention = [x], []
    future = np.triu(np.full((length, length), -np.inf), 1)
    for layer in range(config["n_layer"]):
        b = f"h.{layer}."
        h = layer_norm(x, t[b + "ln_1.weight"], t[b + "ln_1.bias"], epsilon)
        qkv = product(h, t[b + "attn.c_attn.weight"]) + t[b + "attn.c_attn.bias"]
        q, k, v = (part.reshape(length, heads, size).swapaxes(0, 1) for part in np.split(qkv, 3, -1))
        scores = q @ k.swapaxes(1, 2)
        if config.get("scale_attn_weights", True):
            scores = scores / np.sqrt(size)
        if config.get("scale_attn_by_inverse_layer_idx", False):
            scores = scores / (layer + 1)
        attention.append(softmax(scores + future))
        if zeroed and zeroed[0] == layer:
            v = np.where(np.arange(length)[:, None] == zeroed[1], 0, v)
        attended = (attention[-1] @ v).swapaxes(0, 1).reshape(length, width)
        x = x + product(attended, t[b + "attn.c_proj.weight"]) + t[b + "attn.c_proj.bias"]
        h = layer_norm(x, t[b + "ln_2.weight"], t[b + "ln_2.bias"], epsilon)
        h = activation(product(h, t[b + "mlp.c_fc.weight"]) + t[b + "mlp.c_fc.bias"])
        x = x + product(h, t[b + "mlp.c_proj.weight"]) + t[b + "mlp.c_proj.bias"]
        states.append(x)
    return states, attention


def greedy(tensors, config, ids, count):
    ids = list(ids)
    for _ in range(count):
        ids.append(int(forward(tensors, config, ids)[-1].argmax()))
    return ids[-count:]
