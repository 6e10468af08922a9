"""The file of what has been computed, a line of JSON for each item, or each window of a text: a run that was ended goes
on where it was. A line is found again by its key, which says the model, the protocol and the tokens."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2cli.analysis.evaluation.likelihoods import Likelihood
from gpt2cli.errors import StorageError, UsageError

_FIELDS = ("logprob", "tokens", "greedy", "last")
_HINT = "samples have a file of their own: give it a new name"


class Samples:
    """Raises UsageError for a file that is something else, and StorageError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, list[Likelihood]] = {}
        try:
            self._file = path.open("a+b", buffering=0)
            try:
                self._read()
            except BaseException:
                self._file.close()
                raise
        except OSError as reason:
            raise self._failed(reason) from None

    def _read(self) -> None:
        self._file.seek(0)
        end = 0  # of the last line that is whole: a process that was killed has left half of one
        with os.fdopen(os.dup(self._file.fileno()), "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n") and b'{"key": '.startswith(line[:8]):
                    break
                try:
                    value = json.loads(line)
                    answers = [Likelihood(*(one[name] for name in _FIELDS)) for one in value["answers"]]
                    self._found[str(value["key"])] = answers
                except (ValueError, TypeError, KeyError, RecursionError):
                    raise UsageError(f"line {number} of '{self._path}' is no sample of an eval", _HINT) from None
                end += len(line)
        if end != self._file.seek(0, os.SEEK_END):
            self._file.truncate(end)

    def get(self, key: str) -> list[Likelihood] | None:
        return self._found.get(key)

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

    def _failed(self, reason: OSError) -> StorageError:
        return StorageError(
            f"cannot write '{self._path}': {reason.strerror or reason}",
            "check the path, its permissions and free space",
        )

    def close(self) -> None:
        self._file.close()
