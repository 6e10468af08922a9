"""A bar on stderr for work that writes rows meanwhile: it comes where none was written for a while, and makes way for
the next. Downloads and exports, which write nothing, have terminal.progress."""

import contextlib
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable
from typing import Any

_PAUSE = 0.1  # seconds between two looks


class Bar:
    """A context manager. Shows nothing where stderr is no terminal, or `quiet` is asked for; nor before so many seconds
    without a row, `patience`, have passed."""

    def __init__(self, *, quiet: bool, patience: float = 0.5) -> None:
        self._wanted = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._patience = patience
        self._next = time.monotonic() + patience
        self._shown: Any = None

    def update(self, title: str, done: int, total: int | None, told: Callable[[], str] | None = None) -> None:
        """How far the work has come, None for a `total` that nobody knows; behind the bar stands what is `told`, or
        else these two."""
        now = time.monotonic()
        if not self._wanted or now < self._next:
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
        self._wanted = False


def _made() -> Any:
    from rich import progress as rich  # 50 ms that quick work does not pay
    from rich.console import Console

    # terminals write ^C where the cursor is, behind the bar: a line that was full could not be erased then
    bars = rich.Progress(
        rich.TextColumn("{task.description}", markup=False),  # a file may be called [b]
        rich.BarColumn(bar_width=None),
        rich.TextColumn("{task.fields[told]}"),
        console=Console(stderr=True, width=max(1, shutil.get_terminal_size().columns - len("^C") - 1)),
        transient=True,
        redirect_stdout=False,  # what is written hides the bar first
        redirect_stderr=False,
    )
    bars.add_task("", total=None, told="")
    return bars


def time_left(seconds: float, done: int, total: int | None) -> str:
    """What stands behind a bar: nothing where it cannot be known."""
    if not total or not 0 < done < total:
        return ""
    minutes, left = divmod(round(seconds * (total - done) / done), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02} left" if hours else f"{minutes}:{left:02} left"
