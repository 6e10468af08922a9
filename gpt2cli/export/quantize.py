"""int8 weights: symmetric, one scale per output column, no zero point.

The integers use all 8 bits on every CPU: where unsigned x signed products would saturate (x86 without VNNI), the
session asks ONNX Runtime for its exact kernels (see engine.py)."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def column_scales(weight: Array) -> Array:
    """[in, out] float32 -> [out] float32: the step between neighbouring integers. A column of zeros gets 1."""
    largest = np.abs(weight).max(axis=0)
    return np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)


def to_int8(weight: Array, scales: Array) -> Array:
    """[in, out] float32 -> [in, out] int8 within -127..127, so that `int8 * scales` is nearest to `weight`."""
    steps = weight / scales  # in place from here on: the largest matrix of gpt2-xl has 320 MB
    np.clip(steps, -127, 127, out=steps)
    return np.rint(steps, out=steps).astype(np.int8)
