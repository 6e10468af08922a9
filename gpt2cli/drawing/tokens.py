"""Tokens as JSON has them, made ready to be drawn."""

import codecs
from collections.abc import Iterable, Iterator
from typing import Any

Plain = dict[str, Any]


def readable(tokens: Iterable[Plain]) -> Iterator[Plain]:
    """Each with `text`: the characters that are complete with it. A token that only begins one has none."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    last: Plain | None = None
    for token in tokens:
        if last is not None:
            yield last
        last = token | {"text": decoder.decode(bytes(token["bytes"]))}
    if last is not None:
        yield last | {"text": last["text"] + decoder.decode(b"", final=True)}
