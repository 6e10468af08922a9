"""Text <-> ids, and TextStream: ids -> whole characters. The only room that knows the tokenizers library."""

import codecs
import json
import re
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as _Tokenizer

from gpt2cli.errors import CorruptFile
from gpt2cli.paths import contained

END = "<|endoftext|>"


def _byte_alphabet() -> dict[str, int]:
    """The characters that byte-level BPE writes for the 256 bytes (Radford et al. 2019): printable Latin-1 stands
    for itself, the rest follows from U+0100 on in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_alphabet()
_WORD_GAP = re.compile(r"\S(?= \S)")
# Characters that IdStream encodes at a time, and the words at their end that wait for what follows.
_BLOCK = 1 << 16
_TAIL = 8


class Tokenizer:
    """A byte-level BPE tokenizer, from tokenizer.json or from vocab.json and merges.txt."""

    def __init__(self, folder: Path) -> None:
        """Raises CorruptFile where the folder has no tokenizer, a broken one, or one that is not byte-level."""
        try:
            self._tokenizer = _load(folder)
        except CorruptFile:
            raise
        except BaseException as error:  # the library raises bare Exception, and where Rust panics less than that
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise CorruptFile(
                f"cannot read the tokenizer in '{folder}': {error}",
                "the file is truncated or corrupt: download it again",
            ) from None
        if not isinstance(self._tokenizer.decoder, decoders.ByteLevel):
            kind = type(self._tokenizer.decoder).__name__
            raise CorruptFile(
                f"the tokenizer in '{folder}' is not GPT-2's byte-level BPE (its decoder is {kind})",
                "only byte-level BPE tokenizers are supported",
            )
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # these are written as themselves, not in the byte alphabet
        added = self._tokenizer.get_added_tokens_decoder()
        self._added = {token: content.content.encode() for token, content in added.items()}
        self._longest: int | None = None

    @property
    def end(self) -> int | None:
        """The id of <|endoftext|>, if the vocabulary has it."""
        token: int | None = self._tokenizer.token_to_id(END)
        return token

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Nothing is put before or after. With `special`, <|endoftext|> in the text is the token of that name;
        otherwise it is ordinary text."""
        self._tokenizer.encode_special_tokens = not special
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_ends(self, text: str, first: int, last: int, *, special: bool = False) -> tuple[list[int], bool]:
        """The first `first` and the last `last` of the ids of `text`, and whether that is less than all.

        The same ids as `encode` gives, but what lies far between the ends is not encoded: megabytes cost no more than
        a window."""
        reach = (first + last) * self._longest_token()
        if len(text) > 4 * reach + 1000 and self._splits_before_space():
            head = _WORD_GAP.search(text, first * self._longest_token())
            tail = _WORD_GAP.search(text, len(text) - 2 * reach - 1000, len(text) - reach)
            if head and tail and head.end() < tail.end():
                before = self.encode(text[: head.end()], special=special) if first else []
                after = self.encode(text[tail.end() :], special=special)
                return before[:first] + after[len(after) - last :], True
        ids = self.encode(text, special=special)
        if len(ids) <= first + last:
            return ids, False
        return ids[:first] + ids[len(ids) - last :], True

    def _longest_token(self) -> int:
        """In characters; a character has at least one byte."""
        if self._longest is None:
            self._longest = max(map(len, self._tokenizer.get_vocab()), default=1)
        return self._longest

    def _splits_before_space(self) -> bool:
        """Whether a word and the space before the next are never one token, as in GPT-2's own pre-tokenizer."""
        if any(b" " in content for content in self._added.values()):
            return False
        splitter = self._tokenizer.pre_tokenizer
        return splitter is not None and [place for _, place in splitter.pre_tokenize_str("ab cd")][-1] == (2, 5)

    def encode_start(self, text: str, *, special: bool = False) -> tuple[list[int], str]:
        """The ids of the beginning of `text` that stay the same whatever text follows it, and the rest of the text.

        That needs no knowledge of the tokenizer but this: how it splits text into words depends on a few words
        around, and on no more characters than its longest added token has. The cut lies before the last words, where
        the rest by itself gets the ids that it got here."""
        self._tokenizer.encode_special_tokens = not special
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids: list[int] = encoding.ids
        words: list[int | None] = encoding.word_ids
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


class IdsAsText(Tokenizer):
    """Stands in where a model has no tokenizer and the prompt is ids: each id is written as a number."""

    def __init__(self) -> None:
        """Knows nothing."""

    @property
    def end(self) -> int | None:
        return None

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        raise CorruptFile("this model has no tokenizer", "give the prompt as token ids: --ids '464 3290'")

    def encode_ends(self, text: str, first: int, last: int, *, special: bool = False) -> tuple[list[int], bool]:
        return self.encode(text), False

    def bytes_of(self, token: int) -> bytes:
        return f" {token}".encode()


def present(folder: Path) -> bool:
    """Whether the folder has the files of a tokenizer."""
    pair = (folder / "vocab.json").exists() and (folder / "merges.txt").exists()
    return pair or (folder / "tokenizer.json").exists()


def _load(folder: Path) -> _Tokenizer:
    if not present(folder):
        raise CorruptFile(
            f"'{folder}' has no tokenizer: neither tokenizer.json nor vocab.json and merges.txt",
            "copy them from the model it was trained from, or give ids: --ids '464 3290'",
        )
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json"):
        contained(folder / name, folder)
    if (folder / "tokenizer.json").exists():
        return _Tokenizer.from_file(str(folder / "tokenizer.json"))
    vocab, merges = str(folder / "vocab.json"), str(folder / "merges.txt")
    tokenizer = _Tokenizer(models.BPE.from_file(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if tokenizer.token_to_id(END) is not None:
        tokenizer.add_special_tokens([AddedToken(END, normalized=False, special=True)])
    _add_tokens(tokenizer, folder / "added_tokens.json")
    return tokenizer


def _add_tokens(tokenizer: _Tokenizer, path: Path) -> None:
    """Tokens that a fine-tuning added to vocab.json: {"text": id}, the ids following the vocabulary's."""
    if not path.exists():
        return
    added: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    for text, token in sorted(added.items(), key=lambda item: item[1]):
        tokenizer.add_tokens([AddedToken(text, normalized=False)])
        if tokenizer.token_to_id(text) != token:
            raise CorruptFile(
                f"{path}: '{text}' has the id {token}, after the vocabulary comes {tokenizer.token_to_id(text)}",
                "added_tokens.json and vocab.json do not belong together: copy both from one checkpoint",
            )


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
