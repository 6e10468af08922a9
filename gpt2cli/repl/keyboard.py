"""The terminal's modes between two lines: keys that are typed while text streams wait, unseen.

Kept so, Ctrl-D and Enter come through as they were typed; a terminal that collects lines by itself would eat them."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


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
        termios.tcsetattr(number, termios.TCSANOW, before)


def apply(attributes: list[Any] | None) -> None:
    if attributes is not None:
        import termios

        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, attributes)


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
