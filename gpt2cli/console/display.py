"""What is behind stdout and stderr: whether it is a terminal, how wide it is, which escapes it takes."""

import os
import sys
from collections.abc import Callable
from typing import Any


def stdout_is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def columns(stream: Any) -> int:
    """Of the terminal behind a stream; 0 where there is none, or it does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError, AttributeError):
        return 0


def codes(stream: Any = None, **style: Any) -> tuple[str, str] | None:
    """What to write before and after a text of this style on the terminal behind a stream, or else stdout; None where
    escapes are unwelcome."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return None
    from rich.console import Console
    from rich.style import Style

    console = Console(file=stream or sys.stdout)
    if not console.is_terminal or console.legacy_windows:
        return None
    before, after = Style(**style).render("\0").split("\0")
    return before, after


def rank_class(rank: int) -> int:
    """From 0 to 3: to 10, to 100, to 1000, beyond."""
    return sum(rank > most for most in (10, 100, 1000))


def rank_colours() -> Callable[[str, int | None], str]:
    """Colours a text by the rank of its token, as GLTR does: green to 10, yellow to 100, red to 1000, magenta beyond;
    not where stdout is no terminal, or escapes are unwelcome."""
    wanted = stdout_is_terminal() or os.environ.get("FORCE_COLOR")
    marks = [codes(color=name) if wanted else None for name in ("green", "yellow", "red", "magenta")]

    def coloured(text: str, rank: int | None) -> str:
        found = marks[rank_class(rank)] if rank else None
        return text.join(found) if found else text

    return coloured
