"""int8 weights: symmetric, one scale per output column, no zero point. int4 weights: one scale per block.

Where unsigned x signed products saturate in 16 bits (x86 without VNNI), 8 bits need the kernels for unsigned x
unsigned ones: weights are stored with 128 added there. 7 bits never saturate, 2 * 255 * 63 being less than 2^15, and
are faster."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


ZERO = 128  # what is added to the integers of a matrix that is stored as NAME.uint8
# Weights that share a scale in int4, along the inputs: a row of activations is rounded in the same blocks.
BLOCK = 32
# The scale of a block is tried at these parts of what its largest weight asks for, and the best is taken.
_TRIED = np.array([1, 0.95, 0.9, 0.85, 0.8], np.float32)
_COLUMNS = 1024  # quantised at a time


def column_scales(weight: Array, bits: int = 8) -> Array:
    """[in, out] float32 -> [out] float32: the step between neighbouring integers. A column of zeros gets 1."""
    scales = np.abs(weight).max(axis=0) / np.float32(_limit(bits))
    return np.where(scales > 0, scales, np.float32(1)).astype(np.float32)  # of the smallest numbers it may be 0


def to_int8(weight: Array, scales: Array, bits: int = 8) -> Array:
    """[in, out] float32 -> [in, out] int8 within -127..127 (8 bits) or -63..63 (7), so that `int8 * scales` is nearest
    to `weight`."""
    steps = weight / scales  # in place from here on: the largest matrix of gpt2-xl has 320 MB
    np.clip(steps, -_limit(bits), _limit(bits), out=steps)
    return np.rint(steps, out=steps).astype(np.int8)


def _limit(bits: int) -> int:
    return (1 << bits - 1) - 1


def to_int4(weight: Array) -> tuple[Array, Array]:
    """[in, out] float32 -> uint8 [out, blocks, BLOCK / 2] and float32 scales [out, blocks], as MatMulNBits reads them:
    the weight is (nibble - 8) * scale, the first of each pair in the low nibble. The last block is filled with zeros.

    The largest weight of a block is near -8 steps, and among a few scales the one with the least squared error is
    taken."""
    parts = [_int4_columns(weight[:, start : start + _COLUMNS]) for start in range(0, weight.shape[1], _COLUMNS)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _int4_columns(weight: Array) -> tuple[Array, Array]:
    inputs, outputs = weight.shape
    blocks = -(-inputs // BLOCK)
    values = np.zeros((outputs, blocks * BLOCK), np.float32)
    values[:, :inputs] = weight.T
    values = values.reshape(outputs, blocks, BLOCK)
    largest = np.take_along_axis(values, np.abs(values).argmax(axis=2)[:, :, None], axis=2)
    full = largest / np.float32(-8)
    full = np.where(full * _TRIED[-1] == 0, np.float32(1), full)
    best, scales, nibbles = np.full((outputs, blocks, 1), np.inf, np.float32), full, np.zeros_like(values)
    for part in _TRIED:
        scale = full * part
        steps = np.clip(np.rint(values / scale), -8, 7)
        error = ((steps * scale - values) ** 2).sum(axis=2, keepdims=True)
        better = error < best
        best, scales = np.where(better, error, best), np.where(better, scale, scales)
        nibbles = np.where(better, steps, nibbles)
    integers = (nibbles + 8).astype(np.uint8)
    return integers[:, :, ::2] | integers[:, :, 1::2] << 4, scales[:, :, 0]


def from_int4(packed: Array, scales: Array, inputs: int) -> Array:
    """What `to_int4` gave, as float32 [inputs, out]."""
    nibbles = np.stack([packed & 15, packed >> 4], axis=3).astype(np.float32) - 8
    values = nibbles.reshape(*packed.shape[:2], -1) * scales[:, :, None]
    result: Array = values.reshape(len(packed), -1)[:, :inputs].T
    return result
