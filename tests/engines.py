"""The kinds of engine that keep one contract: each precision, and each place where the cache can lie."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2cli.engine.engine import Engine
from gpt2cli.engine.kvcache import DeviceCache
from gpt2cli.export.export import export


@dataclass(frozen=True)
class Kind:
    precision: str
    place: str = "host"  # of the cache; "pointer": as on a device, which here is the machine's own memory
    activation_bits: int = 8
    tolerance: float = 1e-4  # of a logit, between one call and several
    exact: bool = True  # a row of a batch is bit for bit what it is alone

    def __str__(self) -> str:
        return f"{self.precision}x16" if self.activation_bits == 16 else f"{self.precision}-{self.place}"

    def export(self, checkpoint: Path, target: Path) -> None:
        for _ in export(checkpoint, target, self.precision, activation_bits=self.activation_bits):
            pass

    def open(self, folder: Path, **options) -> Engine:
        engine = Engine(folder, device="cuda" if self.place == "cuda" else "cpu", **options)
        if self.place == "pointer":
            facts = engine.facts
            shape = (facts.heads, facts.positions, facts.head_size)
            engine._cache = DeviceCache(facts.layers, shape, np.float16, "cpu")
        return engine


# Attention in float differs in its last bit between one and several new tokens; int8 rounds that up or down.
FP32 = Kind("fp32")
INT8 = Kind("int8", tolerance=0.2)
INT8X16 = Kind("int8", activation_bits=16, tolerance=0.2)
HALF = Kind("fp16", tolerance=0.05)
POINTER = Kind("fp16", "pointer", tolerance=0.05)
CUDA = Kind("fp16", "cuda", tolerance=0.05, exact=False)  # its matrix products depend on the number of rows
