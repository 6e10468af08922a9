"""Texts in columns and tables for a terminal of a given width. Pure."""

import math
import re
from collections.abc import Sequence

from gpt2cli.console.wrapping import Run, folded
from gpt2cli.drawing.cells import width
from gpt2cli.generation.requests import Logprob
from gpt2cli.tokenizer.tokenizer import Tokenizer

_NARROWEST = 28  # cells, below which a column of prose is hard to read
_GAP = 2


def visible(text: str) -> str:
    """Control characters as pictures: a text moves no cursor. A tab is four spaces wide."""
    return text if text.isprintable() else "".join(map(_picture, text))


def _picture(character: str) -> str:
    if character == "\t":
        return "    "
    if character < " " and character != "\n":
        return chr(0x2400 + ord(character))
    return "\u2421" if "\x7f" <= character < "\xa0" else character


def ending(runs: Sequence[Run], lines: int) -> list[Run]:
    """The last lines of a text, at most so many, without what stands before them."""
    found: list[Run] = []
    for yours, text in reversed(runs):
        parts = text.rsplit("\n", lines)
        if len(parts) > lines:
            return [(yours, "\n".join(parts[1:])), *reversed(found)]
        lines -= len(parts) - 1
        found.append((yours, text))
    return found[::-1]


def split(runs: Sequence[Run], ends: str) -> list[list[Run]]:
    """Rows, each with the character of `ends` that ends it; the last has none."""
    rows: list[list[Run]] = [[]]
    for yours, text in runs:
        for part in re.findall(f"[^{ends}]*[{ends}]|[^{ends}]+", text):
            rows[-1].append((yours, part))
            if part[-1] in ends:
                rows.append([])
    return rows


def alternatives(texts: Sequence[str], columns: int) -> list[str]:
    """Numbered texts: side by side where each gets a readable column, else one below the other."""
    room = (columns - _GAP * (len(texts) - 1)) // len(texts)
    if len(texts) == 1 or room < _NARROWEST:
        return [line for number, text in enumerate(texts, 1) for line in (f"[{number}]", *_wrapped(text, columns))]
    cells = [[f"[{number}]", *_wrapped(text, room)] for number, text in enumerate(texts, 1)]
    height = max(map(len, cells))
    filled = [cell + [""] * (height - len(cell)) for cell in cells]
    gap = " " * _GAP
    return [gap.join(_padded(part, room) for part in row).rstrip() for row in zip(*filled, strict=True)]


def _wrapped(text: str, room: int) -> list[str]:
    return [row for line in text.splitlines() or [""] for row in folded(line.strip(), room, indent="")]


def _padded(text: str, cells: int) -> str:
    return text + " " * (cells - width(text))


def last_words(text: str, room: int) -> str:
    """The end of a text on one line."""
    flat = " ".join(text.split())
    while width(flat) > max(4, room):
        flat = "…" + flat[2 + (width(flat) - room) // 4 :]
    return flat


def quoted(token: int, tokenizer: Tokenizer) -> str:
    """A token between quotes: its bytes where they are not whole characters."""
    text = tokenizer.bytes_of(token).decode(errors="backslashreplace")
    return "'" + "".join(one if one.isprintable() else repr(one)[1:-1] for one in text) + "'"


def why(ids: Sequence[int], logprobs: Sequence[Logprob], tokenizer: Tokenizer, columns: int, first: int) -> list[str]:
    """A line a token: its number (from `first`), the token, its probability, and the alternatives that fit."""
    digits, lines = len(str(first + len(ids) - 1)), []
    shown = [quoted(token, tokenizer) for token in ids]
    most = min(max(map(width, shown), default=0), max(4, columns // 3))
    for number, (text, logprob) in enumerate(zip(shown, logprobs, strict=True), first):
        line = f"{number:>{digits}}  {_padded(text, most)} {math.exp(logprob.logprob):>6.1%}"
        for place, (token, value) in enumerate(logprob.top, 1):
            more = f"  {place} {quoted(token, tokenizer)} {math.exp(value):.0%}"
            if width(line + more) > columns:
                break
            line += more
        lines.append(line)
    return lines


def status(parts: Sequence[str], columns: int) -> str:
    """As many of the parts as fit; the first matters most."""
    line = ""
    for part in parts:
        longer = f"{line} · {part}" if line else part
        if width(longer) > columns:
            break
        line = longer
    return line
