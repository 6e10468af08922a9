"""Servers to ask, in a thread of this process or in one of their own, and a client of plain sockets."""

import http.client
import json
import re
import signal
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from gpt2cli.server import run
from gpt2cli.server.app import Capacity, Server
from gpt2cli.server.gate import Rules

JSON = {"Content-Type": "application/json"}


@dataclass
class Reply:
    status: int
    headers: dict[str, str]  # names in lower case
    raw: bytes

    @property
    def json(self):
        return json.loads(self.raw)

    @property
    def problem(self):
        """The error object."""
        return checked(self.json["error"])


def checked(error):
    """An error object: it has its four keys, always, and at most a hint, with which its message ends."""
    assert set(error) - {"hint"} == {"message", "type", "param", "code"}
    assert error["message"].endswith(error.get("hint", ""))
    return error


class Connection(http.client.HTTPConnection):
    """To (host, port), or to the path of a Unix socket."""

    def __init__(self, address, timeout):
        self._address = address
        host, port = address if isinstance(address, tuple) else ("localhost", None)
        super().__init__(host, port, timeout=timeout)

    def connect(self):
        if isinstance(self._address, tuple):
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._address))
        except OSError:
            self.close()
            raise


class Stream:
    """An answer that comes as events: their objects, one after another. Closing it is hanging up."""

    def __init__(self, connection, response):
        self._connection, self._response = connection, response
        self.status, self.headers = response.status, response.headers
        self.done = False

    def __iter__(self):
        return self

    def __next__(self):
        while not self.done and (line := self._response.readline()):
            if line == b"data: [DONE]\n":
                self.done = True
            elif line.startswith(b"data: "):
                return json.loads(line[6:])
        self.close()
        raise StopIteration

    def close(self):
        self._response.close()
        self._connection.close()


class Client:
    def __init__(self, address, timeout=60):
        self.address, self._timeout = address, timeout

    @property
    def url(self):
        return "http://{}:{}".format(*self.address)

    def open(self, path, body=None, method=None, **headers):
        connection = Connection(self.address, self._timeout)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(
            method or ("GET" if body is None else "POST"), path, data, ({} if body is None else JSON) | names
        )
        return connection, connection.getresponse()

    def ask(self, path, body=None, method=None, **headers):
        """`body` is JSON, or bytes as they are."""
        connection, response = self.open(path, body, method, **headers)
        found = Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        connection.close()
        return found

    def post(self, **fields):
        return self.ask("/v1/completions", fields)

    def complete(self, **fields):
        """The body of an answer that must be fine."""
        found = self.post(**fields)
        assert found.status == 200, found.raw
        return found.json

    def text(self, **fields):
        (choice,) = self.complete(**fields)["choices"]
        return choice["text"]

    def stream(self, **fields):
        stream = Stream(*self.open("/v1/completions", {"stream": True} | fields))
        assert stream.status == 200
        return stream

    def events(self, **fields):
        """All that a stream sends, to its end."""
        stream = self.stream(**fields)
        found = list(stream)
        stream.close()
        assert stream.done
        return found

    def metrics(self):
        lines = self.ask("/metrics").raw.decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


@contextmanager
def live(model, *, rows=4, waiting=64, seconds=60.0, rules=Rules(), aliases=(), opened=True, buffer=None):  # noqa: B008
    """A server in a thread: it, and a client. What it logs is in `server.events`."""
    events = []
    server = Server(rules, events.append, aliases)
    server.events = events
    if opened:
        server.open(model, Capacity(rows, waiting, seconds))
    sockets = run.listen("127.0.0.1", 0)
    if buffer:  # of the system, for what has not been read
        sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    running = uvicorn.Server(run.config(server))
    thread = threading.Thread(target=running.run, args=(sockets,), daemon=True)
    thread.start()
    try:
        yield server, Client(sockets[0].getsockname()[:2])
    finally:
        running.should_exit = running.force_exit = True
        server.stop()
        thread.join(30)
        for one in sockets:
            one.close()


@dataclass
class Process:
    """`gpt2 serve`, and what it has said on stderr until it answered."""

    popen: object
    client: Client
    said: list[str]

    @classmethod
    def answering(cls, popen):
        """Waits for its note."""
        said = []
        while True:
            said.append(popen.stderr.readline().decode())
            assert said[-1], "".join(said)
            if found := re.search(r"answers on (?:http://([^ ]+):(\d+)|(.+?)); Ctrl-C", said[-1]):
                address = Path(found[3]) if found[3] else (found[1].strip("[]"), int(found[2]))
                return cls(popen, Client(address), said)

    def stop(self, number=signal.SIGTERM):
        """Its exit code, and the rest of stderr. With 0 it goes by itself."""
        self.popen.send_signal(number)
        _, rest = self.popen.communicate(timeout=60)
        return self.popen.returncode, rest.decode()


def awaited(condition):
    """Wait until it holds."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it never came")


def idle(client):
    """Whether a server has nothing to do."""
    metrics = client.metrics()
    return all(metrics[f"gpt2_{name}"] == 0 for name in ("rows_running", "requests_running", "requests_waiting"))


def merged(events):
    """The choices that a stream's events add up to, by index, as a whole answer has them."""
    choices = {}
    for event in events:
        for delta in event["choices"]:
            mine = choices.setdefault(delta["index"], {"text": "", "logprobs": None, "token_ids": []})
            mine["text"] += delta["text"]
            mine["token_ids"] += delta.get("token_ids", [])
            mine |= {name: delta[name] for name in ("end", "stop_reason") if name in delta}
            if delta["logprobs"] is not None:
                mine["logprobs"] = mine["logprobs"] or {name: [] for name in delta["logprobs"]}
                for name, values in delta["logprobs"].items():
                    mine["logprobs"][name] += values
            assert "finish_reason" not in mine, "a delta after the last one"
            if delta["finish_reason"]:
                mine["finish_reason"] = delta["finish_reason"]
    return [choices[index] for index in sorted(choices)]
