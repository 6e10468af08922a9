"""A GPT-2 of real shapes with random weights, for timing: python benchmarks/random_gpt2.py FOLDER [--size 124M]

Standard deviation 0.02 as GPT-2 is initialised, seeded, float32, no tokenizer (prompt it with --ids).
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

SIZES = {
    "1M": (2, 4, 64),  # to try a script out
    "82M": (6, 12, 768),
    "124M": (12, 12, 768),
    "355M": (24, 16, 1024),
    "774M": (36, 20, 1280),
    "1.5B": (48, 25, 1600),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=list(SIZES), default="124M")
    arguments = parser.parse_args()
    layers, heads, width = SIZES[arguments.size]
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32) * np.float32(0.02)

    tensors = {"wte.weight": normal(50257, width), "wpe.weight": normal(1024, width)}
    norms = ["ln_f"]
    for layer in range(layers):
        norms += [f"h.{layer}.ln_1", f"h.{layer}.ln_2"]
        for name, rows, columns in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ):
            tensors[f"h.{layer}.{name}.weight"] = normal(rows, columns)
            tensors[f"h.{layer}.{name}.bias"] = np.zeros(columns, np.float32)
    for name in norms:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = np.ones(width, np.float32), np.zeros(width, np.float32)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, arguments.folder / "model.safetensors")
    config = {"model_type": "gpt2", "n_layer": layers, "n_head": heads, "n_embd": width, "vocab_size": 50257}
    (arguments.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


if __name__ == "__main__":
    main()
