"""Text in cells of one width: how many it takes, and how it is written where not every character may stand."""

import re
import unicodedata

# What XML forbids, and what would be seen as nothing.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_SIGNS = {"\n": "↵", "\t": "⇥", "\r": "␍", "\x7f": "␡"}


def width(text: str) -> int:
    """In cells: two for a wide character, none for a mark upon another."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(one) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def seen(text: str) -> str:
    """A text that any document may hold: a sign for each control character, which can be seen."""

    def sign(match: re.Match[str]) -> str:
        one = match[0]
        return _SIGNS.get(one) or (chr(0x2400 + ord(one)) if one < " " else "\ufffd")

    return _UNSEEN.sub(sign, text)


def fitted(text: str, cells: int, *, left: bool = True) -> str:
    """Cut, with an ellipsis, or padded to just so many cells."""
    if width(text) > cells:
        kept, used = "", 0
        for one in text:
            used += width(one)
            if used > cells - 1:
                break
            kept += one
        text = kept + "…"
    padding = " " * (cells - width(text))
    return text + padding if left else padding + text
