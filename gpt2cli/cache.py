"""The KV cache: a pair of arrays a layer, [capacity, heads, positions, head size], that the graph reads and writes in
place. In the machine's memory or on a device."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnxruntime

from gpt2cli.errors import CannotMeet

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, int, int]  # heads, positions, head size


class Cache(Protocol):
    capacity: int  # rows that there is memory for

    def bind(self, binding: Any, rows: slice) -> None:
        """Past and present of these rows become inputs and outputs."""

    def select(self, rows: Sequence[int], used: int) -> None:
        """Row i becomes what row rows[i] was, as far as its first `used` positions go. Raises CannotMeet."""


def _names(number: int) -> tuple[str, str]:
    layer, kind = number // 2, ("key", "value")[number % 2]
    return f"past_{kind}_{layer}", f"present_{kind}_{layer}"


def _no_memory(rows: int) -> CannotMeet:
    return CannotMeet(f"no memory for the cache of {rows} rows", "ask for fewer samples: -N")


class HostCache:
    """NumPy arrays."""

    def __init__(self, layers: int, shape: Shape, dtype: Any) -> None:
        self._layers, self._shape, self._dtype = layers, shape, dtype
        self._arrays = self._made(1)
        self.capacity = 1

    def _made(self, capacity: int) -> list[Array]:
        try:
            # zeros are mapped lazily: memory is used as the cache fills
            return [np.zeros((capacity, *self._shape), self._dtype) for _ in range(2 * self._layers)]
        except MemoryError:
            raise _no_memory(capacity) from None

    def bind(self, binding: Any, rows: slice) -> None:
        for number, array in enumerate(self._arrays):
            past, present = _names(number)
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array[rows])
            binding.bind_ortvalue_input(past, value)
            binding.bind_ortvalue_output(present, value)

    def select(self, rows: Sequence[int], used: int) -> None:
        old, grown = self._arrays, len(rows) > self.capacity
        if grown:
            self._arrays, self.capacity = self._made(len(rows)), len(rows)
        moved = [number for number, row in enumerate(rows) if number != row or grown]
        sources = [rows[number] for number in moved]
        for before, after in zip(old, self._arrays, strict=True):
            after[moved, :, :used] = before[sources, :, :used]  # the right side is a copy


class DeviceCache:
    """Memory of a device ("cuda"; "cpu" for tests), which never leaves it: rows are addressed by pointer, and copied
    by a graph of one Gather."""

    def __init__(self, layers: int, shape: Shape, dtype: Any, device: str, providers: list[str]) -> None:
        from gpt2cli.export import graph  # imports onnx: 100 ms that only this pays

        self._shape, self._dtype, self._device = shape, np.dtype(dtype), device
        # zeros: attention may multiply what it masks
        self._values = [
            onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((1, *shape), dtype), device, 0) for _ in range(2 * layers)
        ]
        self.capacity = 1
        self._gather = onnxruntime.InferenceSession(graph.row_gather(shape), providers=providers)

    def bind(self, binding: Any, rows: slice) -> None:
        shape = [rows.stop - rows.start, *self._shape]
        offset = rows.start * int(np.prod(self._shape)) * self._dtype.itemsize
        for number, value in enumerate(self._values):
            place = value.data_ptr() + offset
            past, present = _names(number)
            binding.bind_input(past, self._device, 0, self._dtype, shape, place)
            binding.bind_output(present, self._device, 0, self._dtype, shape, place)

    def select(self, rows: Sequence[int], used: int) -> None:
        capacity = max(len(rows), self.capacity)
        # a row that nobody asked for keeps something, so that the size stays
        sources = np.array([*rows, *range(len(rows), capacity)], np.int64)
        try:
            for number, value in enumerate(self._values):
                binding = self._gather.io_binding()
                binding.bind_ortvalue_input("cache", value)
                binding.bind_cpu_input("rows", sources)
                binding.bind_output("moved", self._device, 0)
                self._gather.run_with_iobinding(binding)
                self._values[number] = binding.get_outputs()[0]
        except Exception:  # ONNX Runtime has one exception class for each kind of failure
            raise _no_memory(capacity) from None
        self.capacity = capacity
