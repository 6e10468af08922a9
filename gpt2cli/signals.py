"""Signals in the main thread: SIGINT and SIGTERM as KeyboardInterrupt and Terminated, and times when they wait.

Not in the middle of an import: what is raised there, a library may turn into an error of its own, or drop."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from gpt2cli.errors import Terminated

Handler = Callable[[int, FrameType | None], Any]

LEAVING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_AGAIN = 0.01  # seconds; then the import may be done


def listen() -> None:
    """From now on. A SIGINT that is ignored, as in a shell's background, stays so."""
    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        signal.signal(signal.SIGTERM, _stop)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    if _importing(frame) and hasattr(signal, "setitimer"):  # Windows has none
        signal.signal(signal.SIGALRM, lambda _, frame: _stop(number, frame))
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        return
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    leave_undisturbed()
    raise Terminated


def leave_undisturbed() -> None:
    """From now on nobody is asked to leave again: what is tidied up or saved meanwhile is not interrupted."""
    for number in LEAVING:
        signal.signal(number, signal.SIG_IGN)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


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
