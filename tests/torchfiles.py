"""Writes what torch.save writes, in both of its formats, without PyTorch; and pickles that nobody should write."""

import io
import struct
import zipfile
from dataclasses import dataclass

import numpy as np

STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


@dataclass
class Global:
    """module.name, as an instruction to import it."""

    module: str
    name: str


@dataclass
class Call:
    function: object
    arguments: tuple


@dataclass
class Persistent:
    identity: object


@dataclass
class Raw:
    """Instructions as they are."""

    code: bytes


ORDERED = Call(Global("collections", "OrderedDict"), ())
REBUILD = Global("torch._utils", "_rebuild_tensor_v2")


def code(value):
    """The pickle instructions (protocol 2) that leave `value` on the stack."""
    match value:
        case Raw():
            return value.code
        case Global():
            return f"c{value.module}\n{value.name}\n".encode()
        case Call():
            return code(value.function) + code(value.arguments) + b"R"
        case Persistent():
            return code(value.identity) + b"Q"
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int() if -(1 << 31) <= value < 1 << 31:
            return b"J" + struct.pack("<i", value)
        case int():
            size = value.bit_length() // 8 + 1
            return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            text = value.encode(errors="surrogatepass")
            return b"X" + struct.pack("<I", len(text)) + text
        case tuple():
            return b"(" + b"".join(map(code, value)) + b"t"
        case list():
            return b"](" + b"".join(map(code, value)) + b"e"
        case dict():
            return b"}(" + b"".join(code(key) + code(item) for key, item in value.items()) + b"u"
    raise TypeError(type(value))


def dumps(value):
    return b"\x80\x02" + code(value) + b"."


class Storages:
    """The memory under arrays: views of one array share its storage, as tensors do."""

    def __init__(self, legacy=False):
        self.legacy = legacy
        self.arrays = {}
        self._keys = {}

    def described(self, value):
        """`value` with the calls that rebuild tensors in place of its arrays."""
        if isinstance(value, dict):
            return {key: self.described(item) for key, item in value.items()}
        return self.tensor(value) if isinstance(value, np.ndarray) else value

    def tensor(self, array):
        root = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        assert root.flags.c_contiguous
        key = self._keys.setdefault(id(root), str(len(self._keys)))
        self.arrays[key] = root
        size = array.itemsize
        offset = (array.__array_interface__["data"][0] - root.__array_interface__["data"][0]) // size
        strides = tuple(stride // size for stride in array.strides)
        return self.rebuilt(array.dtype.name, key, root.size, offset, array.shape, strides)

    def rebuilt(self, dtype, key, count, offset, shape, strides):
        identity = ("storage", Global("torch", STORAGES[dtype]), key, "cpu", count)
        storage = Persistent((*identity, None) if self.legacy else identity)
        return Call(REBUILD, (storage, offset, tuple(shape), tuple(strides), False, ORDERED))


def zipped(pickle, storages, *, folder="archive", order="little", compression=zipfile.ZIP_STORED):
    """The zip format, as bytes; `storages` are {key: bytes}."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        file.writestr(f"{folder}/data.pkl", pickle)
        if order:
            file.writestr(f"{folder}/byteorder", order)
        for key, data in storages.items():
            file.writestr(f"{folder}/data/{key}", data)
        file.writestr(f"{folder}/version", "3\n")
    return out.getvalue()


def legacy(pickle, storages, *, little=True):
    """The format before torch 1.6, as bytes; `storages` are {key: (count, bytes)}."""
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": sizes}
    head = dumps(0x1950A86A20F9469CFC6C) + dumps(1001) + dumps(system) + pickle + dumps(list(storages))
    return head + b"".join(struct.pack("<q", count) + data for count, data in storages.values())


def saved(value, *, old=False, **options):
    """What torch.save(value) gives, arrays standing for tensors."""
    storages = Storages(old)
    pickle = dumps(storages.described(value))
    if old:
        return legacy(pickle, {key: (root.size, root.tobytes()) for key, root in storages.arrays.items()}, **options)
    return zipped(pickle, {key: root.tobytes() for key, root in storages.arrays.items()}, **options)
