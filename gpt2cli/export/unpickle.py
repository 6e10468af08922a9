"""What the pickles of torch.save describe, without PyTorch, and without doing what else they say.

A pickle is a program for a stack machine, and the file may come from anybody. The machine here runs the instructions
that state dicts are made of and imports nothing: a name in the file is only compared with those it knows. (Python's
own `pickle.Unpickler` with a closed `find_class` is not enough: hashing a tuple nested a million deep crashes the
interpreter, and 59 bytes of tuples of tuples can keep it busy for minutes.)

Instructions as in pickletools, the calls in a state dict as torch/_utils.py defines them."""

import io
import struct
from dataclasses import dataclass
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

# No pickle may be longer. GPT-2 XL's is 75 kB; an instruction of one byte can cost 130 bytes of memory.
LIMIT = 1 << 19
_LARGEST = 1 << 48
_DIMENSIONS = 16
_DTYPES: dict[str, np.dtype[Any]] = {
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.CharStorage": np.dtype("i1"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.BoolStorage": np.dtype("?"),
}
_CALLS = ("collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter")


@dataclass(frozen=True, slots=True)
class Storage:
    """`count` elements of the bytes that `key` names, from element `start` on: a legacy view need not begin at 0."""

    dtype: np.dtype[Any]
    key: str
    whole: int  # how many elements the bytes are
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """Offset and strides count elements of the storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def reach(self) -> int:
        """How many elements from the first to the last, both included."""
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))


@dataclass(frozen=True, slots=True)
class _Name:
    """`module.name` as a pickle spells it: known, and nothing but a name."""

    name: str


class Foreign(ValueError):
    """A pickle names something that is not of a state dict."""


class Machine:
    """Runs one pickle and gives what it describes: tensors, numbers, text, and lists, tuples and dictionaries of them.

    Every instruction costs time and memory in proportion to its bytes. Values are never compared, hashed or printed as
    a whole, since tuples of tuples of tuples are cheap to write and endless to visit."""

    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each mark
        self._memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}  # the first of each key

    def load(self) -> object:
        """Raises Foreign, ValueError."""
        try:
            while (code := self._take(1)) != b".":
                self._step(code)
            return self._stack.pop()
        except (IndexError, KeyError, TypeError):  # an empty stack, no such memo, an operand of another type
            raise ValueError("its pickle is broken") from None

    def _step(self, code: bytes) -> None:
        stack = self._stack
        match code:
            case b"q":
                self._memo[self._number(1)] = stack[-1]
            case b"r":
                self._put(self._number(4))
            case b"\x94":
                self._put(len(self._memo))
            case b"h":
                stack.append(self._memo[self._number(1)])
            case b"j":
                stack.append(self._memo[self._number(4)])
            case b"K":
                stack.append(self._number(1))
            case b"M":
                stack.append(self._number(2))
            case b"J":
                stack.append(int.from_bytes(self._take(4), "little", signed=True))
            case b"\x8a":
                stack.append(int.from_bytes(self._take(self._number(1)), "little", signed=True))
            case b"G":
                stack.append(struct.unpack(">d", self._take(8))[0])
            case b"X":
                stack.append(self._take(self._number(4)).decode(errors="surrogatepass"))
            case b"\x8c":
                stack.append(self._take(self._number(1)).decode(errors="surrogatepass"))
            case b"N":
                stack.append(None)
            case b"\x88" | b"\x89":
                stack.append(code == b"\x88")
            case b")":
                stack.append(())
            case b"]":
                stack.append([])
            case b"}":
                stack.append({})
            case b"(":
                self._below.append(stack)
                self._stack = []
            case b"t":
                self._above().append(tuple(stack))
            case b"\x85" | b"\x86" | b"\x87":
                count = code[0] - 0x84
                stack[-count:] = [tuple(self._last(count))]
            case b"a":
                _list(stack[-2]).append(stack.pop())
            case b"e":
                _list(self._above()[-1]).extend(stack)
            case b"s":
                key, value = self._last(2)
                del stack[-2:]
                _set(stack[-1], key, value)
            case b"u":
                target = self._above()[-1]
                for key, value in zip(stack[::2], stack[1::2], strict=True):
                    _set(target, key, value)
            case b"c":
                self._name(self._line(), self._line())
            case b"\x93":
                module, name = self._last(2)
                del stack[-2:]
                self._name(module, name)
            case b"R":
                function, arguments = self._last(2)
                stack[-2:] = [_call(function, arguments)]
            case b"b":  # sets attributes: torch's _metadata of a state dict, which nobody needs
                _, _ = self._last(2)
                stack.pop()
            case b"Q":
                stack.append(self._storage(stack.pop()))
            case b"\x80":
                self._number(1)
            case b"\x95":
                self._take(8)
            case _:
                raise ValueError(f"its pickle has the instruction {code!r}, which no state dict needs")

    def _take(self, count: int) -> bytes:
        taken = self._stream.read(count)
        if len(taken) < count:
            raise ValueError("its pickle ends too early, or is longer than a state dict's")
        return taken

    def _number(self, count: int) -> int:
        return int.from_bytes(self._take(count), "little")

    def _line(self) -> str:
        return self._stream.readline().removesuffix(b"\n").decode(errors="replace")

    def _last(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError
        return self._stack[-count:]

    def _above(self) -> list[Any]:
        """Leave the last mark: the stack under it."""
        self._stack = self._below.pop()
        return self._stack

    def _put(self, place: int) -> None:
        if place > LIMIT:  # picklers count from 0; other numbers could be chosen to collide in the dictionary
            raise ValueError("its pickle is broken")
        self._memo[place] = self._stack[-1]

    def _name(self, module: object, name: object) -> None:
        full = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "?"
        if full not in _DTYPES and full not in _CALLS:
            raise Foreign(full if full.isascii() and full.isprintable() and len(full) < 100 else shown(full))
        self._stack.append(_Name(full))

    def _storage(self, identity: Any) -> Storage:
        """("storage", type, key, device, count[, view]), a view being None or (key, start, count)."""
        if not isinstance(identity, tuple) or len(identity) not in (5, 6):
            raise ValueError("its pickle is broken: a storage without its parts")
        kind, dtype, key, _, whole = identity[:5]
        view = identity[5] if len(identity) == 6 else None
        start, count = (0, whole) if view is None else _pair(view)
        known = isinstance(dtype, _Name) and dtype.name in _DTYPES
        if not (isinstance(kind, str) and kind == "storage" and known and isinstance(key, str)):
            raise ValueError("its pickle is broken: a storage without its type or key")
        if not _sizes(whole, start, count):
            raise ValueError("its pickle is broken: a storage of impossible size")
        storage = Storage(_DTYPES[dtype.name], key, whole, start, count)
        self.storages.setdefault(key, storage)
        return storage


def _list(target: object) -> list[Any]:
    if not isinstance(target, list):
        raise TypeError
    return target


def _set(target: object, key: object, value: object) -> None:
    # other keys cost what they like: numbers that collide, tuples that never end
    if not isinstance(target, dict) or not (isinstance(key, str) or _sizes(key)):
        raise TypeError
    target[key] = value


def _sizes(*numbers: object) -> bool:
    return all(type(number) is int and 0 <= number < _LARGEST for number in numbers)


def _pair(view: object) -> tuple[Any, Any]:
    if not isinstance(view, tuple) or len(view) != 3:
        raise TypeError
    return view[1], view[2]


def _call(function: Any, arguments: Any) -> object:
    """What a function of _CALLS makes of its arguments."""
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise TypeError
    match function.name, arguments:
        case "collections.OrderedDict", ():
            return {}
        case "torch._utils._rebuild_parameter", (Tensor() as tensor, *_):
            return tensor
        case "torch._utils._rebuild_tensor_v2", (
            Storage() as storage,
            offset,
            tuple() as shape,
            tuple() as strides,
            *_,
        ):
            fits = len(shape) == len(strides) <= _DIMENSIONS and _sizes(offset, *shape, *strides)
            if not fits or prod(size or 1 for size in shape) >= _LARGEST:
                raise ValueError("its pickle is broken: a tensor of impossible shape")
            return Tensor(storage, int(offset), shape, strides)
    raise ValueError(f"its pickle is broken: {function.name} of other arguments")


def shown(text: str) -> str:
    """For messages: what is in a file may be endless, or drive a terminal."""
    return ascii(text if len(text) <= 60 else text[:60] + "...")
