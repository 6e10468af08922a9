"""Signals in the main thread: SIGINT as KeyboardInterrupt, those that ask to leave as Terminated, and times when they
wait.

Not in the middle of an import: what is raised there, a library may turn into an error of its own, or drop. Destructors
and the callbacks of weak references drop it too, and the garbage collector may run them anywhere: Python tells, and the
signal comes again."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from gpt2cli.errors import Terminated

Handler = Callable[[int, FrameType | None], Any]

# kill; the terminal is closed (Windows calls that SIGBREAK); a limit of CPU time, before the one that kills. SIGQUIT is
# not among them: it is for those who want an end at any price.
_NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK", "SIGXCPU")
HANGUP = getattr(signal, "SIGHUP", 1)
_LEAVING = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_AGAIN = 0.01  # seconds; then what is in the way may be done


def listen() -> None:
    """From now on. What is ignored stays so: SIGINT in a shell's background, SIGHUP under nohup."""
    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        for number in (signal.SIGINT, *_LEAVING):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, _stop)
        sys.unraisablehook = _dropped


def _stop(number: int, frame: FrameType | None) -> None:
    if _put_off(number, frame):
        return
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    leave_undisturbed()
    raise Terminated(number)


def leave_undisturbed() -> None:
    """From now on nobody is asked to leave again: what is tidied up or saved meanwhile is not interrupted."""
    for number in _LEAVING:
        signal.signal(number, signal.SIG_IGN)


def leaving() -> list[int]:
    """The signals that ask to leave, without those that are ignored."""
    return [number for number in _LEAVING if signal.getsignal(number) is not signal.SIG_IGN]


def _put_off(number: int, frame: FrameType | None) -> bool:
    """Whether what is raised now would go no further; then the signal comes again."""
    while frame is not None:
        code = frame.f_code
        # prompt_toolkit's has a bare `except:`, and every text that is written passes it
        if code.co_filename == "<frozen importlib._bootstrap>" or code.co_name == "_blocking_io":
            return _repeat(number)
        frame = frame.f_back
    return False


def _dropped(unraisable: "sys.UnraisableHookArgs") -> None:
    """Called with what was raised where nobody can catch it."""
    reason, number = unraisable.exc_value, 0
    if isinstance(reason, KeyboardInterrupt):
        number = int(signal.SIGINT)
    elif isinstance(reason, Terminated):
        number = reason.number
    if number and _repeat(number):
        signal.signal(number, _stop)  # which it was until it was raised
    else:
        sys.__unraisablehook__(unraisable)


def _repeat(number: int) -> bool:
    """Let the signal come again, soon; False where that cannot be."""
    if not hasattr(signal, "setitimer"):  # Windows
        return False
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
    signal.setitimer(signal.ITIMER_REAL, _AGAIN)
    return True


@contextlib.contextmanager
def handled(handler: Handler | signal.Handlers, *numbers: int) -> Iterator[None]:
    """While this lasts the signals go to `handler`."""
    before = [(number, signal.getsignal(number)) for number in numbers]
    try:
        for number in numbers:
            signal.signal(number, handler)
        yield
    finally:
        for number, previous in before:
            signal.signal(number, previous)


@contextlib.contextmanager
def once() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt the first time. Whoever presses it again finds the work being put away."""

    def handle(number: int, frame: FrameType | None) -> None:
        if not _put_off(number, frame):
            signal.signal(number, signal.SIG_IGN)
            raise KeyboardInterrupt

    with handled(handle, signal.SIGINT):
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # raised from here on, it would leave `handle` in place


def undisturbed() -> contextlib.AbstractContextManager[None]:
    """No signal that can be ignored is heard."""
    return handled(signal.SIG_IGN, signal.SIGINT, *_LEAVING)
