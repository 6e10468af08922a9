"""How far slow work has come, on stderr: Bar for work that writes rows meanwhile, `progress` for downloads and exports,
which write nothing."""

import contextlib
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

from gpt2cli.console import terminal

Update = Callable[[str, int, int], None]  # (title, bytes done, bytes in all)

_PAUSE = 0.1  # seconds between two looks


class Bar:
    """A context manager. The bar comes after so many seconds without a row, `patience`, and makes way for the next one;
    it does not come where stderr is no terminal, or `quiet` is asked for."""

    def __init__(self, *, quiet: bool, patience: float = 0.5) -> None:
        self.wanted = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._patience = patience
        self._next = time.monotonic() + patience
        self._shown: Any = None

    def update(self, title: str, done: int, total: int | None, told: Callable[[], str] | None = None) -> None:
        """How far the work has come, None for a `total` that nobody knows; behind the bar stands what is `told`, or
        else these two."""
        now = time.monotonic()
        if not self.wanted or now < self._next:
            return
        self._next = now + _PAUSE
        new = self._shown is None
        if new:
            self._shown = _made()
        behind = told() if told else f"{done}/{total}"
        self._shown.update(self._shown.task_ids[0], description=title, completed=done, total=total, told=behind)
        if new:
            self._shown.live.start()  # its thread draws: what interrupts this one leaves no bar half drawn

    def hide(self) -> None:
        """The line is free for something else."""
        self._next = time.monotonic() + self._patience
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.stop()

    def before(self, write: Callable[[str], None]) -> Callable[[str], None]:
        """`write` to stdout, with the bar out of its way. What goes to a file is not seen beside it."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode):
                return write

        def written(text: str) -> None:
            self.hide()
            write(text)

        return written

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()
        self.wanted = False


def _made() -> Any:
    from rich import progress as rich  # 50 ms that quick work does not pay

    # terminals write ^C where the cursor is, behind the bar: a line that was full could not be erased then
    bars = rich.Progress(
        rich.TextColumn("{task.description}", markup=False),  # a file may be called [b]
        rich.BarColumn(bar_width=None),
        rich.TextColumn("{task.fields[told]}"),
        console=_console(width=max(1, shutil.get_terminal_size().columns - len("^C") - 1)),
        transient=True,
        redirect_stdout=False,  # what is written hides the bar first
        redirect_stderr=False,
    )
    bars.add_task("", total=None, told="")
    return bars


def _console(**options: Any) -> Any:
    from rich.console import Console

    return Console(file=cast(IO[str], _Terminal()), **options)


class _Terminal:
    """stderr. That it is closed, or full, is no reason to stop the work."""

    def __init__(self) -> None:
        # beside another bar, stderr is a stream of Rich's, behind which the terminal is
        self._stream = getattr(sys.stderr, "rich_proxied_file", sys.stderr)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def time_left(seconds: float, done: int, total: int | None) -> str:
    """What stands behind a bar: nothing where it cannot be known."""
    if not total or not 0 < done < total:
        return ""
    minutes, left = divmod(round(seconds * (total - done) / done), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02} left" if hours else f"{minutes}:{left:02} left"


@contextlib.contextmanager
def progress(*, quiet: bool) -> Iterator[Update]:
    """`update(title, done, total)` in bytes shows slow work on stderr: a bar for each title on a terminal; elsewhere a
    line; nothing when quiet. What is done before it is begun is not shown."""
    if quiet:
        yield lambda title, done, total: None
    elif sys.stderr and sys.stderr.isatty():
        with contextlib.ExitStack() as stack:
            _under_way.add(stack)
            stack.callback(_under_way.discard, stack)
            yield _bars(stack)
    else:
        told: set[str] = set()

        def once(title: str, done: int, total: int) -> None:
            if title not in told and done < total:
                told.add(title)
                terminal.note(f"{title} ({total / 1e6:,.1f} MB)")

        yield once


_under_way: set[contextlib.ExitStack] = set()


def leave() -> None:
    """What threads that are left behind still show goes, and the cursor comes back."""
    for stack in list(_under_way):
        stack.close()


def _bars(stack: contextlib.ExitStack) -> Update:
    """update(title, done, total), which draws; the first call imports Rich (50 ms) and starts, leaving `stack` ends."""
    tasks: dict[str, Any] = {}
    bars: Any = None

    def update(title: str, done: int, total: int) -> None:
        nonlocal bars
        if (title not in tasks and done >= total) or stack not in _under_way:
            return
        if bars is None:
            from rich import progress as rich

            columns = (
                rich.TextColumn("{task.description}", markup=False),  # a folder may be called [b]
                rich.BarColumn(bar_width=None),
                rich.DownloadColumn(),
                rich.TransferSpeedColumn(),
                rich.TimeRemainingColumn(),
            )
            bars = stack.enter_context(rich.Progress(*columns, console=_console(), transient=True))
        if title not in tasks:
            tasks[title] = bars.add_task(title, total=total)
        bars.update(tasks[title], completed=done, total=total)

    return update
