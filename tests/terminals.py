"""A real `gpt2` process in a pseudo-terminal, whose screen a terminal emulator (pyte) keeps."""

import codecs
import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyte
from nursery import nursery

PATIENCE = 30  # seconds, on a busy machine


class Terminal:
    """`type` keys, `wait` until something stands on the screen."""

    def __init__(
        self, *argv, columns=80, rows=24, term="xterm-256color", cwd=None, shell=None, answers=True, **environment
    ):
        """`gpt2 ARGV`, or sh with the script `shell`, whose "$@" that is."""
        self.screen = pyte.HistoryScreen(columns, rows, history=1000)
        if answers:  # where the cursor is
            self.screen.write_process_input = self.type
        self._stream = pyte.Stream(self.screen)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._lines = None
        self.main, side = pty.openpty()
        self.raw = b""
        self._size(side, columns, rows)
        variables = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
        variables |= {"TERM": term} | environment
        words = [*map(str, argv)]
        if shell or any(name.startswith(("LC_", "LANG", "PYTHON", "HF_HUB", "ORT_")) for name in environment):
            self.process = subprocess.Popen(
                [*(["sh", "-c", shell, "sh"] if shell else []), sys.executable, "-m", "gpt2cli", *words],
                stdin=side,
                stdout=side,
                stderr=side,
                cwd=cwd,
                env=variables,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C and resizing are signals
            )
        else:
            self.process = nursery().start(words, side, str(cwd or Path.cwd()), variables)
        os.close(side)

    def _size(self, number, columns, rows):
        fcntl.ioctl(number, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns, rows):
        self.screen.resize(rows, columns)
        self._lines = None
        self._size(self.main, columns, rows)

    def type(self, keys):
        os.write(self.main, keys.encode())

    @property
    def lines(self):
        """Everything that has been shown, scrolled out or not, right ends stripped."""
        if self._lines is None:  # since the screen has changed
            width = self.screen.columns
            past = ["".join(line[place].data for place in range(width)) for line in self.screen.history.top]
            self._lines = [line.rstrip() for line in [*past, *self.screen.display]]
        return list(self._lines)

    def wait(self, condition, what=""):
        """Until condition(self), or until a text stands on the screen; returns the lines."""
        met = condition if callable(condition) else lambda _: any(condition in line for line in self.lines)
        end = time.monotonic() + PATIENCE
        while not met(self):
            assert time.monotonic() < end, f"{what or condition!r} never came:\n" + "\n".join(self.lines)
            if not self._read() and self.process.poll() is not None:
                assert met(self), f"{what or condition!r} never came:\n" + "\n".join(self.lines)
        return self.lines

    def _read(self):
        if not select.select([self.main], [], [], 0.05)[0]:
            return False
        try:
            data = os.read(self.main, 65536)
        except OSError:  # Linux says so where nobody holds the other side any more
            return False
        self.raw += data
        self._stream.feed(self._decoder.decode(data))
        self._lines = None
        return bool(data)

    def exit_code(self):
        """When it has left, as a shell says it; what it still wrote is on the screen."""
        self.wait(lambda terminal: terminal.process.poll() is not None, "the end")
        while self._read():
            pass
        code = self.process.returncode
        return code if code >= 0 else 128 - code

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.main)
