"""Processes that run `gpt2` in a terminal, forked from one that has imported what they need: that is most of what a
start costs, and not what is tested. Where a test starts a shell, or sets what Python reads when it begins, it gets a
fresh interpreter instead."""

import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import termios
import time

IMPORTS = ("gpt2cli.cli", "gpt2cli.commands.repl", "gpt2cli.repl.loop", "gpt2cli.repl.lineeditor", "gpt2cli.model")


class Process:
    """As subprocess.Popen, as far as terminals need it."""

    def __init__(self, nursery, pid):
        self._nursery, self.pid, self.returncode = nursery, pid, None

    def poll(self):
        if self.returncode is None:
            code = self._nursery.code(self.pid)
            self.returncode = code if code is None or code >= 0 else 128 - code  # what a shell says
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout=60):
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("gpt2", timeout)
            time.sleep(0.005)
        return self.returncode


class Nursery:
    """The process that forks the others, seen from here."""

    def __init__(self):
        self._channel, other = socket.socketpair()
        code = f"import sys; sys.path[:0] = {sys.path!r}; import nursery; nursery.serve({other.fileno()})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[other.fileno()], stdin=subprocess.DEVNULL
        )
        other.close()
        atexit.register(self._end)
        self._codes, self._held = {}, b""

    def _end(self):
        self._channel.close()
        self._process.wait()

    def start(self, argv, side, cwd, environment):
        """`gpt2 ARGV` in a session of its own, whose terminal is `side`."""
        asked = {"argv": argv, "cwd": cwd, "environment": environment}
        socket.send_fds(self._channel, [json.dumps(asked).encode() + b"\n"], [side])
        while "started" not in self._codes:
            self._read(block=True)
        return Process(self, self._codes.pop("started"))

    def code(self, pid):
        self._read()
        return self._codes.get(pid)

    def _read(self, *, block=False):
        while block or select.select([self._channel], [], [], 0)[0]:
            block = False
            data = self._channel.recv(65536)
            assert data, "the process that forks the others has ended"
            *lines, self._held = (self._held + data).split(b"\n")
            self._codes |= {key if key == "started" else int(key): code for key, code in map(json.loads, lines)}


nursery = functools.cache(Nursery)


def serve(number):
    """Fork what is asked for, and tell how it ends, until nobody is there."""
    for name in IMPORTS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    with socket.socket(fileno=number) as channel:
        while True:
            ready = select.select([channel, awake], [], [])[0]
            if awake in ready:
                os.read(awake, 4096)
                _reap(channel)
            if channel in ready:
                data, sides, *_ = socket.recv_fds(channel, 1 << 20, 1)
                if not data:
                    return
                while not data.endswith(b"\n"):
                    data += channel.recv(1 << 20)
                pid = os.fork()
                if pid == 0:
                    _become(json.loads(data), sides[0])
                os.close(sides[0])
                _tell(channel, "started", pid)


def _tell(channel, key, code):
    channel.sendall(json.dumps([key, code]).encode() + b"\n")


def _reap(channel):
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            _tell(channel, found[0], os.waitstatus_to_exitcode(found[1]))


def _become(asked, side):
    """What a fresh interpreter would do: a session, the streams, the environment, the program."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        for stream in (0, 1, 2):
            os.dup2(side, stream)
        os.closerange(3, 256)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["cwd"])
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            before = getattr(sys, name)  # as Python has settled by the locale
            how = {"encoding": before.encoding, "errors": before.errors, "closefd": False}
            stream = os.fdopen(number, "w" if number else "r", buffering=1 if number else -1, **how)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        sys.argv = ["gpt2", *asked["argv"]]
        from gpt2cli.__main__ import main

        code = main()
    finally:
        os._exit(code)
