"""What an export stores: which arrays, in which layout, and the file that holds them.

The file is a safetensors file (https://github.com/huggingface/safetensors#format) and at the same time the external
data of the ONNX graph, whose initializers name offsets in it."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from gpt2cli.export.checkpoint import TABLES, Checkpoint
from gpt2cli.export.quantize import BLOCK, ZERO, column_scales, to_int4, to_int8
from gpt2cli.export.rounding import Rounding

Array = np.ndarray[Any, np.dtype[Any]]

_DTYPES: dict[str, Any] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I8": np.dtype("i1"), "U8": np.dtype("u1")}
_Tensor = tuple[str, tuple[int, ...], Callable[[], Array]]  # name, shape, and what reads it
_PAGE = 4096  # the header fills whole pages, so that the first array begins on a page boundary


@dataclass(frozen=True)
class Stored:
    """One array of the export. `load` makes it when its turn comes: one tensor is in memory at a time. Arrays of one
    `tensor` are made together."""

    name: str
    dtype: str  # F32, F16, I8 or U8, as safetensors spells them
    shape: tuple[int, ...]
    load: Callable[[], Array]
    tensor: str

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * int(_DTYPES[self.dtype].itemsize)


def stored_weights(checkpoint: Checkpoint, precision: str, rounding: Rounding) -> list[Stored]:
    """Every array of an export, floats before integers so that all floats are aligned.

    fp32 keeps each matrix as GPT-2 has it, [in, out], and the tables [vocabulary, width]. int8 replaces a matrix NAME
    by NAME.int8 (or NAME.uint8, unsigned), NAME.scale [out] and NAME.sum [out]; tables are transposed first, so that
    the head is a matrix and a tied embedding is one of its columns. What its factors do to the inputs of a matrix, the
    norm before it does; of a table they are stored, as NAME.channels [in], for who multiplies by it or looks up. int4
    replaces a matrix by NAME.int4 and NAME.blocks (see quantize.to_int4); the head is one of them even where it is
    tied, and the embedding stays int8, of which only the rows that are needed are ever read. fp16 halves everything but
    the tables, which the head reads in float32."""
    floats: list[Stored] = []
    integers: list[Stored] = []
    if precision != "int8":
        rounding = Rounding()
    quantised = _Quantised()
    for name, shape, load in _balanced(_tensors(checkpoint), rounding):
        tables = (*TABLES, "wpe.weight")
        if precision == "fp16" and name not in tables:
            integers.append(Stored(name, "F16", shape, load, name))
            continue
        if precision in ("fp32", "fp16") or len(shape) == 1 or name == "wpe.weight":
            floats.append(Stored(name, "F32", shape, load, name))
            continue
        if name in TABLES:
            shape, load = shape[::-1], partial(_transposed, load)
        embedding = name == "wte.weight"
        bits = rounding.of(name).weight_bits if checkpoint.tied or not embedding else 8  # looked up, never multiplied
        part = partial(quantised.part, load, bits)
        if name in TABLES and name in rounding.factors:
            channels = (1 / rounding.factors[name]).astype(np.float32)
            floats.append(Stored(f"{name}.channels", "F32", channels.shape, partial(np.asarray, channels), name))
        if precision == "int8" or embedding:
            floats.append(Stored(f"{name}.scale", "F32", shape[1:], partial(part, "scale"), name))
            floats.append(Stored(f"{name}.sum", "F32", shape[1:], partial(part, "sum"), name))
            if rounding.unsigned and bits == 8:
                integers.append(Stored(f"{name}.uint8", "U8", shape, partial(part, "uint8"), name))
            else:
                integers.append(Stored(f"{name}.int8", "I8", shape, partial(part, "int8"), name))
        if precision == "int4" and (not embedding or checkpoint.tied):
            name = "lm_head.weight" if embedding else name
            blocks = (shape[1], -(-shape[0] // BLOCK))
            floats.append(Stored(f"{name}.blocks", "F32", blocks, partial(part, "blocks"), name))
            integers.append(Stored(f"{name}.int4", "U8", (*blocks, BLOCK // 2), partial(part, "int4"), name))
    return floats + integers


def _tensors(checkpoint: Checkpoint) -> Iterator[_Tensor]:
    """(name, shape, load) of every tensor that the graph reads, heads padded."""
    config = checkpoint.config
    width, inner, heads, size = config.n_embd, config.n_inner, config.n_head, config.head_size
    room = config.padded_head_size - size
    padded = heads * (size + room)

    def plain(name: str, *shape: int) -> _Tensor:
        return name, shape, partial(checkpoint.tensor, name, shape)

    yield plain("wte.weight", config.vocab_size, width)
    if not checkpoint.tied:
        yield plain("lm_head.weight", config.vocab_size, width)
    yield plain("wpe.weight", config.n_positions, width)
    for block in (f"h.{layer}" for layer in range(config.n_layer)):
        yield plain(f"{block}.ln_1.weight", width)
        yield plain(f"{block}.ln_1.bias", width)
        for name, before, split, axis, after in (
            ("c_attn.weight", (width, 3 * width), (width, 3, heads, size), 3, (width, 3 * padded)),
            ("c_attn.bias", (3 * width,), (3, heads, size), 2, (3 * padded,)),
            ("c_proj.weight", (width, width), (heads, size, width), 1, (padded, width)),
        ):
            _, _, load = plain(f"{block}.attn.{name}", *before)
            yield f"{block}.attn.{name}", after, partial(_padded, load, split, axis, room, after)
        yield plain(f"{block}.attn.c_proj.bias", width)
        yield plain(f"{block}.ln_2.weight", width)
        yield plain(f"{block}.ln_2.bias", width)
        yield plain(f"{block}.mlp.c_fc.weight", width, inner)
        yield plain(f"{block}.mlp.c_fc.bias", inner)
        yield plain(f"{block}.mlp.c_proj.weight", inner, width)
        yield plain(f"{block}.mlp.c_proj.bias", width)
    yield plain("ln_f.weight", width)
    yield plain("ln_f.bias", width)


def _balanced(tensors: Iterator[_Tensor], rounding: Rounding) -> Iterator[_Tensor]:
    """The matrices' rows multiplied by their factors, and the norms' outputs divided."""
    for name, shape, load in tensors:
        factors, divisors = rounding.factors.get(name), rounding.norm(name)
        if factors is not None:
            yield name, shape, partial(_times, load, factors if name in TABLES else factors[:, None])
        elif divisors is not None:
            yield name, shape, partial(_times, load, 1 / divisors)
        else:
            yield name, shape, load


def _times(load: Callable[[], Array], factors: Array) -> Array:
    return load() * factors


def _padded(load: Callable[[], Array], split: tuple[int, ...], axis: int, room: int, after: tuple[int, ...]) -> Array:
    """Seen as `split`, with `room` zeros more along `axis` (the head size), as `after`."""
    value = load()
    if not room:
        return value
    widths = [(0, room if number == axis else 0) for number in range(len(split))]
    return np.pad(value.reshape(split), widths).reshape(after)


def _transposed(load: Callable[[], Array]) -> Array:
    return load().T


class _Quantised:
    """The integers of one matrix, the last that was asked for."""

    def __init__(self) -> None:
        self._wanted: tuple[Callable[[], Array], bool] | None = None
        self._parts: dict[str, Array] = {}

    def part(self, load: Callable[[], Array], bits: int, which: str) -> Array:
        """Of the matrix that `load` gives [in, out], in so many bits: its "int8" or "uint8" [in, out], its "scale"
        [out], the "sum" [out] of its rounded columns; or its "int4" and their "blocks" of scales."""
        wanted = load, which in ("int4", "blocks")
        if wanted != self._wanted:
            self._parts.clear()  # before the next is in memory
            weight = load()
            if wanted[1]:
                packed, scales = to_int4(weight)
                self._parts = {"int4": packed, "blocks": scales}
            else:
                scale = column_scales(weight, bits)
                integers = to_int8(weight, scale, bits)
                total = integers.sum(axis=0, dtype=np.int64) * scale
                self._parts = {"int8": integers, "scale": scale, "sum": total}
            self._wanted = wanted
        if which == "uint8":
            return (self._parts["int8"].view(np.uint8) + np.uint8(ZERO)).astype(np.uint8)
        return self._parts[which]


def header(weights: Sequence[Stored]) -> tuple[bytes, dict[str, int]]:
    """The head of the file, and where each array begins in the file, in bytes."""
    entries: dict[str, Any] = {}
    offset = 0
    for stored in weights:
        end = offset + stored.nbytes
        entries[stored.name] = {
            "dtype": stored.dtype,
            "shape": list(stored.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _PAGE)
    start = 8 + len(text)
    offsets = {name: start + entry["data_offsets"][0] for name, entry in entries.items()}
    return len(text).to_bytes(8, "little") + text, offsets


def write(weights: Sequence[Stored], head: bytes, offsets: dict[str, int], path: Path) -> Iterator[int]:
    """Write the file, yielding the bytes that each array added."""
    order = {stored.tensor: number for number, stored in reversed(list(enumerate(weights)))}
    with path.open("wb") as file:
        file.write(head)
        for stored in sorted(weights, key=lambda stored: order[stored.tensor]):
            with np.errstate(all="ignore"):  # what overflows in rounding is told by who runs it
                array = np.ascontiguousarray(stored.load(), dtype=_DTYPES[stored.dtype])
            assert array.shape == stored.shape, stored.name
            file.seek(offsets[stored.name])
            file.write(array.data)
            yield stored.nbytes
        file.flush()
        os.fsync(file.fileno())  # a folder is renamed into place only when its bytes are on the disk
