"""stdout, stderr and files: streaming text, notes, errors, progress. The only file that draws.

Generated text goes out as UTF-8 bytes whatever the locale says, and never through Rich's layout, which reads markup and
waits for whole lines; Rich only supplies the escape codes of the dim prompt on a terminal, and draws progress on
stderr."""

import contextlib
import errno
import json
import os
import re
import shutil
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gpt2cli.console import wrapping
from gpt2cli.console.signals import HANGUP
from gpt2cli.errors import BrokenPipe, StorageError, Terminated


def stdout_is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def columns(stream: Any) -> int:
    """Of the terminal behind a stream; 0 where there is none, or it does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError, AttributeError):
        return 0


def say(text: str) -> None:
    """A line on stderr. Nothing that goes wrong with stderr may stop the work."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.buffer.write(f"{text}\n".encode(errors="replace"))
        sys.stderr.buffer.flush()


def tell(text: str) -> None:
    """A sentence on stderr: one line, which on a terminal is broken at blanks."""
    room = columns(sys.stderr)
    say("\n".join(wrapping.folded(text, room)) if room else text)


def note(text: str) -> None:
    tell(f"note: {printable(text)}")


def silent(text: str) -> None:
    """What takes the place of `note` under --quiet."""


def error(message: str, hint: str) -> None:
    """One `error:` line and one `hint:` line, whatever the texts hold."""
    for kind, text in (("error", message), ("hint", hint)):
        shown = printable(" ".join(flags(text).splitlines()))
        tell(f"{kind}: {shown if len(shown) <= 1000 else f'{shown[:1000]}…'}")


def flags(text: str) -> str:
    """The library's words at the command line: the parameter `top_k` is --top-k there."""
    return re.sub("`([a-z_]+)`", lambda found: _FLAGS.get(found[1], f"--{found[1].replace('_', '-')}"), text)


_FLAGS = {"samples": "-N"}


def printable(text: str, keep: str = "") -> str:
    """A text that files or servers may have had a part in, without what a terminal would obey."""
    return "".join(char if char.isprintable() or char in keep else ascii(char)[1:-1] for char in text)


_FULL = (errno.ENOSPC, errno.EDQUOT)
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
        self.on_terminal = path is None and stdout_is_terminal()  # this output
        self._dim: tuple[str, str] | None = None
        # what is to be written (slices of a view cost nothing, however much there is), and how much of it was
        self._pending: tuple[memoryview, list[int | None]] = memoryview(b""), []
        if path is None:
            if sys.stdout is None:
                raise StorageError("stdout is closed", "open it, or send it elsewhere: gpt2 ... > FILE")
            sys.stdout.flush()
            # without a buffer an interrupted write has either been done or not begun
            self._file: Any = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
            self._dim = _codes(dim=True) if self.on_terminal or os.environ.get("FORCE_COLOR") else None
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
        if not text:
            return
        if dim and self._dim:
            text = text.join(self._dim)
        try:
            octets = text.encode(errors="surrogateescape")  # names of files may be any bytes
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
            "make room, or choose another file" if reason.errno in _FULL else "check the path and its permissions",
        )


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


def say_out(text: str) -> None:
    """A line on stdout, for commands whose answer is not streamed. Raises BrokenPipe and StorageError."""
    shown = printable(text, keep="\t\n") if stdout_is_terminal() else text
    with Output() as output:
        output.write(f"{shown}\n")


def say_json(value: Any) -> None:
    """A value as JSON on stdout. Raises BrokenPipe and StorageError."""
    with Output() as output:
        output.write(json_text(value, indent=2) + "\n")


def json_text(value: Any, **options: Any) -> str:
    """A value as JSON. What of a file's name is no UTF-8 is an escape, of which Python makes the name again."""
    return json.dumps(value, ensure_ascii=False, **options).encode(errors="backslashreplace").decode()


