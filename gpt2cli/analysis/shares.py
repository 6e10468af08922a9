"""What texts that were drawn begin with, and how sure a share of them is. Pure."""

import re
from dataclasses import asdict, dataclass
from typing import Any

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_Z = 1.959964  # 95 % of a normal distribution lie so many standard deviations around its mean


@dataclass(frozen=True)
class Share:
    """How many of the texts, which part of them, and Wilson's interval, which holds the true part 95 times in 100."""

    count: int
    share: float
    low: float
    high: float


def first_word(text: str) -> str:
    """Of a text that goes on, without punctuation; "" where it has none."""
    found = _WORD.search(text)
    return found[0] if found else ""


def first_of(words: list[dict[str, Any]], top: int, texts: int) -> list[dict[str, Any]]:
    """The first `top` words of so many texts, as JSON has them, and a last one for all others, whose `word` is None."""
    if len(words) <= top + 1:
        return words
    others = wilson(sum(one["count"] for one in words[top:]), texts)
    return [*words[:top], {"word": None} | asdict(others)]


def wilson(count: int, of: int) -> Share:
    """The share that `count` of so many are."""
    if not of:
        return Share(0, 0.0, 0.0, 1.0)
    share, square = count / of, _Z**2 / of
    middle = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * (share * (1 - share) / of + square / (4 * of)) ** 0.5
    return Share(count, share, middle - half if count else 0.0, middle + half if count < of else 1.0)
