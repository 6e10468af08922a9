"""Every failure a user can cause, as one exception that carries its words. Imports nothing.

    UserError            message, hint, exit code
    ├── UsageError       2   contradictory or impossible options
    ├── UnknownModel     3   no such model, or not on this machine
    ├── NetworkError     4   the hub, or the way to it
    │   └── Unreachable  4   no answer at all
    ├── CorruptFile      5   a checkpoint, export or tokenizer that cannot be what it claims
    ├── CannotMeet       6   the prompt or a constraint cannot be met
    ├── StorageError     7   a cache or output file that cannot be written
    │   └── Homeless     7   no folder of the user's, and no variable that names another
    └── SomeFailed       9   some of many were wrong, the others are done

They are raised where the mistake is understood, and become words in `cli.main`; or in the command itself, where it goes
on with what else was named.
"""

EXIT_ABOVE = 8  # gpt2 score --fail-above: no failure, an answer
EXIT_DIFFERS = 10  # gpt2 replay: the text is another one
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class UserError(Exception):
    """`message` names the user's own value, `hint` the command or change that mends it."""

    exit_code = 1

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def named(self, name: str) -> str:
        """The message, which names what it is about where several things are under way."""
        return self.message if f"'{name}'" in self.message else f"{name}: {self.message}"


class UsageError(UserError):
    exit_code = 2


class UnknownModel(UserError):
    exit_code = 3


class NetworkError(UserError):
    exit_code = 4


class Unreachable(NetworkError):
    """Nobody answered: no network, no such host, refused, silent."""


class CorruptFile(UserError):
    exit_code = 5


class CannotMeet(UserError):
    exit_code = 6


class StorageError(UserError):
    exit_code = 7


class Homeless(StorageError):
    """Where something of the user's would lie nobody can say: whoever only looks finds nothing there."""


class SomeFailed(UserError):
    exit_code = 9


class Terminated(BaseException):
    """SIGTERM arrived, or another signal that asks to leave. Like KeyboardInterrupt, it passes every
    `except Exception`."""

    def __init__(self, number: int = 15) -> None:
        super().__init__(number)
        self.number = number
        self.exit_code = 128 + number


class BrokenPipe(BaseException):
    """Whoever read our stdout has gone: leave silently. No OSError, which Typer would turn into exit 1."""
