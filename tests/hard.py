"""Checkpoints that are hard to round, and compute what `tiny` does or nearly so: its weights, made as uneven as those
of trained GPT-2s are (Dettmers et al. 2022, LLM.int8; Xiao et al. 2022, SmoothQuant)."""

import json
import shutil

import numpy as np
from checkpoints import random_tensors
from safetensors.numpy import save_file

from gpt2cli import paths
from gpt2cli.export.checkpoint import Checkpoint
from gpt2cli.export.names import SETTINGS

TINY = paths.data("models") / "tiny"


def tensors():
    """Of the built-in model, as floats."""
    checkpoint = Checkpoint(TINY)
    named = random_tensors(json.loads((TINY / "config.json").read_text(encoding="utf-8")))
    return {name: checkpoint.tensor(name, value.shape) for name, value in named.items()}


def layers(found):
    return range(sum(name.endswith("ln_1.weight") for name in found))


def stretched(found, random, stretch):
    """Channels behind each norm are larger or smaller by `stretch`, and the matrix takes it back."""
    for layer in layers(found):
        for norm, matrix in (("ln_1", "attn.c_attn"), ("ln_2", "mlp.c_fc")):
            factors = stretch(random, len(found["ln_f.weight"])).astype(np.float32)
            found[f"h.{layer}.{norm}.weight"] *= factors
            found[f"h.{layer}.{norm}.bias"] *= factors
            found[f"h.{layer}.{matrix}.weight"] /= factors[:, None]


def student(random, count):
    """Heavy tails: of two degrees of freedom."""
    return np.clip(np.abs(random.standard_t(2, count)), 0.1, 100)


def outliers(random, count):
    """A few channels are enormous."""
    factors = np.ones(count)
    factors[random.choice(count, 4, replace=False)] = (100, 300, 1000, 3000)
    return factors


def offset(found, random, size, everywhere):
    """Two channels of the stream that nothing reads hold a large number: at the first position, or at all."""
    channels = random.choice(len(found["ln_f.weight"]), 2, replace=False)
    for channel in channels:
        if everywhere:
            found["wte.weight"][:, channel] = 0
            found["wpe.weight"][:, channel] = size
        else:
            found["wpe.weight"][0, channel] += size


def write(folder, found):
    folder.mkdir()
    for name in SETTINGS:
        if (TINY / name).exists():
            shutil.copyfile(TINY / name, folder / name)
    save_file(found, folder / "model.safetensors")
