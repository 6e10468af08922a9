"""The kinds of engine that keep one contract: each precision, and each place where the cache can lie."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2cli.engine.engine import Engine
from gpt2cli.engine.kvcache import DeviceCache
from gpt2cli.export.checkpoint import read_config
from gpt2cli.export.export import export
from gpt2cli.export.rounding import Form, Rounding


@dataclass(frozen=True)
class Kind:
    precision: str
    place: str = "host"  # of the cache; "pointer": as on a device, which here is the machine's own memory
    activation_bits: int = 8
    mixed: bool = False  # matrices of several forms, their channels balanced
    tolerance: float = 1e-4  # of a logit, between one call and several
    exact: bool = True  # a row of a batch is bit for bit what it is alone

    def __str__(self) -> str:
        if self.mixed:
            return "int8-mixed"
        return f"{self.precision}x16" if self.activation_bits == 16 else f"{self.precision}-{self.place}"

    def export(self, checkpoint: Path, target: Path) -> None:
        rounding = mixed(read_config(checkpoint)) if self.mixed else Rounding(Form(8, self.activation_bits))
        for _ in export(checkpoint, target, self.precision, rounding):
            pass

    def open(self, folder: Path, **options) -> Engine:
        engine = Engine(folder, device="cuda" if self.place == "cuda" else "cpu", **options)
        if self.place == "pointer":
            facts = engine.facts
            shape = (facts.heads, facts.positions, facts.head_size)
            engine._cache = DeviceCache(facts.layers, shape, np.float16, "cpu")
        return engine


def mixed(config) -> Rounding:
    """Each form of a matrix, and other channels balanced for each."""
    random, factors, finer = np.random.default_rng(0), {}, {}
    for layer in range(config.n_layer):
        for place, matrix in enumerate(("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")):
            name = f"h.{layer}.{matrix}.weight"
            finer[name] = (Form(8, 16), Form(8, 8), Form(8, 16), Form(7, 8))[(layer + place) % 4]
            if place % 2 == 0:
                factors[name] = np.exp2(random.integers(0, 2, config.n_embd)).astype(np.float32)
    for table in ("wte.weight", "lm_head.weight"):
        factors[table] = np.exp2(random.integers(0, 2, config.n_embd)).astype(np.float32)
    return Rounding(Form(8, 8), unsigned=True, finer=finer, factors=factors)


# Attention in float differs in its last bit between one and several new tokens; int8 rounds that up or down.
FP32 = Kind("fp32")
INT8 = Kind("int8", tolerance=0.2)
INT8X16 = Kind("int8", activation_bits=16, tolerance=0.2)
MIXED = Kind("int8", mixed=True, tolerance=0.6)
INT4 = Kind("int4", tolerance=0.2)
HALF = Kind("fp16", tolerance=0.05)
POINTER = Kind("fp16", "pointer", tolerance=0.05)
CUDA = Kind("fp16", "cuda", tolerance=0.05, exact=False)  # its matrix products depend on the number of rows
