"""What somebody writes in an argument: text with escapes, token ids, biases."""

import contextlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from gpt2cli.errors import UsageError

_ESCAPE = re.compile(r"((?:\\x[0-9a-fA-F]{2})+)|((?:\\u[0-9a-fA-F]{4})+)|\\(.)", re.DOTALL)
_ID = re.compile(r"[\s,\[\]]+")
_NAMED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "e": "\x1b", "\\": "\\", "'": "'", '"': '"'}


def text(given: str, *, escapes: bool) -> str:
    """An argument as text, with `escapes` read. Raises UsageError where it is not UTF-8."""
    return _unescaped(_checked(given)) if escapes else _checked(given)


def _unescaped(text: str) -> str:
    """Replace \\n, \\t, \\r, \\0, \\a, \\e, \\\\, quotes, \\xHH (bytes of UTF-8) and \\uHHHH (units of UTF-16); any
    other backslash stays."""

    def replaced(match: re.Match[str]) -> str:
        octets, units, name = match.groups()
        try:
            if octets:
                return bytes.fromhex(octets.replace("\\x", "")).decode()
            if units:
                return bytes.fromhex(units.replace("\\u", "")).decode("utf-16-be")
        except UnicodeDecodeError:
            code = "UTF-8" if octets else "UTF-16"
            raise UsageError(f"the escapes {match[0]} are not {code}", "write é as \\xc3\\xa9 or \\u00e9") from None
        return _NAMED.get(name, match[0])

    return _ESCAPE.sub(replaced, text)


def _checked(text: str) -> str:
    """UTF-8 whatever the locale says."""
    try:
        text.encode()
    except UnicodeEncodeError:  # Python could not decode it by the locale, and kept the bytes
        shown = text.encode(errors="replace").decode()
        with contextlib.suppress(UnicodeError):
            return os.fsencode(text).decode()
        raise UsageError(f"the argument '{shown}' is not UTF-8 text", "convert it, for example with iconv") from None
    return text


def token_id(word: str) -> int | None:
    """The id that a word is, if it is one."""
    return int(word) if word.isascii() and word.isdigit() and len(word) < 12 else None


def id_words(blocks: Iterable[str]) -> Iterator[list[str]]:
    """What stands between white space, commas and brackets in a text that comes in blocks: ids as --json prints them,
    and as people write them."""
    held = ""
    for block in itertools.chain(blocks, [" "]):
        *words, held = _ID.split(held + block)
        yield [word for word in words if word]


def token_ids(text: str) -> list[int]:
    """The ids of --ids. Raises UsageError."""
    how = "write token ids with spaces: --ids '464 3290'"
    words = list(itertools.chain.from_iterable(id_words([text])))
    if not words:
        raise UsageError("--ids is empty", how)
    ids = [token_id(word) for word in words]
    if None in ids:
        raise UsageError(f"--ids: '{words[ids.index(None)][:40]}' is not a token id", how)
    return [one for one in ids if one is not None]


class Encoder(Protocol):
    def encode(self, text: str) -> list[int]: ...


def logit_bias(entries: Sequence[str], tokenizer: Encoder, *, escapes: bool) -> dict[int, float]:
    """TOKEN=X entries; TOKEN is an id, or a text that is one token (in double quotes where it looks like an id).
    Raises UsageError."""
    biases: dict[int, float] = {}
    for entry in entries:
        key, equals, value = entry.rpartition("=")
        try:
            bias = float(value)
        except ValueError:
            equals = ""
        if not equals or not key:
            raise UsageError(f"--logit-bias '{entry}' is not TOKEN=X", "for example --logit-bias ' the=-5' or 262=-inf")
        number = token_id(key)
        if number is not None:
            token = number
        else:
            quoted = len(key) > 2 and key[0] == key[-1] == '"'
            ids = tokenizer.encode(text(key[1:-1] if quoted else key, escapes=escapes))
            if len(ids) != 1:
                shown = " ".join(map(str, ids))
                raise UsageError(
                    f"--logit-bias text '{key}' is {len(ids)} tokens ({shown}), not one",
                    "bias each id by itself: ID=X",
                )
            token = ids[0]
        biases[token] = bias
    return biases
