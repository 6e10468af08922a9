"""Checkpoints that are hard to round, and compute what `tiny` does or nearly so: its weights, made as uneven as those
of trained GPT-2s are (Dettmers et al. 2022, LLM.int8; Xiao et al. 2022, SmoothQuant)."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from gpt2cli import paths
from gpt2cli.export.checkpoint import Checkpoint
from gpt2cli.export.names import SETTINGS


def tensors():
    """Of the built-in model, as floats."""
    checkpoint = Checkpoint(paths.data("models") / "tiny")
    config = checkpoint.config
    width, inner = config.n_embd, config.n_inner
    found = {
        "wte.weight": (config.vocab_size, width),
        "wpe.weight": (config.n_positions, width),
        "ln_f.weight": (width,),
        "ln_f.bias": (width,),
    }
    for layer in range(config.n_layer):
        for name, rows, columns in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, inner),
            ("mlp.c_proj", inner, width),
        ):
            found[f"h.{layer}.{name}.weight"] = rows, columns
            found[f"h.{layer}.{name}.bias"] = (columns,)
        for norm in ("ln_1", "ln_2"):
            found |= {f"h.{layer}.{norm}.{kind}": (width,) for kind in ("weight", "bias")}
    return {name: checkpoint.tensor(name, shape).copy() for name, shape in found.items()}


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


def write(folder, found, **changes):
    folder.mkdir(parents=True)
    source = Path(paths.data("models")) / "tiny"
    for name in SETTINGS:
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: np.ascontiguousarray(value) for name, value in found.items()}, folder / "model.safetensors")
    return folder
