"""A prompt with alternatives in braces -> prompts. Pure, and imports nothing heavy."""

import itertools
import math
import re
from collections.abc import Iterator

from gpt2cli.errors import UsageError

MOST = 100  # prompts that are compared at a time

_PART = re.compile(r"\\[{}|\\]|[{}|]|\\|[^{}|\\]+")


def expanded(template: str) -> list[str]:
    """The prompts of a template: two of "The {White|Black} man". Several braces multiply, and the last one changes
    fastest. An alternative may be empty; \\{, \\}, \\| and \\\\ are the characters themselves. Raises UsageError."""
    pieces = list(_pieces(template))
    if math.prod(map(len, pieces)) > MOST:
        raise UsageError(f"'{_short(template)}' is more than {MOST} prompts", "leave out alternatives")
    return ["".join(parts) for parts in itertools.product(*pieces)]


def _pieces(template: str) -> Iterator[list[str]]:
    """What stands between braces, and the alternatives in them."""
    alternatives, begun, column = [""], 0, 1  # `begun`: the column of the brace that is open
    for part in _PART.findall(template):
        if part == "{":
            if begun:
                raise _wrong(template, column, "opens within others")
            yield alternatives
            alternatives, begun = [""], column
        elif part == "}":
            if not begun:
                raise _wrong(template, column, "closes nothing")
            if len(alternatives) == 1:
                raise _wrong(template, begun, "has nothing to choose from")
            yield alternatives
            alternatives, begun = [""], 0
        elif part == "|" and begun:
            alternatives.append("")
        else:
            alternatives[-1] += part[1:] if part[0] == "\\" and len(part) > 1 else part
        column += len(part)
    if begun:
        raise _wrong(template, begun, "is not closed")
    yield alternatives


def _wrong(template: str, column: int, what: str) -> UsageError:
    return UsageError(
        f"'{_short(template)}': the brace in column {column} {what}",
        r"alternatives are written {a|b}, a brace that is text \{ or \}",
    )


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
