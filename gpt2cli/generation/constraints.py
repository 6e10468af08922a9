"""What may follow in a text that must have a form. Every call of llguidance, which comes with an extra, is here.

A Matcher follows one text through its constraint, token by token. It works on bytes, and so with any tokenizer: a token
is allowed where its bytes can be continued to a text of the form."""

import re
import threading
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from gpt2cli.errors import CannotMeet, UsageError
from gpt2cli.generation import complaints, hazards
from gpt2cli.generation.choices import Mask, OneOf, Spelling, one_of
from gpt2cli.generation.forms import Constraint
from gpt2cli.model import Model
from gpt2cli.tokenizer.tokenizer import IdsAsText, Tokenizer

_JSON = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}  # a model may fill with blanks
_KEPT = 8  # constraints that need not be read again
_STATES = 50_000  # of a kilobyte or two: what takes more memory is refused
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
        found = Matcher(self._constraint, self._vocabulary, self._ends, self._inner.deep_copy())
        found._text = self._text
        return found

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


def matcher(model: Model, constraint: Constraint, stop_tokens: Sequence[int] = ()) -> Matcher | OneOf:
    """A Matcher at the beginning of a text. Raises UsageError for a constraint that is none, or that cannot be
    followed, and where llguidance is missing; CannotMeet where this model can say nothing that fits it."""
    if isinstance(model.tokenizer, IdsAsText):
        raise UsageError("this model has no tokenizer, and a constraint is about text", "leave out the constraint")
    ends = (*model.ends, *stop_tokens)
    if constraint.choices:
        return one_of(model, constraint, ends)
    vocabulary = _vocabulary(model)
    with vocabulary.lock:
        found = vocabulary.known.pop((constraint, ends), None)
    found = found or _made(vocabulary, constraint, ends)  # outside the lock: others wait for no slow one
    with vocabulary.lock:
        vocabulary.known[constraint, ends] = found
        while len(vocabulary.known) > _KEPT:
            del vocabulary.known[next(iter(vocabulary.known))]
        return found.copy()


def _made(vocabulary: "_Vocabulary", constraint: Constraint, ends: Sequence[int]) -> Matcher:
    library = _library()
    limits = library.LLParserLimits(max_lexer_states=_STATES)
    inner = library.LLMatcher(vocabulary.inner, _grammar(constraint), log_level=0, limits=limits)
    found = Matcher(constraint, vocabulary, ends, inner)
    if inner.is_error() and not inner.get_error().startswith("NoExtension"):
        raise complaints.problem(constraint, inner.get_error(), gbnf=is_gbnf(constraint.words))
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


class _Vocabulary(Spelling):
    """A model's tokens, as llguidance needs them: their bytes, and an end token of its own after them."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        super().__init__(tokenizer, size)
        library = _library()
        self.inner = library.LLTokenizer(library.TokenizerWrapper(_Wrapped(self)))
        self.known: dict[tuple[Constraint, Sequence[int]], Matcher] = {}  # the last ones, at their beginnings
        self.lock = threading.Lock()


class _Wrapped:
    """What llguidance asks for."""

    bos_token_id = None

    def __init__(self, spelling: Spelling) -> None:
        self.tokens = [*spelling.tokens, b""]
        self.eos_token_id, self.special_token_ids = spelling.size, [spelling.size]
        self._spelling = spelling

    def __call__(self, text: bytes) -> list[int]:
        return self._spelling.ids(text)


def _vocabulary(model: Model) -> _Vocabulary:
    """Made once for a tokenizer: it takes some tenths of a second."""
    tokenizer = model.tokenizer
    with _making:
        if tokenizer not in _vocabularies:
            _vocabularies[tokenizer] = _Vocabulary(tokenizer, model.engine.vocabulary)
        return _vocabularies[tokenizer]


def _grammar(constraint: Constraint) -> Any:
    """What llguidance makes of a constraint. Raises UsageError."""
    library, text = _library(), constraint.words
    if constraint.kind == "json_schema":
        text = _json(text)
    hazards.check(constraint)
    if constraint.kind == "regex":
        return library.LLMatcher.grammar_from_regex(text)
    if constraint.kind == "json_schema":
        try:
            return library.LLMatcher.grammar_from_json_schema(text, _JSON)
        except ValueError as problem:  # what Python reads and Rust does not: 1e400, half a character
            raise complaints.unread(constraint, str(problem)) from None
    if is_gbnf(text):
        text = _lark(text)
    return library.LLMatcher.grammar_from_lark(text)


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
