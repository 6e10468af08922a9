"""Ready-made ONNX exports, in a folder or a repository: which file is run, what belongs to it, and is it harmless.

The names are those of optimum (model.onnx; decoder_model_merged.onnx before 2023) and of transformers.js
(model_quantized.onnx and so on), in the folder itself or in its subfolder onnx/."""

import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

from gpt2cli.errors import CorruptFile
from gpt2cli.export import TOKENIZER_FILES
from gpt2cli.paths import contained

_FP32 = ("model.onnx", "decoder_model_merged.onnx")
_INT8 = (
    *("model_quantized.onnx", "model_int8.onnx"),
    *("decoder_model_merged_quantized.onnx", "decoder_model_merged_int8.onnx"),
)
_FP16 = ("model_fp16.onnx", "decoder_model_merged_fp16.onnx")
_BY_PRECISION = {"auto": (*_FP32, *_INT8, *_FP16), "fp32": _FP32, "int8": _INT8}

# Where tensors stand in onnx.proto, as field numbers: from ModelProto down to lists of TensorProto.
_GRAPH, _NODE, _INITIALIZER, _ATTRIBUTE = 7, 1, 5, 5
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _EXTERNAL_DATA = (5, 10), (6, 11), 13
_DEPTH = 8  # graphs within graphs


def choose(names: Iterable[str], precision: str) -> str | None:
    """The graph for a precision (auto: fp32 before int8 before fp16) among file names with forward slashes."""
    present = set(names)
    for name in _BY_PRECISION.get(precision, ()):
        for folder in ("", "onnx/"):
            own = f"{folder}weights.safetensors" in present  # an export of ours, which is no ready-made one
            if f"{folder}{name}" in present and not own:
                return f"{folder}{name}"
    return None


def files(names: Iterable[str], precision: str) -> list[str]:
    """What is needed of a repository to run its graph: the graph, its data, configuration, tokenizer. Empty where
    there is no graph."""
    names = list(names)
    graph = choose(names, precision)
    if graph is None:
        return []
    data = [name for name in names if name.startswith((f"{graph}_data", f"{graph}.data"))]
    tokenizer = [name for name in TOKENIZER_FILES if name in names]
    if not {"tokenizer.json", "vocab.json"} & set(tokenizer):
        tokenizer = [f"onnx/{name}" for name in TOKENIZER_FILES if f"onnx/{name}" in names]
    return [graph, *data, *tokenizer, *(name for name in ("config.json", "onnx/config.json") if name in names)]


def find(folder: Path, precision: str) -> Path | None:
    """The graph in a folder, checked as by `check`."""
    names = [path.relative_to(folder).as_posix() for path in (*folder.glob("*"), *folder.glob("onnx/*"))]
    chosen = choose(names, precision)
    if chosen is None:
        return None
    check(folder / chosen, folder)
    return folder / chosen


def check(path: Path, folder: Path) -> None:
    """Raises CorruptFile where the graph is no ONNX file, or where it or the data it names lie outside `folder`.

    ONNX Runtime refuses such data since 1.24 or so; 1.23 reads whatever is named."""
    contained(path, folder)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            places = set(_locations(data))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptFile(
            f"cannot read {path}: {error}", "the file is truncated or corrupt: download it again"
        ) from None
    for place in places:
        if Path(place).is_absolute() or "\\" in place:
            raise CorruptFile(f"{path} names data at '{place}', outside its folder", "do not trust this file")
        contained(path.parent / place, folder)


def _locations(data: mmap.mmap) -> Iterator[str]:
    """The `location` of every external tensor. Reads only the outline of the file: no tensor, however large."""
    for start, end in _fields(data, 0, len(data), _GRAPH):
        yield from _in_graph(data, start, end, 0)


def _in_graph(data: mmap.mmap, start: int, end: int, depth: int) -> Iterator[str]:
    if depth > _DEPTH:
        raise ValueError("graphs nested too deep")
    for tensor in _fields(data, start, end, _INITIALIZER):
        yield from _in_tensor(data, *tensor)
    for node in _fields(data, start, end, _NODE):
        for attribute in _fields(data, *node, _ATTRIBUTE):
            for tensor in _fields(data, *attribute, *_ATTRIBUTE_TENSORS):
                yield from _in_tensor(data, *tensor)
            for graph in _fields(data, *attribute, *_ATTRIBUTE_GRAPHS):
                yield from _in_graph(data, *graph, depth + 1)


def _in_tensor(data: mmap.mmap, start: int, end: int) -> Iterator[str]:
    for entry in _fields(data, start, end, _EXTERNAL_DATA):
        key, value = (next((data[a:b] for a, b in _fields(data, *entry, number)), b"") for number in (1, 2))
        if key == b"location":
            yield value.decode()


def _fields(data: mmap.mmap, start: int, end: int, *numbers: int) -> Iterator[tuple[int, int]]:
    """Where the contents of the length-delimited fields with these numbers lie in a protobuf message
    (https://protobuf.dev/programming-guides/encoding). Raises ValueError for what is none."""
    place = start
    while place < end:
        key, place = _varint(data, place, end)
        kind, number = key & 7, key >> 3
        if kind == 0:
            _, place = _varint(data, place, end)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        elif kind == 2:
            size, place = _varint(data, place, end)
            if size > end - place:
                raise ValueError("a field longer than its message")
            if number in numbers:
                yield place, place + size
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
