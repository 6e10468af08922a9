"""What may follow in a text that must have a form. Every call of llguidance, which comes with an extra, is here.

A Matcher follows one text through its constraint, token by token. It works on bytes, and so with any tokenizer: a token
is allowed where its bytes can be continued to a text of the form."""

import re
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from gpt2cli.errors import CannotMeet, CorruptFile, UsageError
from gpt2cli.generation import complaints
from gpt2cli.generation.forms import Constraint
from gpt2cli.model import Model
from gpt2cli.tokenizer.tokenizer import IdsAsText, Tokenizer

Mask = np.ndarray[Any, np.dtype[np.bool_]]

_JSON = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}  # a model may fill with blanks
_vocabularies: "WeakKeyDictionary[Tokenizer, _Vocabulary]" = WeakKeyDictionary()
_making = threading.Lock()


class Matcher:
    """One text's place in its constraint."""

    def __init__(self, constraint: Constraint, vocabulary: "_Vocabulary", ends: Sequence[int], inner: Any) -> None:
        """`ends`: the tokens that end a text, allowed wherever the text may end and nowhere else."""
        self._constraint, self._vocabulary, self._ends, self._inner = constraint, vocabulary, list(ends), inner
        self._text: Mask | None = None  # the tokens of text that may come next, where that is known

    def copy(self) -> "Matcher":
        """Another text, as far as this one has come."""
        return Matcher(self._constraint, self._vocabulary, self._ends, self._inner.deep_copy())

    def allowed(self) -> Mask:
        """For each token whether it may come next. Raises CannotMeet where none may."""
        found = self._texts().copy()
        found[self._ends] = self.complete
        if not found.any() and not self.complete:
            raise self._dead_end()
        return found

    def _texts(self) -> Mask:
        if self._text is None:
            bits = np.frombuffer(self._inner.compute_bitmask(), np.uint8)
            self._check()
            self._text = np.unpackbits(bits, count=self._vocabulary.size, bitorder="little").view(np.bool_)
        return self._text

    def accept(self, token: int) -> None:
        """The token comes next. Raises CannotMeet where it is not allowed, and where to go on would take too long."""
        self._text = None
        self._inner.consume_token(token)
        self._check()

    def forced(self) -> list[int]:
        """The tokens that must come next, as the tokenizer cuts the text that they are: those of which no later text
        can change the cut. None where there is a choice."""
        if not self._inner.compute_ff_bytes():
            return []
        tokens: list[int] = self._inner.compute_ff_tokens()
        ends = [place for place, token in enumerate(tokens) if token in self._ends or token >= self._vocabulary.size]
        return tokens[: ends[0]] if ends else tokens

    def taken(self, tokens: Sequence[int]) -> int:
        """How many of these could come next, one after another."""
        count: int = self._inner.validate_tokens(list(tokens))
        ends = [place for place, token in enumerate(tokens) if token in self._ends]
        return min([count, *ends])

    @property
    def complete(self) -> bool:
        """Whether the text has the form, and may end."""
        return bool(self._inner.is_accepting())

    @property
    def ended(self) -> bool:
        """Whether it has the form, and nothing can follow."""
        if not self.complete:
            return False
        return bool(self._inner.is_stopped()) or not self._texts().any()

    def _check(self) -> None:
        if self._inner.is_error():
            reason = complaints.first_line(self._inner.get_error())
            if reason.startswith("NoExtension"):
                raise self._dead_end()
            raise CannotMeet(
                f"the text cannot go on within the {self._constraint.noun}: {reason}",
                "simplify it: fewer alternatives, shorter repetitions",
            )

    def _dead_end(self) -> CannotMeet:
        return CannotMeet(
            f"nothing that this model can say leads on to what the {self._constraint.noun} asks for",
            "loosen it: it matches nothing, or needs characters that the vocabulary cannot spell",
        )


def matcher(model: Model, constraint: Constraint, stop_tokens: Sequence[int] = ()) -> Matcher:
    """A Matcher at the beginning of a text. Raises UsageError for a constraint that is none, or that cannot be
    followed, and where llguidance is missing; CannotMeet where this model can say nothing that fits it."""
    vocabulary = _vocabulary(model)
    library = _library()
    grammar = _grammar(constraint)
    inner = library.LLMatcher(vocabulary.inner, grammar, log_level=0)
    found = Matcher(constraint, vocabulary, (*model.ends, *stop_tokens), inner)
    if inner.is_error() and not inner.get_error().startswith("NoExtension"):
        raise complaints.problem(constraint, inner.get_error(), gbnf=is_gbnf(constraint.words))
    for choice in constraint.choices:
        if not vocabulary.spells(choice):
            raise CannotMeet(f"the vocabulary cannot spell the choice '{choice}'", "choose other words")
    found.allowed()
    return found


def _library() -> Any:
    try:
        import llguidance
    except ImportError:
        raise UsageError(
            "constraints need the library llguidance, which is not installed",
            "install it: pip install 'gpt2cli[constrain]'",
        ) from None
    return llguidance


