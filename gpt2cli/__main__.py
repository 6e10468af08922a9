"""The entry point: `gpt2`, and `python -m gpt2cli`."""

import contextlib
import os
import signal
import sys

from gpt2cli.errors import EXIT_INTERRUPTED, Terminated


def main() -> int:
    """Run the command line on sys.argv; returns the exit code, or leaves with it."""
    _hold_streams()
    try:
        from gpt2cli.console import signals as listening  # a signal during the imports is no traceback either

        listening.listen()
        from gpt2cli import cli, paths
        from gpt2cli.console import options

        paths.settle_home()
        options.kept = []
        code = cli.main(sys.argv[1:])
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Terminated as leaving:
        code = leaving.exit_code
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a terminal that is closed, or no stream at all
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):  # a full disk as well
        if code == 0:
            return code
    if code == EXIT_INTERRUPTED and os.name == "posix":
        # a shell says 130 of both, but a loop ends only with a command that the signal ended
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    # taking the interpreter down, object by object, takes 30 ms for which the shell would wait
    os._exit(code)


def _hold_streams() -> None:
    """Where stdin, stdout or stderr is closed, nothing opened later takes its place: native libraries write there."""
    with contextlib.suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(number)


if __name__ == "__main__":
    sys.exit(main())
