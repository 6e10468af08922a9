"""The colours of pages and pictures: each by day and by night. Those of the page of `gpt2 serve` are the same."""

import math

LIGHT, DARK = 0, 1
STEPS = 8  # of `heat` and of `cold`, from 1 on; 0 is none


def _mixed(one: str, other: str, share: float) -> str:
    pairs = ((int(one[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


COLOURS = {
    "ground": ("#faf8f3", "#191816"),
    "raised": ("#fffefb", "#23211e"),
    "ink": ("#26231e", "#e6e1d7"),
    "quiet": ("#68625a", "#a59e91"),
    "line": ("#e3ddd1", "#35322d"),
    "edge": ("#8b8478", "#7d766a"),
    "accent": ("#2b5b5e", "#93c1bb"),
    "chosen": ("#e3e6e1", "#2a2f2d"),
    "top10": ("#eaf3e5", "#1f2b1b"),
    "top100": ("#fbeebf", "#40360f"),
    "top1000": ("#f8d9cb", "#4a2a1c"),
    "beyond": ("#e4d6f2", "#3b2a52"),
    "top10-line": ("#6d9a63", "#7fae73"),
    "top100-line": ("#96741a", "#cda63f"),
    "top1000-line": ("#b25636", "#e08a66"),
    "beyond-line": ("#7a4fae", "#b48ee6"),
}
# Little to much, on the ground; dark enough and light enough for ink upon it.
_SCALES = {"heat": ("#ef9467", "#8f4222"), "cold": ("#86b3e0", "#274f86")}
for _name, _ends in _SCALES.items():
    for _step in range(1, STEPS + 1):
        _light, _dark = (_mixed(COLOURS["ground"][at], _ends[at], _step / STEPS) for at in (LIGHT, DARK))
        COLOURS[f"{_name}{_step}"] = _light, _dark


def step(share: float) -> int:
    """0 to STEPS for 0 to 1, and for what lies beyond."""
    return max(0, min(STEPS, round(share * STEPS)))


def scaled(share: float) -> str | None:
    """The colour of a share from -1 (cold) to 1 (heat); None for about nothing."""
    found = step(abs(share))
    return f"{'heat' if share > 0 else 'cold'}{found}" if found else None


def surprise(logprob: float | None) -> str | None:
    """The colour of a natural log-probability: twelve bits and more are the hottest."""
    return None if logprob is None else scaled(-logprob / math.log(2) / 12)


def rank_class(rank: int | None) -> str | None:
    """GLTR's classes: among the 10, 100 or 1000 likeliest, or beyond."""
    return None if not rank else ("top10", "top100", "top1000", "beyond")[sum(rank > most for most in (10, 100, 1000))]
