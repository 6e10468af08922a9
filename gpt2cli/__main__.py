"""The entry point: `gpt2`, and `python -m gpt2cli`."""

import os
import sys

from gpt2cli.errors import EXIT_INTERRUPTED, Terminated


def main() -> int:
    """Run the command line on sys.argv; returns the exit code, or leaves with it."""
    try:
        from gpt2cli import signals  # a signal during the imports is no traceback either

        signals.listen()
        from gpt2cli import cli, paths

        paths.settle_home()

        code = cli.main(sys.argv[1:])
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Terminated as leaving:
        code = leaving.exit_code
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # a full disk, or no stream at all
        return code
    # taking the interpreter and a session down, object by object, takes 50 ms for which the shell would wait
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
