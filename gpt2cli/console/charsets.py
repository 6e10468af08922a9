"""Bytes of files and of stdin as text: UTF-8, and words for what is none."""

import codecs

from gpt2cli.errors import CannotMeet

# More than any prompt: what comes from a pipe that never ends stops here.
MAX_BYTES = 64 << 20
# What is read at a time where the whole is not needed.
BLOCK = 1 << 16

# UTF-32 first: its mark begins with that of UTF-16
_MARKS = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32"}
_MARKS |= {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


def decoded(data: bytes, source: str) -> str:
    """All of a text, without a mark at its beginning. `source` is its name. Raises CannotMeet."""
    if len(data) > MAX_BYTES:
        raise CannotMeet(
            f"{source} holds more than {MAX_BYTES >> 20} MB",
            "only the end can be used: tail -c 10000 FILE | gpt2",
        )
    _refuse_wide(data, source)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        _refuse_wide(data, source, wrong=True)
        raise _not_utf8(source, data[reason.start], reason.start) from None


class Decoder:
    """The same for a text that comes in blocks."""

    def __init__(self, source: str) -> None:
        self._source, self._offset = source, 0
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()

    def push(self, data: bytes, *, final: bool) -> str:
        """The characters that are complete. Raises CannotMeet."""
        begun = self._offset - len(self._decoder.getstate()[0])
        if not self._offset:
            _refuse_wide(data, self._source)
        self._offset += len(data)
        try:
            return self._decoder.decode(data, final=final)
        except UnicodeDecodeError as reason:
            if not begun:
                _refuse_wide(reason.object, self._source, wrong=True)
            raise _not_utf8(self._source, reason.object[reason.start], begun + reason.start) from None


def _not_utf8(source: str, byte: int, offset: int) -> CannotMeet:
    return CannotMeet(
        f"{source} is not UTF-8: byte {byte:#04x} at offset {offset}",
        "convert it from what it is, for example: iconv -f LATIN1 -t UTF-8",
    )


def _refuse_wide(data: bytes, source: str, *, wrong: bool = False) -> None:
    """Raises CannotMeet for UTF-16 and UTF-32, which Windows' tools write, and which without a mark at the beginning
    is mostly UTF-8 too: with NULs. `wrong`: it is no UTF-8, and a NUL is sign enough."""
    name = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None) or _wide(data[:BLOCK], wrong)
    if name:
        raise CannotMeet(
            f"{source} is {name.removesuffix('LE').removesuffix('BE')}, not UTF-8",
            f"convert it: iconv -f {name} -t UTF-8",
        )


def _wide(data: bytes, wrong: bool) -> str | None:
    """By the places of the zeros among four bytes: Latin letters and spaces bring them, in every script."""
    count = len(data) // 4
    zeros = [data[place : 4 * count : 4].count(0) for place in range(4)]
    if zeros[3] == count > zeros[0] and zeros[2] > count / 2:
        return "UTF-32LE"
    if zeros[0] == count > zeros[3] and zeros[1] > count / 2:
        return "UTF-32BE"
    big, little = zeros[0] + zeros[2], zeros[1] + zeros[3]
    least = max(1, count // 50 if wrong else count)  # of 2 * count
    if big == 0 and little >= least:
        return "UTF-16LE"
    return "UTF-16BE" if little == 0 and big >= least else None
