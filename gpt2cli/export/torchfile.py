"""pytorch_model.bin without PyTorch: named tensors of a file that torch.save wrote, in either of its formats.

zip     FOLDER/data.pkl, and a stored record FOLDER/data/KEY for each storage (torch 1.6 and later)
legacy  pickles of a magic number, a version, the system, the state dict and the storages' keys; then for each key
        the count of its elements in 8 bytes, and the elements

Formats as in torch/serialization.py and PKWARE's APPNOTE.TXT 6.3 (4.3: headers, 4.5.3: 64-bit sizes)."""

import io
import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from gpt2cli.errors import CorruptFile
from gpt2cli.export.unpickle import LIMIT, Foreign, Machine, Tensor, shown

Array = np.ndarray[Any, np.dtype[Any]]

_DIRECTORY = 1 << 22  # bytes; GPT-2 XL's is 40 kB
_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
# what training scripts call the state dict in a dictionary of theirs
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")


class TorchFile:
    """The tensors of one file, memory-mapped: opening it reads the pickles only."""

    def __init__(self, path: Path) -> None:
        """Raises CorruptFile for whatever is not a flat state dict within the file, and for pickles that would run
        something."""
        self._path = path
        try:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            read = _read_zip if self._data[:4] == b"PK\3\4" else _read_legacy
            self._tensors, self._extents = read(self._data)
            for name, tensor in self._tensors.items():
                _check(name, tensor, self._extents)
        except Foreign as error:
            raise CorruptFile(
                f"'{path}' wants to run {error}: a state dict of GPT-2 needs nothing of the kind",
                "use a model.safetensors; or, if you trust its author, load it in PyTorch and save_pretrained(folder)",
            ) from None
        except struct.error:
            raise self._corrupt("it ends too early") from None
        except OSError as error:
            raise self._corrupt(error.strerror) from None
        except ValueError as error:
            raise self._corrupt(error) from None

    def keys(self) -> list[str]:
        return list(self._tensors)

    def get_tensor(self, name: str) -> Array:
        """A read-only view into the file: nothing is read before it is used. Raises KeyError."""
        tensor = self._tensors[name]
        storage = tensor.storage
        start, _ = self._extents[storage.key]
        start += (storage.start + tensor.offset) * storage.dtype.itemsize
        if not prod(tensor.shape):
            return np.zeros(tensor.shape, storage.dtype)
        flat = np.frombuffer(self._data, storage.dtype, tensor.reach, start)
        strides = [stride * storage.dtype.itemsize for stride in tensor.strides]
        return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)

    def _corrupt(self, what: object) -> CorruptFile:
        return CorruptFile(f"cannot read {self._path}: {what}", "the file is truncated or corrupt: download it again")


_Tensors = dict[str, Tensor]
_Extents = dict[str, tuple[int, int]]  # key -> the first byte of a storage in the file, and how many


