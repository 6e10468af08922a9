"""The terminal's modes between two lines: keys that are typed while text streams wait, unseen.

Kept so, Ctrl-D and Enter come through as they were typed; a terminal that collects lines by itself would eat them."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from gpt2cli.console.signals import handled


@contextlib.contextmanager
def restored() -> Iterator[list[Any] | None]:
    """The terminal's attributes, restored afterwards; None where there are no such (Windows)."""
    try:
        import termios

        number = sys.stdin.fileno()
        before = termios.tcgetattr(number)
    except (ImportError, OSError, ValueError):
        yield None
        return
    try:
        yield [*before[:6], [*before[6]]]
    finally:
        apply(before)


def apply(attributes: list[Any] | None) -> None:
    if attributes is not None:
        import termios

        with contextlib.suppress(termios.error):  # a terminal that is gone has no modes
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, attributes)


@contextlib.contextmanager
def suspended(usual: list[Any] | None, then: list[Any] | None) -> Iterator[None]:
    """While this lasts, Ctrl-Z gives the shell its terminal with the modes `usual`; `fg` brings back `then`."""
    if usual is None:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        apply(usual)
        with handled(signal.SIG_DFL, signal.SIGTSTP):
            os.kill(os.getpid(), signal.SIGTSTP)
        apply(then)

    with handled(stop, signal.SIGTSTP):
        yield


def held(attributes: list[Any] | None) -> list[Any] | None:
    """The same with keys neither shown nor interpreted, but for those that are signals."""
    if attributes is None:
        return None
    import termios

    held = [*attributes[:6], [*attributes[6]]]
    held[0] &= ~termios.ICRNL
    held[3] &= ~(termios.ECHO | termios.ICANON)
    held[6][termios.VMIN], held[6][termios.VTIME] = 1, 0
    return held
