"""Lines for people: notes and errors on stderr, the answers of commands on stdout."""

import contextlib
import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

from gpt2cli.console import display, wrapping
from gpt2cli.console.outputs import Output


def say(text: str) -> None:
    """A line on stderr. Nothing that goes wrong with stderr may stop the work."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.buffer.write(f"{text}\n".encode(errors="replace"))
        sys.stderr.buffer.flush()


def tell(text: str) -> None:
    """A sentence on stderr: one line, which on a terminal is broken at blanks."""
    room = display.columns(sys.stderr)
    say("\n".join(wrapping.folded(text, room)) if room else text)


def note(text: str) -> None:
    tell(f"note: {printable(text)}")


def silent(text: str) -> None:
    """What takes the place of `note` under --quiet."""


def error(message: str, hint: str) -> None:
    """One `error:` line and one `hint:` line, whatever the texts hold."""
    for kind, text in (("error", message), ("hint", hint)):
        shown = printable(" ".join(flags(text).splitlines()))
        tell(f"{kind}: {shown if len(shown) <= 1000 else f'{shown[:1000]}…'}")


def flags(text: str) -> str:
    """The library's words at the command line: the parameter `top_k` is --top-k there."""
    return re.sub("`([a-z_]+)`", lambda found: _FLAGS.get(found[1], f"--{found[1].replace('_', '-')}"), text)


_FLAGS = {"samples": "-N", "layers": "--layer", "heads": "--head"}


def printable(text: str, keep: str = "") -> str:
    """A text that files or servers may have had a part in, without what a terminal would obey."""
    return "".join(char if char.isprintable() or char in keep else ascii(char)[1:-1] for char in text)


def say_out(text: str) -> None:
    """A line on stdout, for commands whose answer is not streamed. Raises BrokenPipe and StorageError."""
    shown = printable(text, keep="\t\n") if display.stdout_is_terminal() else text
    with Output() as output:
        output.write(f"{shown}\n")


def say_sentence(text: str) -> None:
    """On stdout, on a terminal broken at blanks where the line ends. Raises BrokenPipe and StorageError."""
    room = display.columns(sys.stdout)
    for line in wrapping.folded(text, room) if room else [text]:
        say_out(line)


def say_json(value: Any) -> None:
    """A value as JSON on stdout. Raises BrokenPipe and StorageError."""
    with Output() as output:
        output.write(json_text(value, indent=2) + "\n")


def json_text(value: Any, **options: Any) -> str:
    """A value as JSON. What of a file's name is no UTF-8 is an escape, of which Python makes the name again."""
    return json.dumps(value, ensure_ascii=False, **options).encode(errors="backslashreplace").decode()


def say_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, fold: bool = False) -> None:
    """Columns of text on stdout, for people. `fold`: on a terminal the last column is broken at blanks where the line
    ends, or has lines of its own where the others leave it no room; then these are broken too where they must be.
    Raises BrokenPipe and StorageError."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    room = shutil.get_terminal_size().columns if fold and display.stdout_is_terminal() else 0
    indent = sum(widths[:-1]) + 2 * len(widths[:-1])
    below = room > 0 and room - indent < min(widths[-1], _READABLE)
    for row in (header, *rows):
        *cells, last = row
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
        if not room:
            lines = [f"{line}  {last}"]
        elif below:
            lines = [*wrapping.folded(line.rstrip(), room), *wrapping.folded(f"  {last}", room)]
        else:
            first, *others = wrapping.folded(last, room - indent, indent="")
            lines = [f"{line}  {first}", *(" " * indent + other for other in others)]
        for one in lines:
            if one.strip():
                say_out(one.rstrip())


_READABLE = 20  # cells of a column of words


def visible(octets: bytes) -> str:
    """Bytes on one line of text, as `-e` reads them back: \\n, \\t, \\xHH for what is no character or a control one."""
    text = octets.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    return "".join(_CONTROL.get(character) or _control(character) for character in text)


_CONTROL = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _control(character: str) -> str:
    if unicodedata.category(character) not in ("Cc", "Zl", "Zp"):
        return character
    return "".join(f"\\x{octet:02x}" for octet in character.encode())


def size_text(nbytes: float) -> str:
    """548105171 -> 548 MB."""
    for unit in ("B", "kB", "MB"):
        if nbytes < 999.5:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.2f} GB"


def silence_stdout() -> None:
    """After a broken pipe: what Python still flushes at exit goes nowhere."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)


def counted(number: int | str, noun: str) -> str:
    """1 text, 2 texts."""
    return f"{number} {noun}{'' if str(number) == '1' else 's'}"
