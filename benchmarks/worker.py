"""A process that answers requests for work (peers/common.py), whatever library and environment it runs in."""

import json
import os
import subprocess
import sys
import tempfile
from time import perf_counter, sleep

PROMPT = [(7919 * number + 13) % 50257 for number in range(1024)]  # any tokens, the same for all


class Failed(Exception):
    """The process ended, with these last words."""


class Worker:
    def __init__(self, command: list[str], settings: dict[str, str]) -> None:
        self._words = tempfile.TemporaryFile()  # noqa: SIM115, for the life of the process
        start = perf_counter()
        self._process = subprocess.Popen(
            command,
            env=os.environ | settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            text=True,
        )
        self.versions = self._answer()["versions"]
        self.load_s = perf_counter() - start  # imports and all

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._words.seek(0)
        words = self._words.read().decode(errors="replace").strip().splitlines()
        raise Failed(" ".join(words[-2:]) or f"exit code {self._process.returncode}")

    def run(self, prompt: int, batch: int, new: int) -> dict[str, float]:
        """The seconds of "prefill" and "decode". Raises Failed."""
        sleep(0.3)  # until the threads of whoever ran before have stopped waiting in circles
        request = {"prompt": PROMPT[:prompt], "batch": batch, "new": new}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # the answer tells why
        return self._answer()

    def end(self) -> int:
        """Ends the process; returns its peak memory in bytes."""
        self._process.stdin.close()
        _, _, usage = os.wait4(self._process.pid, 0)
        return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
