"""The file of the answers, which grows by whole lines. Beside it, in FILE.batch, stands what run it is of: the same run
goes on where it was cut, at whatever moment; another is refused.

A line counts when its newline is there: what follows the last one, a process that was killed has left, and it is cut
off. Nothing that counts is ever written again."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from gpt2cli.batch.answers import Answer, Json
from gpt2cli.batch.rows import Row, Source, key_of
from gpt2cli.errors import StorageError, UsageError
from gpt2cli.paths import FULL
from gpt2cli.store import locks

_SHOWN = 40  # characters of what is another
_SYNC_SECONDS = 5.0  # of work that a power cut may cost
_OTHER = "give the command that it was begun with, another -o, or --restart to begin anew (what is there is lost)"


def beside(path: Path) -> Path:
    """The file that says what run it is of."""
    return path.with_name(f"{path.name}.batch")


class Growing:
    """The answers of a run in a file. A context manager; nobody else writes the file meanwhile."""

    def __init__(self, path: Path, run: Json, source: Source, *, ordered: bool, restart: bool = False) -> None:
        """`run` says what an answer depends on; plain data. Raises UsageError where the file is of something else, and
        StorageError."""
        self._path, self._run = path, json.loads(json.dumps(run))
        self._synced = time.monotonic()
        self.done = self.failed = 0  # rows that are there
        self.there = set[int]()  # their keys
        with contextlib.ExitStack() as stack:
            try:
                if path.exists() and not path.is_file():
                    raise StorageError(f"'{path}' is no plain file", "name another file, or leave out -o for stdout")
                if not stack.enter_context(locks.unless_held(locks.file_path(path))):
                    raise StorageError(
                        f"another batch is writing '{path}'", "wait for its end, or give this one a file of its own"
                    )
                self._open(source, ordered=ordered, restart=restart)
                stack.callback(self._file.close)
            except OSError as reason:
                raise self._unwritable(reason) from None
            self._held = stack.pop_all()

    def _open(self, source: Source, *, ordered: bool, restart: bool) -> None:
        path = self._path
        size = path.stat().st_size if path.exists() else 0
        if size and not beside(path).exists():
            raise UsageError(
                f"'{path}' is there already, and no batch has begun it", "choose another -o, or remove the file"
            )
        if size and not restart:
            self._check_run()
            self._read(source, ordered=ordered)
        else:
            if size:
                os.truncate(path, 0)
            self._say_run()
        self._file = path.open("ab", buffering=0)

    def _say_run(self) -> None:
        target = beside(self._path)
        part = target.with_name(f"{target.name}.part")
        with part.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self._run, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)

    def _check_run(self) -> None:
        """Raises UsageError where the file is of another run."""
        try:
            before = json.loads(beside(self._path).read_text(encoding="utf-8"))
        except ValueError:
            raise UsageError(f"'{beside(self._path)}' cannot be read", "another -o, or --restart") from None
        if changes := list(_differences({"run": before}, {"run": self._run})):
            raise UsageError(f"'{self._path}' is of another run: {'; '.join(changes[:3])}", _OTHER)

    def _read(self, source: Source, *, ordered: bool) -> None:
        """What is there. Raises UsageError where that is not of these rows."""
        end = 0
        rows = source.rows()
        expected = self._by_order(rows) if ordered else self._by_id(rows)
        expected.send(None)
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    found = json.loads(line)
                    key, is_failed = key_of(found["custom_id"]), found.get("error") is not None
                except (ValueError, TypeError, KeyError, AttributeError):
                    raise self._strange(number) from None
                if not expected.send(key):
                    raise self._strange(number)
                self.there.add(key)
                self.done, self.failed, end = number, self.failed + is_failed, end + len(line)
        if end < self._path.stat().st_size:
            os.truncate(self._path, end)

    @staticmethod
    def _by_order(rows: Iterator[Row]) -> Any:
        """Gets keys, says whether each is that of the next row."""
        key = yield
        for row in rows:
            key = yield row.key == key
        while True:
            key = yield False

    @staticmethod
    def _by_id(rows: Iterator[Row]) -> Any:
        """Gets keys, says whether each is that of a row that has not been there."""
        left = {row.key for row in rows}
        key = yield
        while True:
            known = key in left
            left.discard(key)
            key = yield known

    def _strange(self, number: int) -> UsageError:
        return UsageError(f"line {number} of '{self._path}' is no answer of this run", "another -o, or --restart")

    def add(self, answers: list[Answer]) -> None:
        """All of these, at once. Raises StorageError, and then none of a line is there, or all of it."""
        octets = "".join(f"{one.line}\n" for one in answers).encode()
        size = os.fstat(self._file.fileno()).st_size
        rest = memoryview(octets)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as reason:
            whole = octets[: len(octets) - len(rest)].rfind(b"\n") + 1
            with contextlib.suppress(OSError):
                os.truncate(self._path, size + whole)
            raise self._unwritable(reason) from None
        self.done += len(answers)
        self.failed += sum(one.failed for one in answers)
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self._sync()

    def _sync(self) -> None:
        with contextlib.suppress(OSError):  # some file systems cannot
            os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def _unwritable(self, reason: OSError) -> StorageError:
        full = reason.errno in FULL
        return StorageError(
            f"cannot write '{self._path}': {reason.strerror or reason}",
            "make room: the same command goes on where this one ended"
            if full
            else "check the path and its permissions",
        )

    def __enter__(self) -> "Growing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sync()
        self._held.close()


def _differences(before: Json, now: Json) -> Iterator[str]:
    """What is not the same, in words."""
    for name in dict.fromkeys((*before, *now)):
        first, second = before.get(name), now.get(name)
        if first == second:
            continue
        if isinstance(first, dict) and isinstance(second, dict):
            yield from _differences(first, second)
        else:
            yield f"{_WORDS.get(name, f'`{name}`')} was {_short(first)}, and is {_short(second)}"


_WORDS = {
    "rows_sha256": "the sha256 of the rows",
    "json": "whether rows are JSON",
    "weights": "the sha256 of the weights",
    "revision": "the model's revision",
    "task": "what is made of a row",
    "given": "what the command line says itself",
    "n": "`samples`",
}


def _short(value: Any) -> str:
    if isinstance(value, str) and len(value) > _SHOWN:
        value = f"{value[: 12 if len(value) == 64 else _SHOWN]}..."  # of a hash as much as anybody reads
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN + 5 else f"{text[:_SHOWN]}..."