def say_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, fold: bool = False) -> None:
    """Columns of text on stdout, for people. `fold`: on a terminal the last column is broken at blanks where the line
    ends, or has lines of its own where the others leave it no room. Raises BrokenPipe and StorageError."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    room = shutil.get_terminal_size().columns if fold and stdout_is_terminal() else 0
    indent = sum(widths[:-1]) + 2 * len(widths[:-1])
    below = room > 0 and room - indent < min(widths[-1], _READABLE)
    for row in (header, *rows):
        *cells, last = row
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
        if not room:
            lines = [f"{line}  {last}"]
        elif below:
            lines = [line, *wrapping.folded(f"  {last}", room)]
        else:
            first, *others = wrapping.folded(last, room - indent, indent="")
            lines = [f"{line}  {first}", *(" " * indent + other for other in others)]
        for one in lines:
            if one.strip():
                say_out(one.rstrip())


_READABLE = 20  # cells of a column of words


def visible(octets: bytes) -> str:
    """Bytes on one line of text, as `-e` reads them back: \\n, \\t, \\xHH for what is no character or a control one."""
    text = octets.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    return "".join(_CONTROL.get(character) or _control(character) for character in text)


_CONTROL = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _control(character: str) -> str:
    if unicodedata.category(character) not in ("Cc", "Zl", "Zp"):
        return character
    return "".join(f"\\x{octet:02x}" for octet in character.encode())


def size_text(nbytes: float) -> str:
    """548105171 -> 548 MB."""
    for unit in ("B", "kB", "MB"):
        if nbytes < 999.5:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.2f} GB"


class Texts:
    """Several texts on one output, in order: the first streams, later ones are held until their turn. Each ends its
        line, a line `---` lies between two; with `null` each ends in a NUL byte instead. `wrap`: on a terminal,
    and only there, rows are broken at blanks."""

    def __init__(self, output: Output, count: int, *, prompt: str, null: bool, wrap: bool = False) -> None:
        wrap = wrap and output.on_terminal and os.environ.get("TERM") != "dumb" and columns(sys.stdout) > 0
        self._rows = wrapping.Rows(lambda: columns(sys.stdout)) if wrap else None
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


def rank_colours() -> Callable[[str, int | None], str]:
    """Colours a text by the rank of its token, as GLTR does: green to 10, yellow to 100, red to 1000, magenta beyond;
    not where stdout is no terminal, or escapes are unwelcome."""
    wanted = stdout_is_terminal() or os.environ.get("FORCE_COLOR")
    codes = [_codes(color=name) if wanted else None for name in ("green", "yellow", "red", "magenta")]

    def coloured(text: str, rank: int | None) -> str:
        found = codes[sum(rank > most for most in (10, 100, 1000))] if rank else None
        return text.join(found) if found else text

    return coloured


def _codes(**style: Any) -> tuple[str, str] | None:
    """What to write before and after a text of this style on this terminal; None where escapes are unwelcome."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return None
    from rich.console import Console
    from rich.style import Style

    console = Console(file=sys.stdout)
    if not console.is_terminal or console.legacy_windows:
        return None
    before, after = Style(**style).render("\0").split("\0")
    return before, after


Update = Callable[[str, int, int], None]


@contextlib.contextmanager
def progress(*, quiet: bool) -> Iterator[Update]:
    """`update(title, done, total)` in bytes shows slow work on stderr: a bar for each title on a terminal; elsewhere a
    line; nothing when quiet. What is done before it is begun is not shown."""
    if quiet:
        yield lambda title, done, total: None
    elif sys.stderr and sys.stderr.isatty():
        with contextlib.ExitStack() as stack:
            yield _bars(stack)
    else:
        told: set[str] = set()

        def once(title: str, done: int, total: int) -> None:
            if title not in told and done < total:
                told.add(title)
                note(f"{title} ({total / 1e6:,.1f} MB)")

        yield once


def _bars(stack: contextlib.ExitStack) -> Update:
    """update(title, done, total), which draws; the first call imports Rich (50 ms) and starts, leaving `stack` ends."""
    tasks: dict[str, Any] = {}
    bars: Any = None

    def update(title: str, done: int, total: int) -> None:
        nonlocal bars
        if title not in tasks and done >= total:
            return
        if bars is None:
            from rich import progress as rich
            from rich.console import Console

            columns = (
                rich.TextColumn("{task.description}", markup=False),  # a folder may be called [b]
                rich.BarColumn(bar_width=None),
                rich.DownloadColumn(),
                rich.TransferSpeedColumn(),
                rich.TimeRemainingColumn(),
            )
            bars = stack.enter_context(rich.Progress(*columns, console=Console(stderr=True), transient=True))
        if title not in tasks:
            tasks[title] = bars.add_task(title, total=total)
        bars.update(tasks[title], completed=done, total=total)

    return update


def silence_stdout() -> None:
    """After a broken pipe: what Python still flushes at exit goes nowhere."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
