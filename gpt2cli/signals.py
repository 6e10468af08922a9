"""SIGINT and SIGTERM, as KeyboardInterrupt and Terminated in the main thread.

Not in the middle of an import: what is raised there, a library may turn into an error of its own, or drop."""

import contextlib
import signal
from types import FrameType

from gpt2cli.errors import Terminated

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
    for name in ("SIGTERM", "SIGHUP"):  # what is tidied up or saved now is not interrupted again
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    raise Terminated


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
