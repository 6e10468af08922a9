"""stdout and files: what was asked for, byte for byte.

Generated text goes out as UTF-8 whatever the locale says, and never through Rich's layout, which reads markup and waits
for whole lines."""

import contextlib
import errno
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gpt2cli.console import display, wrapping
from gpt2cli.console.signals import HANGUP
from gpt2cli.errors import BrokenPipe, StorageError, Terminated
from gpt2cli.paths import FULL

# Bytes that a pipe takes whole or not at all (POSIX's PIPE_BUF on Linux).
_ATOMIC = 4096


class Output:
    """Where text goes: stdout, or a file that appears under its name only when it is complete.

    A context manager. When its block is left by an error, stdout keeps what was written and the file is not touched;
    `keep` in an `except` makes an interrupted file whole after all."""

    def __init__(self, path: Path | None = None) -> None:
        """Raises StorageError where the file cannot be written, before any work is done."""
        if is_stdout(path):
            path = None
        self._path = path
        self._part: Path | None = None
        self.on_terminal = path is None and display.stdout_is_terminal()  # this output
        self._dim: tuple[str, str] | None = None
        # what is to be written (slices of a view cost nothing, however much there is), and how much of it was
        self._pending: tuple[memoryview, list[int | None]] = memoryview(b""), []
        if path is None:
            if sys.stdout is None:
                raise StorageError("stdout is closed", "open it, or send it elsewhere: gpt2 ... > FILE")
            sys.stdout.flush()
            # without a buffer an interrupted write has either been done or not begun
            self._file: Any = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
            self._dim = display.codes(dim=True) if self.on_terminal or os.environ.get("FORCE_COLOR") else None
            return
        try:
            number = _descriptor(path)
            if number is not None:  # behind the link may be a file that others write too
                self._file = os.fdopen(os.dup(number), "wb", 0)
            elif path.exists() and not path.is_file():  # a device or a named pipe has no name to replace
                self._file = path.open("wb", 0)
            else:
                target = path.resolve()  # a link stays a link
                if target.exists() and not os.access(target, os.W_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                beside = target.parent if os.access(target.parent, os.W_OK) or not target.exists() else None
                number, name = tempfile.mkstemp(prefix=".gpt2-", dir=beside)
                self._file, self._part, self._path = os.fdopen(number, "wb", 0), Path(name), target
        except OSError as reason:
            raise self._failed(reason) from None

    def write(self, text: str, *, dim: bool = False) -> None:
        """At once. What is interrupted is not torn: the next call goes on with it. Raises BrokenPipe where the reader
        has gone, StorageError where the disk is full."""
        if dim and self._dim and text:
            text = text.join(self._dim)
        self.write_bytes(text.encode(errors="surrogateescape"))  # names of files may be any bytes

    def write_bytes(self, octets: bytes) -> None:
        """As `write`, of what is no text."""
        try:
            self._pending = memoryview(b"".join((self._left(), octets))), []
            while rest := self._left():
                sent: list[int | None] = []
                self._pending = rest, sent
                # writes and remembers it in one step, between whose parts no signal raises
                sent.extend(map(self._file.write, [rest[:_ATOMIC]]))
                if sent == [None]:  # somebody has made it non-blocking, and the reader is slow
                    time.sleep(0.01)
        except OSError as reason:
            raise self._failed(reason) from None

    def _left(self) -> memoryview:
        rest, sent = self._pending
        return rest[sum(filter(None, sent)) :]

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.keep()
        finally:
            if self._path is not None:
                self._file.close()
            if self._part is not None:
                with contextlib.suppress(OSError):
                    self._part.unlink(missing_ok=True)

    def keep(self) -> None:
        """Give the file its name. Nothing to do for stdout."""
        if self._path is None or self._file.closed:
            return
        try:
            self._file.close()
            if self._part is not None:
                mask = os.umask(0)
                os.umask(mask)
                self._part.chmod(self._path.stat().st_mode & 0o777 if self._path.exists() else 0o666 & ~mask)
                try:
                    self._part.replace(self._path)
                except OSError:  # the name of a file that is mounted, or lies in somebody else's folder, stays
                    if not self._path.exists():
                        raise
                    shutil.copyfile(self._part, self._path)
        except OSError as reason:
            raise self._failed(reason) from None

    def _failed(self, reason: OSError) -> StorageError | BrokenPipe | Terminated:
        if self.on_terminal and reason.errno == errno.EIO:  # it is closed, and its signal under way or ignored
            return Terminated(HANGUP)
        # Windows says EINVAL where the reader of a pipe has gone
        if isinstance(reason, BrokenPipeError) or (os.name == "nt" and reason.errno == errno.EINVAL):
            return BrokenPipe()
        where = "stdout" if self._path is None else f"'{self._path}'"
        return StorageError(
            f"cannot write to {where}: {reason.strerror or reason}",
            "make room, or choose another file" if reason.errno in FULL else "check the path and its permissions",
        )


class Texts:
    """Several texts on one output, in order: the first streams, later ones are held until their turn. Each ends its
    line, a line `---` lies between two; with `null` each ends in a NUL byte instead. `wrap`: on a terminal, and only
    there, rows are broken at blanks."""

    def __init__(self, output: Output, count: int, *, prompt: str, null: bool, wrap: bool = False) -> None:
        wrap = wrap and output.on_terminal and os.environ.get("TERM") != "dumb" and display.columns(sys.stdout) > 0
        self._rows = wrapping.Rows(lambda: display.columns(sys.stdout)) if wrap else None
        self._output, self._prompt, self._null = output, prompt, null
        self._held = [""] * count
        self._done = [False] * count
        self._current = 0
        self._begun = False  # the current text
        self._ended = 0
        self._last = ""  # the text's last character so far; what decides about the newline
        if prompt:
            self._begin()

    def push(self, row: int, text: str, *, done: bool) -> None:
        """More of a text, and whether that was all of it."""
        self._held[row] += text
        self._done[row] = done
        while self._current < len(self._done) and (self._held[self._current] or self._done[self._current]):
            self._begin()
            held, self._held[self._current] = self._held[self._current], ""
            self._write(held)
            if not self._done[self._current]:
                break
            self._end()

    def finish(self) -> None:
        """Whatever has come counts as all; texts of which nothing came are left out."""
        for row in range(self._current, len(self._held)):
            self._current = row
            if self._begun or self._held[row]:
                self.push(row, "", done=True)

    def _begin(self) -> None:
        if self._begun:
            return
        if self._ended and not self._null:
            self._write("---\n")
        self._begun, self._last = True, ""
        self._write(self._prompt, dim=True)

    def _end(self) -> None:
        if self._null:
            self._write("\0")
        elif self._last != "\n":
            self._write("\n")
        self._begun = False
        self._ended += 1
        self._current += 1

    def _write(self, text: str, *, dim: bool = False) -> None:
        self._last = text[-1:] or self._last
        for marked, part in self._rows.add([(dim, text)]) if self._rows else [(dim, text)]:
            self._output.write(part, dim=marked)


def is_stdout(path: Path | None) -> bool:
    """Whether a path is our own stdout: None, or /dev/stdout and the like."""
    return path is None or _descriptor(path) == 1


def _descriptor(path: Path) -> int | None:
    """The number of the open file of ours that a path such as /dev/stderr or /proc/self/fd/3 names."""
    with contextlib.suppress(OSError):
        for _ in range(40):  # as many links as the system follows
            folder = os.path.realpath(path.parent)
            if folder in ("/dev/fd", f"/proc/{os.getpid()}/fd") and path.name.isdecimal():
                return int(path.name)
            path = path.parent / path.readlink()
    return None
