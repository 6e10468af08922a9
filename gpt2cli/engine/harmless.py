"""Whether a graph names data outside its folder, which ONNX Runtime would read: its protobuf is looked through, without
the onnx package and without loading any of it."""

import mmap
from collections.abc import Container, Iterator
from pathlib import Path

from gpt2cli.errors import CorruptFile
from gpt2cli.paths import contained

# Where tensors can stand (onnx.proto): for each message, the numbers of the fields that hold another one.
_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_DEPTH = 32  # messages within messages
_SMALL = 4096  # bytes of a node without tensors to speak of


def check(path: Path, folder: Path | None = None) -> None:
    """Raises CorruptFile where the graph is no ONNX file, or where it or the data it names lie outside `folder` (the
    graph's own, where none is given). Whoever opens a graph comes by here (runtime.open_session).

    ONNX Runtime refuses such data since 1.24 or so; 1.23 reads whatever is named."""
    folder = folder or path.parent
    contained(path, folder)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            places = set(_locations(data, "model", 0, len(data)))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptFile(
            f"cannot read {path}: {error}", "the file is truncated or corrupt: download it again"
        ) from None
    for place in places:
        # ONNX Runtime takes a location that starts with an asterisk for an address in memory
        if Path(place).is_absolute() or ".." in Path(place).parts or "\\" in place or place.startswith("*"):
            raise CorruptFile(f"{path} names data at {place!r}, outside its folder", "do not trust this file")
        if not contained(path.parent / place, folder).is_file():
            raise CorruptFile(f"{path} needs the file {place!r}", "put it beside the graph, or download it again")


def _locations(data: mmap.mmap, message: str, start: int, end: int, depth: int = 0) -> Iterator[str]:
    """The `location` of every external tensor in a message. Reads the outline of the file: no tensor, however large."""
    if depth > _DEPTH:
        raise ValueError("graphs nested too deep")
    if message == "entry":
        parts = dict.fromkeys((1, 2), b"")
        for number, begin, stop in _fields(data, start, end, parts):
            parts[number] = data[begin:stop]  # as protobuf has it: of several, the last counts
        if parts[1] == b"location":
            yield parts[2].decode()
        return
    if message == "node" and end - start < _SMALL and data.find(b"location", start, end) < 0:
        return  # most of a graph, and most of the time
    for number, begin, stop in _fields(data, start, end, _INSIDE[message]):
        yield from _locations(data, _INSIDE[message][number], begin, stop, depth + 1)


def _fields(data: mmap.mmap, start: int, end: int, numbers: Container[int]) -> Iterator[tuple[int, int, int]]:
    """The length-delimited fields with these numbers in a protobuf message: number, start and end of its content
    (https://protobuf.dev/programming-guides/encoding). Raises ValueError for what is none."""
    place = start
    while place < end:
        if (key := data[place]) < 128:  # as most are: a call for each is a third of the time
            place += 1
        else:
            key, place = _varint(data, place, end)
        kind, number = key & 7, key >> 3
        if key >= 1 << 32 or number == 0:  # readers differ in what they make of it
            raise ValueError("not an ONNX file")
        if kind == 0:
            _, place = _varint(data, place, end)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        elif kind == 2:
            if place < end and (size := data[place]) < 128:
                place += 1
            else:
                size, place = _varint(data, place, end)
            if size > end - place:
                raise ValueError("a field longer than its message")
            if number in numbers:
                yield number, place, place + size
            place += size
        else:
            raise ValueError("not an ONNX file")
    if place != end:
        raise ValueError("a message that ends in the middle of a field")


def _varint(data: mmap.mmap, place: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while place < end and shift < 70:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError("not an ONNX file")
