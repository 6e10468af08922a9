"""Where a text ends."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpt2cli.errors import CannotMeet, UsageError


@dataclass(frozen=True)
class Limits:
    """Where a text ends, and what of it stays in the window. Checked once, here; raises UsageError."""

    max_tokens: int | None = 128
    """Generated tokens at most; None goes on until the reader stops."""
    min_tokens: int = 0
    """Before so many tokens the model cannot end the text."""
    max_length: int | None = None
    """Tokens of prompt and text together at most."""
    stop: str | Sequence[str] = ()
    """A text, or several, before the first of which the text ends."""
    ignore_eos: bool = False
    """The model cannot end the text."""
    keep: int = 0
    """Beyond the window the text goes on from its first `keep` tokens (-1: the prompt) and the recent half of the
    rest."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        for name, value, least in (
            ("max_tokens", self.max_tokens, 0),
            ("min_tokens", self.min_tokens, 0),
            ("max_length", self.max_length, 1),
            ("keep", self.keep, -1),
        ):
            if value is not None and value < least:
                raise UsageError(f"`{name}` is {value}", f"`{name}` must be {least} or more")
        if "" in self.stop:
            raise UsageError("a stop string is empty", "give it some text")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise UsageError(
                f"`min_tokens` {self.min_tokens} is more than `max_tokens` {self.max_tokens}",
                "raise `max_tokens`, or lower `min_tokens`",
            )

    def tokens(self, prompt: int) -> int | None:
        """How many tokens may follow a prompt of so many; None: no matter how many. Raises CannotMeet and
        UsageError."""
        if self.max_length is None:
            return self.max_tokens
        room = self.max_length - prompt
        if room <= 0:
            raise CannotMeet(
                f"the prompt has {prompt} tokens already, `max_length` is {self.max_length}",
                f"`max_length` counts prompt and text together: use at least {prompt + 1}, or `max_tokens`",
            )
        if self.min_tokens > room:
            raise UsageError(
                f"`min_tokens` {self.min_tokens} is more than `max_length` {self.max_length} leaves",
                f"the prompt has {prompt} tokens: raise `max_length`, or lower `min_tokens`",
            )
        return room if self.max_tokens is None else min(self.max_tokens, room)

    def kept(self, prompt: int, window: int) -> int:
        """`keep` as a number of tokens. Raises CannotMeet where little would be left for the text."""
        tokens, most = prompt if self.keep == -1 else self.keep, most_kept(window)
        if tokens > most:
            what = f"`keep` -1 (the prompt's {prompt} tokens)" if self.keep == -1 else f"`keep` {self.keep}"
            raise CannotMeet(f"{what} leaves too little of the window of {window} tokens", f"keep at most {most}")
        return tokens


def most_kept(window: int) -> int:
    """Tokens of a window that may stay while a text goes on."""
    return min(window // 2, window - 1)
