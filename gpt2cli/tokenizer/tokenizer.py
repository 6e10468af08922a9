"""Text <-> ids, and TextStream: ids -> whole characters. Every call of the tokenizers library is here or in
files.py and cuts.py, which serve this room only."""

import codecs
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import decoders

from gpt2cli.errors import CorruptFile
from gpt2cli.tokenizer import files
from gpt2cli.tokenizer.cuts import Cuts
from gpt2cli.tokenizer.files import END


def _byte_alphabet() -> dict[str, int]:
    """The characters that byte-level BPE writes for the 256 bytes (Radford et al. 2019): printable Latin-1 stands
    for itself, the rest follows from U+0100 on in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_alphabet()
# Characters that IdStream encodes at a time, and the words at their end that wait for what follows.
_BLOCK = 1 << 16
_TAIL = 8
_LONG = 1 << 10  # tokens of a word that is cut inside
# stderr is one for all tokenizers
_silencing = threading.Lock()


class Tokenizer:
    """A byte-level BPE tokenizer, from tokenizer.json or from vocab.json and merges.txt. Safe to share between
    threads."""

    def __init__(self, folder: Path) -> None:
        """Raises CorruptFile where the folder has no tokenizer, a broken one, or one that is not byte-level."""
        with _library(
            f"cannot read the tokenizer in '{folder}'", "the file is truncated or corrupt: download it again"
        ):
            self._tokenizer = files.load(folder)
        self._folder = folder
        if not isinstance(self._tokenizer.decoder, decoders.ByteLevel):
            kind = type(self._tokenizer.decoder).__name__
            raise CorruptFile(
                f"the tokenizer in '{folder}' is not GPT-2's byte-level BPE (its decoder is {kind})",
                "only byte-level BPE tokenizers are supported",
            )
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._panics = files.may_panic(self._tokenizer)
        # whether special tokens are read as text is a setting of the library's object, not an argument of a call
        self._encoding = threading.Lock()
        # these are written as themselves, not in the byte alphabet
        added = self._tokenizer.get_added_tokens_decoder()
        self._added = {token: content.content.encode() for token, content in added.items()}
        self.special = frozenset(token for token, content in added.items() if content.special)  # which are no text

    @property
    def end(self) -> int | None:
        """The id of <|endoftext|>, if the vocabulary has it."""
        token: int | None = self._tokenizer.token_to_id(END)
        return token

    @cached_property
    def _cuts(self) -> Cuts:
        with self._working():
            return Cuts(self._tokenizer, self.bytes_of)

    def _working(self) -> AbstractContextManager[None]:
        return _library(f"the tokenizer in '{self._folder}' fails on this text", "use another tokenizer")

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Nothing is put before or after. With `special`, special tokens such as <|endoftext|> in the text are the
        tokens of these names; otherwise they are ordinary text. Raises CorruptFile where the tokenizer fails."""
        ids: list[int] = self._encoded(text, special).ids
        return ids

    def _encoded(self, text: str, special: bool) -> Any:
        with self._encoding, self._working(), _silence() if self._panics else nullcontext():
            self._tokenizer.encode_special_tokens = not special
            return self._tokenizer.encode(text, add_special_tokens=False)

    def encode_ends(self, text: str, first: int, last: int, *, special: bool = False) -> tuple[list[int], bool]:
        """The first `first` and the last `last` of the ids of `text`, and whether that is less than all.

        The same ids as `encode` gives, but what lies far between the ends is not encoded: megabytes cost no more than
        a window. Where no place to cut is found all of a large text is encoded, a piece at a time."""
        head = self._head(text, first, special) if first else (0, [])
        tail = self._tail(text, last, special)
        if head and tail and head[0] <= tail[0]:
            return head[1][:first] + tail[1][len(tail[1]) - last :], True
        ids = iter(self.encode(text, special=special)) if len(text) < 4 * _BLOCK else self._each(text, special)
        before, after, count = list(islice(ids, first)), deque[int](maxlen=last), 0
        for token in ids:
            after.append(token)
            count += 1
        return before + list(after), count > last

    def _head(self, text: str, count: int, special: bool) -> tuple[int, list[int]] | None:
        """A place in the text and the ids before it, at least `count`."""
        size = 8 * count + 1000
        while size < len(text) // 2:
            place = self._cuts.after(text, size)
            if place is not None and len(ids := self.encode(text[:place], special=special)) >= count:
                return place, ids
            size *= 4
        return None

    def _tail(self, text: str, count: int, special: bool) -> tuple[int, list[int]] | None:
        """A place in the text and the ids after it, more than `count`."""
        size = 8 * count + 1000
        while size < len(text) // 2:
            place = self._cuts.after(text, len(text) - size)
            if place is None:
                place = self._cuts.within(text, len(text) - size, partial(self.encode, special=special))
            if place is not None and len(ids := self.encode(text[place:], special=special)) > count:
                return place, ids
            size *= 4
        return None

    def _each(self, text: str, special: bool) -> Iterator[int]:
        """The ids of a text, in bounded memory."""
        stream = IdStream(self, special=special)
        for start in range(0, len(text), _BLOCK):
            yield from stream.push(text[start : start + _BLOCK])
        yield from stream.finish()

    def encode_start(self, text: str, *, special: bool = False) -> tuple[list[int], str]:
        """The ids of the beginning of `text` that stay the same whatever text follows it, and the rest of the text.

        That needs no knowledge of the tokenizer but this: how it splits text into words depends on a few words
        around, and on no more characters than its longest added token has. The cut lies before the last words, where
        the rest by itself gets the ids that it got here; or in the last word, where that is long."""
        encoding = self._encoded(text, special)
        ids: list[int] = encoding.ids
        words: list[int | None] = encoding.word_ids
        last = next((place for place in range(len(ids), 0, -1) if words[place - 1] != words[-1]), 0)
        if len(ids) - last > _LONG and (found := self._cuts.inside(ids[last:], text)):
            return ids[: last + found[0]], found[1]
        reach = max(map(len, self._added.values()), default=0)
        place, seen, tail = len(ids), 0, b""
        while place > 0 and (seen < 4 * _TAIL or len(tail) < 4096):
            before = place
            while place > 0 and words[place - 1] == words[before - 1]:
                place -= 1
            tail = b"".join(map(self.bytes_of, ids[place:before])) + tail
            seen += 1
            if place and seen >= _TAIL and len(tail) >= reach + 4:
                rest = tail.decode("utf-8", errors="replace")
                if text.endswith(rest) and self.encode(rest, special=special) == ids[place:]:
                    return ids[:place], rest
        return [], text

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(map(self.bytes_of, ids)).decode("utf-8", errors="replace")

    def knows(self, token: int) -> bool:
        """Whether the id has a piece."""
        return token in self._added or (0 <= token < 1 << 32 and self._tokenizer.id_to_token(token) is not None)

    def bytes_of(self, token: int) -> bytes:
        """The bytes a token stands for; none for an id that has no piece (a padded vocabulary)."""
        if token in self._added:
            return self._added[token]
        piece: str | None = self._tokenizer.id_to_token(token)
        if piece is None:
            return b""
        try:
            return bytes(_BYTES[character] for character in piece)
        except KeyError:  # not written in the byte alphabet: it can only be its own text
            return piece.encode()

    def plain(self, token: int) -> dict[str, Any]:
        """An id with its text and its bytes, for JSON."""
        octets = self.bytes_of(token)
        return {"id": token, "token": octets.decode(errors="replace"), "bytes": list(octets)}


