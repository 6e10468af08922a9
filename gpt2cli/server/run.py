"""The server's life: its sockets, its loop, and its end."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import stat
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gpt2cli.errors import EXIT_INTERRUPTED, StorageError, UsageError
from gpt2cli.server.app import Server
from gpt2cli.server.gate import Log

_GRACE_SECONDS = 4  # for answers that have been told to end
_HEAD_SECONDS = 20  # for a connection to ask for something


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets for every address of the host; port 0 is a free one. Raises UsageError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as problem:
        raise UsageError(f"cannot listen on '{host}': {problem.strerror or problem}", "use --host 127.0.0.1") from None
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        free = port or (sockets[0].getsockname()[1] if sockets else 0)
        try:
            sockets.append(_listening(family, (address[0], free, *address[2:])))
        except OSError as problem:
            failure = problem
            if port and problem.errno == errno.EADDRINUSE:  # half of those who ask for the host would find another
                while sockets:
                    sockets.pop().close()
                break
    if failure and not sockets:  # else it is an address family that this machine does not have
        why = "it is taken" if failure.errno == errno.EADDRINUSE else failure.strerror or str(failure)
        elsewhere = failure.errno == errno.EADDRNOTAVAIL
        hint = "use --host 127.0.0.1" if elsewhere else "choose another --port; 0 is any free one"
        raise UsageError(f"cannot listen on {host}:{port}: {why}", hint)
    return sockets


def _listening(family: int, address: tuple[Any, ...]) -> socket.socket:
    """Raises OSError."""
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
        one.listen(512)
    except OSError:
        one.close()
        raise
    return one


def listen_locally(path: Path) -> list[socket.socket]:
    """A Unix socket that only this user may use; one that a dead server left behind is replaced. Raises UserError."""
    if not hasattr(socket, "AF_UNIX"):
        raise UsageError("this system has no Unix sockets", "leave out --socket")
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            try:
                one.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                one.close()
                raise UsageError(f"another server listens on '{path}'", "choose another --socket")
            one.close()
            one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            one.bind(str(path))
        finally:
            os.umask(before)
        one.listen(512)
    except OSError as problem:
        one.close()
        raise StorageError(
            f"cannot make the socket '{path}': {problem.strerror or problem}", "choose another path"
        ) from None
    return [one]


class _Patient(H11Protocol):
    """Closes a connection on which nobody asks for anything. Requests find in their state how to end theirs at once."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app_state = self.app_state | {"abort": transport.abort}
        self.loop.call_later(_HEAD_SECONDS, self._ask)

    def _ask(self, before: object = None) -> None:
        """Looks now and then: whoever has asked for nothing since the last look, which saw this request done, goes."""
        cycle = getattr(self, "cycle", None)
        done = cycle is None or cycle.response_complete
        if done and cycle is before:
            self.transport.close()
        elif not self.transport.is_closing():
            self.loop.call_later(_HEAD_SECONDS, self._ask, cycle if done else self)


class _Told(logging.Handler):
    """What uvicorn has to say is a line of our log. Of an error its place is told, not its words: they may be a
    client's."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        words = record.getMessage().strip()
        if record.exc_info and (error := record.exc_info[1]):
            place = traceback.extract_tb(error.__traceback__)[-1]
            words = f"{words}: {type(error).__name__} in {place.filename}, line {place.lineno}"
        self._log({"note": words})


class _Uvicorn(uvicorn.Server):
    """Uvicorn, with signals that are ours: Ctrl-C ends what is under way, and leaves at once when it is pressed again;
    SIGTERM lets it finish."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._ours = server
        self.exit_code = 0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        numbers = [
            getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
        ]
        numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self.exit_code:
                os._exit(EXIT_INTERRUPTED)
            self.exit_code = EXIT_INTERRUPTED
            logging.getLogger("uvicorn.error").disabled = True  # what is cut off now is nobody's mistake
            self.config.timeout_graceful_shutdown = _GRACE_SECONDS
            asyncio.get_running_loop().call_soon_threadsafe(self._ours.stop)
        self._ours.draining = self.should_exit = True


def config(server: Server) -> uvicorn.Config:
    return uvicorn.Config(
        server.app,
        http=_Patient,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=512,
        timeout_keep_alive=30,
    )


def run(server: Server, sockets: list[socket.socket], load: Callable[[], None]) -> int:
    """Serve until a signal comes; returns the exit code. `load` opens the model, in a thread, while the server says
    that it is not ready yet. Raises what `load` raises."""
    running = _Uvicorn(config(server), server)
    logging.getLogger("uvicorn.error").handlers[:] = [_Told(server.log)]
    failure: list[BaseException] = []

    def loading() -> None:
        try:
            load()
        except BaseException as error:
            failure.append(error)
            running.should_exit = True

    threading.Thread(target=loading, name="loading", daemon=True).start()
    running.run(sockets)
    if failure:
        raise failure[0]
    return running.exit_code
