"""The file of what has been computed, a line of JSON for each item, or each window of a text: a run that was ended goes
on where it was. A line is found again by its key, which says the model and the tokens."""

import contextlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2cli.analysis.evaluation.likelihoods import Likelihood
from gpt2cli.engine.facts import Ids
from gpt2cli.errors import StorageError, UsageError
from gpt2cli.store import locks

_FIELDS = ("logprob", "tokens", "greedy", "last")
_HINT = "samples have a file of their own: give it a new name"


class Samples:
    """A file that nobody else writes meanwhile. Raises UsageError for a file that is something else, and
    StorageError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, tuple[int, list[Likelihood]]] = {}  # with the number of the line
        with contextlib.ExitStack() as stack:
            try:
                if path.exists() and not path.is_file():  # some are read without an end
                    raise StorageError(f"cannot write samples to '{path}': it is no plain file", "name another file")
                self._file = stack.enter_context(path.open("a+b", buffering=0))
                if not stack.enter_context(locks.unless_held(locks.file_path(path))):
                    raise StorageError(
                        f"another eval is writing '{path}'", "wait for its end, or give this one a file of its own"
                    )
                self._read()
            except OSError as reason:
                raise self._failed(reason) from None
            self._opened = stack.pop_all()

    def _read(self) -> None:
        self._file.seek(0)
        size, end = os.fstat(self._file.fileno()).st_size, 0
        with os.fdopen(os.dup(self._file.fileno()), "rb") as file:
            for number, line in enumerate(file, 1):
                if _is_torn(line, first=number == 1):
                    break
                try:
                    value = json.loads(line)
                    answers = list(map(_likelihood, value["answers"]))
                    self._found[str(value["key"])] = number, answers
                except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                    answers = []
                if not answers:
                    raise self._strange(number) from None
                end += len(line)
        if end < size == os.fstat(self._file.fileno()).st_size:
            self._file.truncate(end)

    def get(self, key: str, endings: Sequence[Ids]) -> list[Likelihood] | None:
        """What is known of these endings. Raises UsageError where that is of others."""
        number, found = self._found.get(key, (0, None))
        if found is not None and [one.tokens for one in found] != list(map(len, endings)):
            raise self._strange(number)
        return found

    def add(self, lines: Sequence[tuple[str, Mapping[str, Any], Sequence[Likelihood]]]) -> None:
        """Lines of a key, what people want to know, and answers: all at once, and at once."""
        text = ""
        for key, facts, answers in lines:
            told = [{name: getattr(one, name) for name in _FIELDS} for one in answers]
            line = {"key": key, **facts, "answers": told}
            text += json.dumps(line, ensure_ascii=False) + "\n"
        rest = memoryview(text.encode(errors="backslashreplace"))
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as reason:
            raise self._failed(reason) from None

    def _strange(self, number: int) -> UsageError:
        return UsageError(f"line {number} of '{self._path}' is no sample of an eval", _HINT)

    def _failed(self, reason: OSError) -> StorageError:
        return StorageError(
            f"cannot write '{self._path}': {reason.strerror or reason}",
            "check the path, its permissions and free space",
        )

    def close(self) -> None:
        self._opened.close()


def _is_torn(line: bytes, *, first: bool) -> bool:
    """Whether it is what a process that was killed has left of a line, or what a power cut has: zeros."""
    begun = line.rstrip(b"\0")
    return not line.endswith(b"\n") and b'{"key": '.startswith(begun[:8]) and not (first and not begun)


def _likelihood(value: Any) -> Likelihood:
    """Raises ValueError, TypeError and KeyError."""
    logprob, tokens, greedy, last = (value[name] for name in _FIELDS)
    counted = isinstance(tokens, int) and not isinstance(tokens, bool)
    if not (counted and isinstance(greedy, bool) and isinstance(last, bool)):
        raise TypeError
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or not math.isfinite(logprob):
        raise TypeError
    return Likelihood(float(logprob), tokens, greedy, last)