def _read_zip(data: mmap.mmap) -> tuple[_Tensors, _Extents]:
    records = _directory(data)
    pickles = [name for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise ValueError(f"it is a zip file with {len(pickles)} records data.pkl, PyTorch writes 1")
    folder = pickles[0].removesuffix("data.pkl")
    order = records.get(f"{folder}byteorder")
    if order and order.size == len("big") and _extract(data, order) == b"big":
        raise ValueError("it was written on a big-endian machine; save it again on another")
    if records[pickles[0]].size > LIMIT:
        raise ValueError(f"its data.pkl of {records[pickles[0]].size} bytes is no state dict's")
    machine = Machine(io.BytesIO(_extract(data, records[pickles[0]])))
    tensors = _state_dict(machine.load())
    extents = {}
    for key in machine.storages:
        record = records.get(f"{folder}data/{key}")
        if record is None:
            raise ValueError(f"it has no record data/{shown(key)}")
        extents[key] = (_start(data, record), record.size)
    return tensors, extents


@dataclass(frozen=True, slots=True)
class _Record:
    header: int
    size: int
    stored: bool  # neither compressed nor encrypted


def _directory(data: mmap.mmap) -> dict[str, _Record]:
    """The records of a zip file by their names, from the directory at its end."""
    end = data.rfind(b"PK\5\6", max(0, len(data) - 22 - 0xFFFF))
    if not 0 <= end <= len(data) - 22:
        raise ValueError("it is a zip file without its end")
    count, size, at = struct.unpack_from("<HII", data, end + 10)
    if (count == 0xFFFF or 0xFFFFFFFF in (size, at)) and data[max(0, end - 20) : end][:4] == b"PK\6\7":
        (end,) = struct.unpack_from("<Q", data, end - 20 + 8)
        count, size, at = _unpack("<QQQ", data, end + 32)
    if size > min(_DIRECTORY, len(data)):
        raise ValueError(f"it is a zip file with a directory of {size} bytes")
    directory = data[at : at + size]
    records: dict[str, _Record] = {}
    place = 0
    while place < len(directory):
        magic, flags, method, packed, size, name_size, extra_size, comment_size, header = struct.unpack_from(
            "<4s4xHH8xIIHHH8xI", directory, place
        )
        if magic != b"PK\1\2":
            raise ValueError("it is a zip file with a broken directory")
        place += 46 + name_size + extra_size + comment_size
        extra = place - comment_size - extra_size
        name = directory[extra - name_size : extra].decode(errors="surrogateescape")
        if name in records:
            raise ValueError(f"it is a zip file with two records {shown(name)}")
        size, packed, header = _wide(directory[extra : extra + extra_size], size, packed, header)
        records[name] = _Record(header, size, method == 0 and not flags & 1 and packed == size)
    if len(records) != count:
        raise ValueError(f"it is a zip file with {len(records)} records that says it has {count}")
    return records


def _wide(extra: bytes, *numbers: int) -> list[int]:
    """Size, packed size and place of a record: the 64-bit extra field has, in this order, those that do not fit 32."""
    place = 0
    while place + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, place)
        if kind == 1:
            wide = iter(struct.iter_unpack("<Q", extra[place + 4 : place + 4 + size // 8 * 8]))
            return [next(wide, (number,))[0] if number == 0xFFFFFFFF else number for number in numbers]
        place += 4 + size
    return list(numbers)


def _start(data: mmap.mmap, record: _Record) -> int:
    """Where the bytes of a record begin; behind its own header, whose fields differ from the directory's."""
    if not record.stored:
        raise ValueError("it is compressed or encrypted, which PyTorch does not do; unpack it and save it again")
    magic, name_size, extra_size = _unpack("<4s22xHH", data, record.header)
    start: int = record.header + 30 + name_size + extra_size
    if magic != b"PK\3\4" or start + record.size > len(data):
        raise ValueError("it ends too early, or its directory is broken")
    return start


def _extract(data: mmap.mmap, record: _Record) -> bytes:
    start = _start(data, record)
    return data[start : start + record.size]


def _unpack(layout: str, data: mmap.mmap, place: int) -> tuple[Any, ...]:
    if place > len(data):  # beyond 2^63 struct would raise something else
        raise ValueError("it ends too early, or its directory is broken")
    return struct.unpack_from(layout, data, place)


def _read_legacy(data: mmap.mmap) -> tuple[_Tensors, _Extents]:
    if data[:1] != b"\x80":  # as for every pickle in binary
        raise ValueError("it is not PyTorch's (a page that a server sent in its place?)")
    stream = io.BytesIO(data[:LIMIT])
    if Machine(stream).load() != _MAGIC or Machine(stream).load() != _VERSION:
        raise ValueError("it is a pickle, but not PyTorch's")
    system = Machine(stream).load()
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise ValueError("it was written on a big-endian machine; save it again on another")
    machine = Machine(stream)
    tensors = _state_dict(machine.load())
    keys = Machine(stream).load()
    if not isinstance(keys, list):
        raise ValueError("it has no list of its storages")
    place, extents = stream.tell(), {}
    for key in keys:
        storage = machine.storages.get(key) if isinstance(key, str) else None
        if storage is None:
            raise ValueError("it has a storage that no tensor uses")
        (count,) = _unpack("<q", data, place)
        if count != storage.whole:
            raise ValueError(f"its storage {shown(key)} has {count} elements, not {storage.whole}")
        extents[key] = (place + 8, count * storage.dtype.itemsize)
        place += 8 + extents[key][1]
    if place > len(data):
        raise ValueError(f"it ends too early: {len(data)} of {place} bytes")
    return tensors, extents


def _state_dict(value: object) -> _Tensors:
    """The dictionary of tensors that `value` is, or the only one in it under a name of _WRAPPERS."""
    if isinstance(value, dict):
        if found := _flat(value):
            return found
        inner = [found for key in _WRAPPERS if (found := _flat(value.get(key)))]
        if len(inner) == 1:
            return inner[0]
    raise ValueError("what it holds is not one dictionary of named tensors (a state dict)")


def _flat(value: object) -> _Tensors:
    named = isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    return value if isinstance(value, dict) and named else {}


def _check(name: str, tensor: Tensor, extents: _Extents) -> None:
    """Raises ValueError where the tensor is not within its storage, or that not what the file has."""
    storage = tensor.storage
    _, size = extents.get(storage.key, (0, -1))
    if storage.whole * storage.dtype.itemsize != size or storage.start + storage.count > storage.whole:
        raise ValueError(f"the storage of its tensor {shown(name)} is of another size than it says")
    elements = prod(tensor.shape)
    # more elements than the storage: one repeated without end by a stride of 0
    if elements and (elements > storage.count or tensor.offset + tensor.reach > storage.count):
        raise ValueError(f"its tensor {shown(name)} reaches beyond its storage")
