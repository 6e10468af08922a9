"""Small random GPT-2 checkpoints, and a byte-level tokenizer to go with them."""

import functools
import json

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|endoftext|>"
TEXT = """The cat and the dog and the old man went to the sea; the sea was old, and the man was wet. When the rain had
stopped, the three of them sat down under a tree and counted what was left: two apples, one shoe, and a map on which
nothing could be read any more. "We shall have to ask somebody," said the dog, and so they did."""

SMALL = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_layer": 2,
    "n_head": 4,
    "n_embd": 32,
    "n_positions": 64,
    "vocab_size": 300,
    "eos_token_id": 299,
    "bos_token_id": 299,
}
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}


def random_tensors(config, seed=0):
    """Weights large enough that attention, activations and the head all matter."""
    rng = np.random.default_rng(seed)
    width, inner = config["n_embd"], config.get("n_inner") or 4 * config["n_embd"]

    def matrix(*shape):
        return rng.normal(0, 0.7 / np.sqrt(shape[0]), shape).astype(np.float32)

    def norm(name):
        return {
            f"{name}.weight": rng.normal(1, 0.2, width).astype(np.float32),
            f"{name}.bias": rng.normal(0, 0.2, width).astype(np.float32),
        }

    tensors = {
        "wte.weight": rng.normal(0, 0.5, (config["vocab_size"], width)).astype(np.float32),
        "wpe.weight": rng.normal(0, 0.3, (config["n_positions"], width)).astype(np.float32),
        **norm("ln_f"),
    }
    for layer in range(config["n_layer"]):
        b = f"h.{layer}"
        tensors |= norm(f"{b}.ln_1") | norm(f"{b}.ln_2")
        for name, rows, columns in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, inner),
            ("mlp.c_proj", inner, width),
        ):
            tensors[f"{b}.{name}.weight"] = 1.6 * matrix(rows, columns)
            tensors[f"{b}.{name}.bias"] = rng.normal(0, 0.2, columns).astype(np.float32)
    if config.get("tie_word_embeddings") is False:
        tensors["lm_head.weight"] = rng.normal(0, 0.5, (config["vocab_size"], width)).astype(np.float32)
    return tensors


@functools.cache
def _trained(vocab_size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_special_tokens([END])
    return tokenizer.to_str()


def small_tokenizer(vocab_size=300):
    """A tokenizer of one's own, of those that are trained once."""
    return Tokenizer.from_str(_trained(vocab_size))


def make_checkpoint(
    folder,
    config=None,
    *,
    seed=0,
    dtype="float32",
    prefix="",
    shards=1,
    extra=None,
    tokenizer=True,
    tensors=None,
    **changes,
):
    """Write a checkpoint folder; returns (config, tensors as the model sees them)."""
    config = {**(config or SMALL), **changes}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(tensors or random_tensors(config, seed))
    stored = {f"{prefix}{name}": value.astype(DTYPES[dtype]) for name, value in tensors.items()}
    seen = {name: stored[f"{prefix}{name}"].astype(np.float64) for name in tensors}
    if f"{prefix}lm_head.weight" in stored:
        stored["lm_head.weight"] = stored.pop(f"{prefix}lm_head.weight")
    stored |= extra or {}
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(stored, folder / "model.safetensors")
    else:
        names = sorted(stored)
        parts = [names[number::shards] for number in range(shards)]
        weight_map = {}
        for number, part in enumerate(parts, 1):
            name = f"model-{number:05}-of-{shards:05}.safetensors"
            save_file({key: stored[key] for key in part}, folder / name)
            weight_map |= dict.fromkeys(part, name)
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if tokenizer:
        small_tokenizer(config["vocab_size"]).save(str(folder / "tokenizer.json"))
    return config, seen
