"""The entry point: `gpt2`, and `python -m gpt2cli`."""

import sys


def main() -> int:
    """Run the command line on sys.argv; returns the exit code."""
    try:
        from gpt2cli import cli  # Ctrl-C during the imports is no traceback either

        return cli.main(sys.argv[1:])
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