class IdsAsText(Tokenizer):
    """Stands in where a model has no tokenizer and the prompt is ids: each id is written as a number."""

    def __init__(self) -> None:
        """Knows nothing."""

    @property
    def end(self) -> int | None:
        return None

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        raise CorruptFile("this model has no tokenizer", "give the prompt as token ids, at the command line with --ids")

    def encode_ends(self, text: str, first: int, last: int, *, special: bool = False) -> tuple[list[int], bool]:
        return self.encode(text), False

    def bytes_of(self, token: int) -> bytes:
        return f" {token}".encode()


@contextmanager
def _library(problem: str, hint: str) -> Iterator[None]:
    """Whatever the library raises is a CorruptFile."""
    try:
        yield
    except (CorruptFile, UnicodeError):  # the latter: the text is none
        raise
    except BaseException as error:  # it raises bare Exception, and where Rust panics less than that
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CorruptFile(f"{problem}: {error}", hint) from None


@contextmanager
def _silence() -> Iterator[None]:
    """Where Rust panics it writes to the process's stderr, before Python hears of it."""
    with _silencing:
        try:
            saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        except OSError:  # there is no stderr, or no descriptor is left
            yield
            return
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(nowhere)


class IdStream:
    """Text -> ids, a piece of the text at a time, in bounded memory where the text has words of bounded length.

    The pushed ids and the finish joined equal `encode` of the whole text."""

    def __init__(self, tokenizer: Tokenizer, *, special: bool = False) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self._held: list[str] = []
        self._length = 0
        self._enough = _BLOCK

    def push(self, text: str) -> list[int]:
        self._held.append(text)
        self._length += len(text)
        if self._length < self._enough:
            return []
        ids, rest = self._tokenizer.encode_start("".join(self._held), special=self._special)
        self._held, self._length = [rest], len(rest)
        # where nothing could be cut off, the next attempt waits for twice the text: the work stays linear
        self._enough = max(_BLOCK, 2 * len(rest))
        return ids

    def finish(self) -> list[int]:
        """The ids of what is left."""
        held, self._held, self._length = "".join(self._held), [], 0
        return self._tokenizer.encode(held, special=self._special)


def encode_in_pieces(tokenizer: Tokenizer, text: str, *, special: bool = False) -> list[int]:
    """The ids of a text of any length, a piece at a time: others get their turn in between."""
    stream = IdStream(tokenizer, special=special)
    ids = [token for start in range(0, len(text), _BLOCK) for token in stream.push(text[start : start + _BLOCK])]
    return ids + stream.finish()


class TextStream:
    """Ids -> text, a token at a time, whole characters only: bytes wait until their character is complete.

    The pushed texts and the finish joined equal `decode` of all ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(self._tokenizer.bytes_of(token))

    @property
    def held(self) -> str:
        """What `finish` would return now."""
        return self._decoder.getstate()[0].decode(errors="replace")

    def finish(self) -> str:
        """What is left: U+FFFD for the bytes of a character that never came."""
        return self._decoder.decode(b"", final=True)
