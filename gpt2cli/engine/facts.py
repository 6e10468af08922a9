"""What an engine takes and gives, and what an export says of itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Ids = Sequence[int]
Logits = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Facts:
    """What an export says of itself (model.onnx, metadata `gpt2cli`)."""

    version: int
    precision: str
    weight_bits: int  # of int8: 8, or 7
    saturates: bool  # its products may exceed 16 bits, in which some processors add them
    layers: int
    heads: int
    head_size: int
    positions: int
    vocabulary: int
    ends: tuple[int, ...]  # tokens that end a text; none where the checkpoint names none in its vocabulary
    start: int | None  # the token before a text's first

    @property
    def settled(self) -> bool:
        """Whether ONNX Runtime has nothing to fuse and nothing to change."""
        return not self.saturates and self.precision in ("fp32", "int8")
