"""Where a text can be cut so that both parts have the ids that they have in the whole, whatever stands around.

Two proofs. Words: GPT-2's pattern looks ahead for white space only and behind for nothing, so what separates two
characters by themselves separates them everywhere, but for the apostrophe of a contraction, which takes letters after
it. Inside a word: byte-pair merges on two sides of a place that none of them crosses do not know of each other; and if
none crosses it in neighbouring tokens taken in pairs, none crosses it in the whole."""

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

_REACH = 1 << 12  # characters that are looked at for a place between words
_MORE = 1 << 8  # bytes that are looked at for a place in a word
_TRIES = 16
_UNSURE = 1 << 11  # bytes; a tokenizer with longer tokens would have to be asked too often
# Normalizers that do nothing across a space.
_LOCAL = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase"}


class Cuts:
    """Of one tokenizer of the library; `bytes_of` gives the bytes of its tokens."""

    def __init__(self, tokenizer: Any, bytes_of: Callable[[int], bytes]) -> None:
        self._tokenizer, self._bytes_of, self._splitter = tokenizer, bytes_of, tokenizer.pre_tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._added = [token.content for token in added.values()]
        self.longest_added = max(map(len, self._added), default=0)
        splits = json.loads(self._splitter.__getstate__()) if self._splitter else {}
        kind = json.loads(tokenizer.normalizer.__getstate__())["type"] if tokenizer.normalizer else None
        strict = not any(token.lstrip or token.rstrip or token.single_word for token in added.values())
        # GPT-2's own, as far as words go
        plain = splits.get("type") == "ByteLevel" and splits.get("use_regex", True) and not splits["add_prefix_space"]
        self._plain = strict and not kind and plain
        # others, of which it is known that a word and the space before the next are never one token
        spaced = not any(" " in text for text in self._added) and self._words("ab cd") == ["ab", " cd"]
        self._spaced = strict and spaced and (not kind or kind in _LOCAL)
        # other models than BPE have no such settings
        other = ("dropout", "ignore_merges", "continuing_subword_prefix", "end_of_word_suffix")
        self._merges = self._plain and not any(getattr(tokenizer.model, name, True) for name in other)
        self._longest: int | None = None

    def after(self, text: str, start: int) -> int | None:
        """The first place from `start` on, not too far from it, where the text can be cut."""
        places = range(max(start, 1), min(start + _REACH, len(text)))
        return next((place for place in places if self._separate(text, place)), None)

    def _separate(self, text: str, place: int) -> bool:
        before, after = text[place - 1], text[place]
        if not self._plain:
            return self._spaced and after == " " and not before.isspace() and not text[place + 1 : place + 2].isspace()
        # what stands before is no white space: at the end of a text that would be taken otherwise than before a word
        if before == "'" or len(self._words(before + after)) < 2 or len(self._words(f"{before}\n")) < 2:
            return False
        near = text[max(0, place - self.longest_added + 1) : place + self.longest_added - 1]
        middle = min(place, max(0, self.longest_added - 1))
        return not any(_spans(near, token, middle) for token in self._added)

    def _words(self, text: str) -> list[str]:
        if not self._splitter:
            return [text]
        return [text[start:end] for _, (start, end) in self._splitter.pre_tokenize_str(text)]

    def within(self, text: str, start: int, encode: Callable[[str], list[int]]) -> int | None:
        """The same in a long word: a place a little after `start` that is a token's end whichever token ends first
        after `start`. The rest of the text gets the same ids by itself, what is before it may not."""
        unsure = self._unsure()
        part = text[start : start + 2 * unsure + _MORE]
        near = text[max(0, start - self.longest_added) : start + len(part) + self.longest_added]
        if not self._merges or unsure > _UNSURE or part[0] in " '" or any(token in near for token in self._added):
            return None
        words = self._splitter.pre_tokenize_str(part)
        if len(words) > 1:
            return None
        letters, found = words[0][0], list[dict[int, str]]()  # for each beginning: where tokens end, and which
        for begin in range(unsure):
            tokens = [token.value for token in self._tokenizer.model.tokenize(letters[begin:])]
            ends = itertools.accumulate(map(len, tokens), initial=begin)
            found.append(dict(zip(itertools.islice(ends, 1, None), tokens, strict=True)))
        data = part.encode()
        for place in sorted(set.intersection(*map(set, found)))[:_TRIES]:
            cut = start + len(data[:place].decode(errors="replace"))
            rest = text[cut:]
            if data[place:].startswith(rest[:1].encode()) and rest[:1] not in ("", "'"):
                first = self._tokenizer.id_to_token(encode(rest)[0])
                if self._apart({ends[place] for ends in found}, {first}):
                    return cut
        return None

    def inside(self, ids: Sequence[int], text: str) -> tuple[int, str] | None:
        """How many of `ids`, the tokens of the last word of `text`, stay whatever follows, and the text after them;
        None where that cannot be proven."""
        # the word, or the last token of it that is certain, ends among so many bytes
        model, unsure = self._tokenizer.model, self._unsure()
        place, tail = len(ids), ""
        while self._merges and unsure <= _UNSURE and place > 1 and len(tail) < 2 * unsure + _MORE:
            place -= 1
            tail = model.id_to_token(ids[place]) + tail
            rest = b"".join(map(self._bytes_of, ids[place:])).decode(errors="replace")
            if len(tail) < 2 * unsure or not text.endswith(rest) or rest[0] in "'\ufffd":
                continue
            begins = {model.tokenize(tail[:end])[0].value for end in range(len(tail) - unsure, len(tail) + 1)}
            if self._apart({model.id_to_token(ids[place - 1])}, begins):
                return place, rest
        return None

    def _unsure(self) -> int:
        """More bytes than any token has; and than may become part of an added token, or, being white space before a
        word, of another word."""
        if self._longest is None:
            self._longest = max(map(len, self._tokenizer.get_vocab()))
        return self._longest + 4 * self.longest_added + 4

    def _apart(self, lasts: set[str], firsts: set[str]) -> bool:
        """Whether no token of the first set merges with one of the second, or with a part of it, where they meet."""
        return all(
            [token.value for token in self._tokenizer.model.tokenize(last + first)] == [last, first]
            for last, first in itertools.product(lasts, firsts)
        )


def _spans(text: str, token: str, place: int) -> bool:
    """Whether `token` stands in `text` on both sides of `place`."""
    found = text.find(token, max(0, place - len(token) + 1))
    return 0 <= found < place
