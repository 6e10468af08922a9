"""Servers to ask, in a thread of this process or in one of their own, and a client of plain sockets."""

import http.client
import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass

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
        """The error object, which has its four keys, always."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


class Connection(http.client.HTTPConnection):
    """To (host, port), or to the path of a Unix socket."""

    def __init__(self, address, timeout):
        self._address = address
        super().__init__("localhost", timeout=timeout)

    def connect(self):
        if isinstance(self._address, tuple):
            self.sock = socket.create_connection(self._address, self.timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(str(self._address))


class Stream:
    """An answer that comes as events: their objects, one after another. Closing it is hanging up."""

    def __init__(self, connection, response):
        self._connection, self._response = connection, response
        self.status, self.headers = response.status, response.headers
        self.done = False

    def __iter__(self):
        return self

    def __next__(self):
        while line := self._response.readline():
            if line == b"data: [DONE]\n":
                self.done = True
                break
            if line.startswith(b"data: "):
                return json.loads(line[6:])
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
def live(model, *, rows=4, waiting=64, seconds=60.0, rules=Rules(), aliases=(), opened=True):  # noqa: B008
    """A server in a thread; yields it and a client. What it logs is in `server.events`."""
    events = []
    server = Server(rules, events.append, aliases)
    server.events = events
    if opened:
        server.open(model, Capacity(rows, waiting, seconds))
    sockets = run.listen("127.0.0.1", 0)
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


def merged(events):
    """The choices that a stream's events add up to, by index, as a whole answer has them."""
    choices = {}
    for event in events:
        for delta in event["choices"]:
            mine = choices.setdefault(delta["index"], {"text": "", "logprobs": None, "token_ids": []})
            mine["text"] += delta["text"]
            mine["token_ids"] += delta.get("token_ids", [])
            if delta["logprobs"] is not None:
                mine["logprobs"] = mine["logprobs"] or {name: [] for name in delta["logprobs"]}
                for name, values in delta["logprobs"].items():
                    mine["logprobs"][name] += values
            assert "finish_reason" not in mine, "a delta after the last one"
            if delta["finish_reason"]:
                mine["finish_reason"] = delta["finish_reason"]
    return [choices[index] for index in sorted(choices)]
