"""Signals, while something is done that they must not tear in two. In the main thread."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]

LEAVING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextlib.contextmanager
def handled(handler: Handler | signal.Handlers, *numbers: int) -> Iterator[None]:
    """While this lasts the signals go to `handler`."""
    before = [(number, signal.signal(number, handler)) for number in numbers]
    try:
        yield
    finally:
        for number, previous in before:
            signal.signal(number, previous)


@contextlib.contextmanager
def once() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt the first time. Whoever presses it again finds the work being put away."""
    pressed = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if not pressed:
            pressed = True
            raise KeyboardInterrupt

    with handled(handle, signal.SIGINT):
        yield


def undisturbed() -> contextlib.AbstractContextManager[None]:
    """No signal that can be ignored is heard."""
    return handled(signal.SIG_IGN, signal.SIGINT, *LEAVING)
