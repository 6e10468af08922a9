"""What may follow in a text that must be one of several: their tokens, as the tokenizer cuts each of them. Needs no
library."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from gpt2cli.errors import CannotMeet, CorruptFile
from gpt2cli.generation.forms import Constraint
from gpt2cli.model import Model
from gpt2cli.tokenizer.tokenizer import Tokenizer

Mask = np.ndarray[Any, np.dtype[np.bool_]]


class Spelling:
    """Texts -> ids that say exactly these texts."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        """`size`: of the model's vocabulary."""
        self._tokenizer, self.size = tokenizer, size

    @cached_property
    def tokens(self) -> list[bytes]:
        """The bytes of each token; none of one that is no text: special tokens, and what is in no UTF-8."""
        special, bytes_of = self._tokenizer.special, self._tokenizer.bytes_of
        found = (b"" if token in special else bytes_of(token) for token in range(self.size))
        return [b"" if octets[:1] == b"\xff" else octets for octets in found]

    def ids(self, text: bytes) -> list[int]:
        """The tokenizer's; where these would say something else (some put a space before it), from the left the longest
        token each time. They end early where the vocabulary cannot spell on."""
        try:
            ids = self._tokenizer.encode(text.decode())
        except (UnicodeDecodeError, CorruptFile):
            return self._greedy(text)
        same = all(token < self.size for token in ids) and self.said(ids) == text
        return ids if same else self._greedy(text)

    def said(self, ids: Iterable[int]) -> bytes:
        return b"".join(map(self._tokenizer.bytes_of, ids))

    def _greedy(self, text: bytes) -> list[int]:
        found, place = [], 0
        while place < len(text):
            ends = range(min(len(text), place + self._longest), place, -1)
            end = next((end for end in ends if text[place:end] in self._numbers), None)
            if end is None:
                break
            found.append(self._numbers[text[place:end]])
            place = end
        return found

    @cached_property
    def _numbers(self) -> dict[bytes, int]:
        return {octets: token for token, octets in reversed([*enumerate(self.tokens)]) if octets}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._numbers), default=0)


def ids_of(model: Model, texts: Sequence[str]) -> list[tuple[int, ...]]:
    """The tokens of each choice. Raises CannotMeet where the vocabulary cannot spell one."""
    spelling = Spelling(model.tokenizer, model.engine.vocabulary)
    found = [tuple(spelling.ids(text.encode())) for text in texts]
    for text, ids in zip(texts, found, strict=True):
        if spelling.said(ids) != text.encode():
            raise CannotMeet(f"this model's vocabulary cannot spell the choice '{text}'", "choose other words")
    return found


class OneOf:
    """One text's place among its choices. As constraints.Matcher."""

    def __init__(self, left: list[tuple[int, ...]], size: int, ends: Sequence[int]) -> None:
        """`left`: what is left of each choice that is still possible."""
        self._left, self._size, self._ends = left, size, list(ends)

    def copy(self) -> "OneOf":
        return OneOf(self._left, self._size, self._ends)

    def allowed(self) -> Mask:
        found = np.zeros(self._size, np.bool_)
        found[[ids[0] for ids in self._left if ids]] = True
        found[self._ends] = self.complete
        return found

    def accept(self, token: int) -> None:
        self._left = [ids[1:] for ids in self._left if ids and ids[0] == token]

    def forced(self) -> list[int]:
        first = self._left[0]
        same = 0
        while same < len(first) and all(len(ids) > same and ids[same] == first[same] for ids in self._left):
            same += 1
        return list(first[:same])

    def taken(self, tokens: Sequence[int]) -> int:
        left, count = self._left, 0
        for token in tokens:
            left = [ids[1:] for ids in left if ids and ids[0] == token]
            if not left:
                break
            count += 1
        return count

    @property
    def complete(self) -> bool:
        return () in self._left

    @property
    def ended(self) -> bool:
        return self._left == [()]


def one_of(model: Model, constraint: Constraint, ends: Sequence[int]) -> OneOf:
    """Raises CannotMeet."""
    ids = dict.fromkeys(ids_of(model, constraint.choices))
    return OneOf([*ids], model.engine.vocabulary, ends)
