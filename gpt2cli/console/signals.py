"""Signals in the main thread: SIGINT as KeyboardInterrupt, those that ask to leave as Terminated, and times when they
wait.

Not in the middle of an import: what is raised there, a library may turn into an error of its own, or drop."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

from gpt2cli.errors import Terminated

Handler = Callable[[int, FrameType | None], Any]

# kill; the terminal is closed (Windows calls that SIGBREAK); a limit of CPU time, before the one that kills. SIGQUIT is
# not among them: it is for those who want an end at any price.
_NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK", "SIGXCPU")
HANGUP = getattr(signal, "SIGHUP", 1)
_LEAVING = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_AGAIN = 0.01  # seconds; then the import may be done


def listen() -> None:
    """From now on. What is ignored stays so: SIGINT in a shell's background, SIGHUP under nohup."""
    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        for number in (signal.SIGINT, *_LEAVING):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, _stop)


_raised = 0  # the signal for which a handler has raised last


def _raise(number: int) -> NoReturn:
    global _raised
    _raised = number
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


@contextlib.contextmanager
def undropped() -> Iterator[None]:
    """What a signal raises while this lasts comes out of it, even if the library at work there has dropped it."""
    global _raised
    _raised = 0
    yield
    if _raised:
        _raise(_raised)


def _stop(number: int, frame: FrameType | None) -> None:
    if _importing(frame) and hasattr(signal, "setitimer"):  # Windows has none
        signal.signal(signal.SIGALRM, lambda _, frame: _stop(number, frame))
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        return
    if number != signal.SIGINT:
        leave_undisturbed()
    _raise(number)


def leave_undisturbed() -> None:
    """From now on nobody is asked to leave again: what is tidied up or saved meanwhile is not interrupted."""
    for number in _LEAVING:
        signal.signal(number, signal.SIG_IGN)


def leaving() -> list[int]:
    """The signals that ask to leave, without those that are ignored."""
    return [number for number in _LEAVING if signal.getsignal(number) is not signal.SIG_IGN]


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
            _raise(number)

    with handled(handle, signal.SIGINT):
        try:
            yield
        finally:
            pressed = True  # the work is done; an exception would leave this handler in place


def undisturbed() -> contextlib.AbstractContextManager[None]:
    """No signal that can be ignored is heard."""
    return handled(signal.SIG_IGN, signal.SIGINT, *_LEAVING)
