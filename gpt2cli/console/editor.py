"""The user's text editor."""

import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

from gpt2cli.console.signals import handled
from gpt2cli.errors import UsageError


def run(path: Path) -> None:
    """Open a file in $VISUAL, $EDITOR or an editor that is there, and wait for its end. Raises UsageError."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    editor = editor or next(filter(shutil.which, ("nano", "vi", "notepad")), None)
    if editor is None:
        raise UsageError("there is no editor", f"set EDITOR to the name of one, or open {path}")
    try:
        windows = os.name == "nt"  # where a command line is one text
        command = f'{editor} "{path}"' if windows else [*shlex.split(editor), str(path)]
        with handled(lambda *_: None, signal.SIGINT):  # Ctrl-C is the editor's
            code = subprocess.run(command).returncode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"the editor '{editor}': {reason}", f"set EDITOR, or open {path}") from None
    if code:
        raise UsageError(f"the editor '{editor}' ended with {code}", f"set EDITOR, or open {path}")
