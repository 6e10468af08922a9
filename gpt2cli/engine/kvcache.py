"""The KV cache: a pair of arrays a layer, [rows, heads, positions, head size], that the graph reads and writes in
place. In the machine's memory or on a device."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from gpt2cli.engine.runtime import OrtValue, open_session
from gpt2cli.errors import CannotMeet

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, int, int]  # heads, positions, head size


class Cache(Protocol):
    def bind(self, binding: Any, rows: slice) -> None:
        """Past and present of these rows become inputs and outputs."""

    def select(self, rows: Sequence[int | None], lengths: Sequence[int]) -> None:
        """Row i becomes what row rows[i] was, as far as its first lengths[i] positions go; None: whatever is there.
        Rows that stay where they are stay whole. Raises CannotMeet before anything has moved."""


def _names(number: int) -> tuple[str, str]:
    layer, kind = number // 2, ("key", "value")[number % 2]
    return f"past_{kind}_{layer}", f"present_{kind}_{layer}"


def _no_memory(rows: int) -> CannotMeet:
    return CannotMeet(f"no memory for the cache of {rows} rows", "lower `samples`")


class HostCache:
    """NumPy arrays."""

    def __init__(self, layers: int, shape: Shape, dtype: Any) -> None:
        self._layers, self._shape, self._dtype = layers, shape, dtype
        self._arrays = self._made(1)

    def _made(self, capacity: int) -> list[Array]:
        try:
            # zeros are mapped lazily: memory is used as the cache fills
            return [np.zeros((capacity, *self._shape), self._dtype) for _ in range(2 * self._layers)]
        except MemoryError:
            raise _no_memory(capacity) from None

    def bind(self, binding: Any, rows: slice) -> None:
        for number, array in enumerate(self._arrays):
            past, present = _names(number)
            value = OrtValue.ortvalue_from_numpy(array[rows])
            binding.bind_ortvalue_input(past, value)
            binding.bind_ortvalue_output(present, value)

    def select(self, rows: Sequence[int | None], lengths: Sequence[int]) -> None:
        old = new = self._arrays
        if len(rows) > len(old[0]):
            new = self._made(max(len(rows), 2 * len(old[0]) if len(old[0]) > 1 else 0))  # rows may come one by one
        pairs = [
            (number, row) for number, row in enumerate(rows) if row is not None and (number != row or new is not old)
        ]
        used = max((lengths[number] for number, _ in pairs), default=0)
        if used:
            targets, sources = [number for number, _ in pairs], [row for _, row in pairs]
            for before, after in zip(old, new, strict=True):
                after[targets, :, :used] = before[sources, :, :used]  # the right side is a copy
        self._arrays = new


class DeviceCache:
    """Memory of a device ("cuda"; "cpu" for tests), which never leaves it: rows are addressed by pointer, and copied
    by a graph of Gathers."""

    def __init__(self, layers: int, shape: Shape, dtype: Any, device: str) -> None:
        """Raises CannotMeet."""
        from gpt2cli.export import graph  # imports onnx: 100 ms that only this pays

        self._shape, self._dtype, self._device = shape, np.dtype(dtype), device
        self._gather = open_session(graph.row_gather(shape, 2 * layers), device=device)
        try:
            # zeros: attention may multiply what it masks; each its own: on the CPU the array itself is the value
            self._values = [
                OrtValue.ortvalue_from_numpy(np.zeros((1, *shape), dtype), device, 0) for _ in range(2 * layers)
            ]
        except Exception:  # ONNX Runtime has one exception class for each kind of failure
            raise _no_memory(1) from None

    def bind(self, binding: Any, rows: slice) -> None:
        shape = [rows.stop - rows.start, *self._shape]
        offset = rows.start * int(np.prod(self._shape)) * self._dtype.itemsize
        for number, value in enumerate(self._values):
            place = value.data_ptr() + offset
            past, present = _names(number)
            binding.bind_input(past, self._device, 0, self._dtype, shape, place)
            binding.bind_output(present, self._device, 0, self._dtype, shape, place)

    def select(self, rows: Sequence[int | None], lengths: Sequence[int]) -> None:
        binding = self._gather.io_binding()
        binding.bind_cpu_input("rows", np.array([row or 0 for row in rows], np.int64))
        for number, value in enumerate(self._values):
            binding.bind_ortvalue_input(f"cache_{number}", value)
            binding.bind_output(f"moved_{number}", self._device, 0)
        try:
            self._gather.run_with_iobinding(binding)
        except Exception:  # ONNX Runtime has one exception class for each kind of failure
            raise _no_memory(len(rows)) from None
        self._values = list(binding.get_outputs())
