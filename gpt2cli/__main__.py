"""The entry point: `gpt2`, and `python -m gpt2cli`."""

import os
import sys


def main() -> int:
    """Run the command line on sys.argv; returns the exit code, or leaves with it."""
    try:
        from gpt2cli import cli  # Ctrl-C during the imports is no traceback either

        code = cli.main(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # a full disk, or no stream at all
        return code
    # taking the interpreter and a session down, object by object, takes 50 ms for which the shell would wait
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