class _Vocabulary:
    """A model's tokens, as llguidance needs them: their bytes, and an end token of its own after them."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self._tokenizer, self.size = tokenizer, size
        special = tokenizer.special
        # special tokens are no text, and what is no UTF-8 cannot be in one
        self.tokens = [b"" if token in special else _text(tokenizer.bytes_of(token)) for token in range(size)] + [b""]
        self.special_token_ids, self.eos_token_id, self.bos_token_id = [size], size, None
        self.inner = _library().LLTokenizer(_library().TokenizerWrapper(self))

    def __call__(self, text: bytes) -> list[int]:
        """The tokenizer's ids of a text; where these would say something else (some put a space before it), others
        that spell it."""
        try:
            ids = self._tokenizer.encode(text.decode())
        except (UnicodeDecodeError, CorruptFile):
            return self._greedy(text)
        same = all(token < self.size for token in ids) and b"".join(self.tokens[token] for token in ids) == text
        return ids if same else self._greedy(text)

    def _greedy(self, text: bytes) -> list[int]:
        """From the left, the longest token each time, as far as the text can be spelt."""
        found, place = [], 0
        while place < len(text):
            ends = range(min(len(text), place + self._longest), place, -1)
            end = next((end for end in ends if text[place:end] in self._ids), None)
            if end is None:
                break
            found.append(self._ids[text[place:end]])
            place = end
        return found

    def spells(self, text: str) -> bool:
        return all(bytes([byte]) in self._ids for byte in text.encode()) or bool(
            b"".join(self.tokens[token] for token in self(text.encode())) == text.encode()
        )

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        return {octets: token for token, octets in reversed([*enumerate(self.tokens)]) if octets}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._ids), default=0)


def _text(octets: bytes) -> bytes:
    return b"" if octets[:1] == b"\xff" else octets  # with which llguidance marks special tokens


def _vocabulary(model: Model) -> _Vocabulary:
    """Made once for a tokenizer: it takes some tenths of a second. Raises UsageError."""
    tokenizer = model.tokenizer
    if isinstance(tokenizer, IdsAsText):
        raise UsageError("this model has no tokenizer, and a constraint is about text", "leave out the constraint")
    with _making:
        if tokenizer not in _vocabularies:
            _vocabularies[tokenizer] = _Vocabulary(tokenizer, model.engine.vocabulary)
        return _vocabularies[tokenizer]


def _grammar(constraint: Constraint) -> Any:
    """What llguidance makes of a constraint. Raises UsageError."""
    library, text = _library(), constraint.words
    if constraint.kind == "regex":
        return library.LLMatcher.grammar_from_regex(text)
    if constraint.kind == "choice":
        return library.LLMatcher.grammar_from_regex("|".join(map(_literal, constraint.choices)))
    if constraint.kind == "json_schema":
        return library.LLMatcher.grammar_from_json_schema(_json(text), _JSON)
    if is_gbnf(text):
        text = _lark(text)
    return library.LLMatcher.grammar_from_lark(text)


def _literal(text: str) -> str:
    """A regular expression that matches this text alone."""
    return "".join(one if one.isalnum() or one == " " else f"\\x{{{ord(one):x}}}" for one in text)


def is_gbnf(text: str) -> bool:
    """Whether a grammar is GBNF, and not Lark: its rules are written with ::=."""
    return re.search(r"^\s*[\w-]+\s*::=", text, re.MULTILINE) is not None


def _lark(text: str) -> str:
    """GBNF in Lark's notation. Raises UsageError."""
    from llguidance.gbnf_to_lark import any_to_lark

    constraint = Constraint("grammar", text)
    try:
        return str(any_to_lark(text))
    except RecursionError:
        raise complaints.wrong(constraint, 0, "it is too deeply nested") from None
    except Exception as problem:  # the converter has no class for rules that are missing
        at = getattr(getattr(problem, "pos", None), "pos", None)
        reason = str(problem).partition(" at line ")[0]
        raise complaints.wrong(
            constraint, complaints.offset_of_word(text, reason) if at is None else at, reason
        ) from None


def _json(text: str) -> str:
    """A schema as an object. Raises UsageError where it is no JSON, no schema, or too deep."""
    import json

    constraint = Constraint("json_schema", text)
    try:
        found = json.loads(text)
    except json.JSONDecodeError as problem:
        raise complaints.wrong(constraint, problem.pos, problem.msg[0].lower() + problem.msg[1:]) from None
    except RecursionError:
        raise complaints.wrong(constraint, 0, "it is too deeply nested") from None
    except ValueError:  # numbers of thousands of digits
        raise complaints.wrong(constraint, 0, "it holds a number of too many digits") from None
    if found is True:
        return "{}"
    if not isinstance(found, dict):
        nothing = "no value is valid" if found is False else "a schema is an object"
        raise complaints.wrong(constraint, len(text) - len(text.lstrip()), nothing)
    return text
