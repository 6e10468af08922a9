"""A server among the careless and the hostile: nothing is left of them, and nobody else notices."""

import contextlib
import json
import os
import random
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from servers import awaited, idle

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

NORMAL = {"prompt": "The old man", "max_tokens": 6, "seed": 1}
POOL = min(32, (os.cpu_count() or 1) + 4)  # threads at most that asyncio keeps for what blocks
HEAD = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BROKEN = [
    b"{",
    b'{"prompt": "\\ud800"}',
    b'{"prompt": "\xed\xa0\x80"}',
    b"[" * 100_000,
    b'{"temperature": 1e999}',
    b'{"max_tokens": ' + b"9" * 4000 + b"}",
    b'{"prompt": [[[[1]]]]}',
    b'{"prompt": ["x", 5]}',
    b'{"n": 1e9}',
    b"\x00\xff",
    b'{"prompt": "' + b"x" * (10 << 20) + b'"}',
]


def use(pid):
    """Threads, open files and megabytes of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return int(status["Threads"]), files, int(status["VmRSS"].split()[0]) >> 10


class Crowd:
    """Clients of all kinds, each drawn at random."""

    def __init__(self, client, seed):
        self.client, self.random = client, random.Random(seed)
        self.found = []  # status and body of what was answered
        self.open = []

    def raw(self, data, *, keep=False):
        one = socket.create_connection(self.client.address, 60)
        with contextlib.suppress(OSError):
            one.sendall(data)
        if keep:
            self.open.append(one)
        else:
            with contextlib.suppress(OSError):
                one.recv(100)
            one.close()

    def visit(self):
        kinds = [self.normal] * 6 + [self.leaves_stream, self.leaves_early] * 3
        kinds += [self.broken, self.floods, self.garbage, self.half_open, self.half_a_body, self.wrong_key]
        self.random.choice(kinds)()

    def normal(self):
        found = self.client.post(**NORMAL)
        self.found.append((found.status, found.json["choices"][0]["text"]))

    def leaves_stream(self):
        fields = {"prompt": "Once", "max_tokens": 40, "n": self.random.choice([1, 1, 3]), "ignore_eos": True}
        stream = self.client.stream(**fields, **self.random.choice([{}, {"echo": True, "logprobs": 5}]))
        for _ in range(self.random.randrange(12)):
            next(stream)
        stream.close()

    def leaves_early(self):
        body = json.dumps({"prompt": ["Once", "upon a"], "max_tokens": 60, "n": 2}).encode()
        one = socket.create_connection(self.client.address, 60)
        one.sendall(f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(self.random.random() / 10)
        one.close()

    def broken(self):
        with contextlib.suppress(OSError):  # of too large a body not all is read
            found = self.client.ask("/v1/completions", self.random.choice(BROKEN))
            self.found.append((found.status, None))

    def floods(self):
        many = "".join(f"x-{number}: {'y' * 100}\r\n" for number in range(2000))
        self.raw(f"GET /version HTTP/1.1\r\nHost: localhost\r\n{many}\r\n".encode())

    def garbage(self):
        self.raw(self.random.randbytes(500) + b"\r\n\r\n")

    def half_open(self):
        self.raw(HEAD[: self.random.randrange(len(HEAD))].encode(), keep=True)

    def half_a_body(self):
        self.raw(f"{HEAD}Content-Length: 1000\r\n\r\n{{".encode(), keep=True)

    def wrong_key(self):
        assert self.client.ask("/version", Authorization="Bearer wrong").status == 200  # none is asked for


def crowded(client, visits, seed, threads=12):
    """What a crowd was answered."""
    crowd = [Crowd(client, seed * 100 + number) for number in range(threads)]
    errors = []

    def work(one):
        try:
            for _ in range(visits // threads):
                one.visit()
        except Exception as error:
            errors.append(error)

    running = [threading.Thread(target=work, args=(one,)) for one in crowd]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    for one in crowd:
        for connection in one.open:
            connection.close()
    assert not errors
    return [answer for one in crowd for answer in one.found]


@pytest.mark.parametrize("visits", [96, pytest.param(1000, marks=pytest.mark.slow)])
def test_all_is_where_it_was(serve, visits):
    server = serve("--parallel", 4, "--log-format", "json")
    rest = []
    reader = threading.Thread(target=lambda: rest.extend(server.popen.stderr))  # or the pipe is full
    reader.start()
    client = server.client
    expected = client.text(**NORMAL)
    crowded(client, 60, 1)  # what is made once is made
    awaited(lambda: idle(client))
    threads, files, megabytes = use(server.popen.pid)
    found = crowded(client, visits, 2)
    awaited(lambda: idle(client))
    assert {text for status, text in found if status == 200} == {expected}
    assert {status for status, _ in found} <= {200, 400, 413}
    awaited(lambda: use(server.popen.pid)[1] <= files)
    now = use(server.popen.pid)
    assert now[0] <= threads + POOL
    assert now[2] <= megabytes + 60
    statuses = [name for name in client.metrics() if name.startswith("gpt2_requests_total")]
    assert not [name for name in statuses if 'status="5' in name]
    server.popen.terminate()
    assert server.popen.wait(60) == 0
    reader.join()
    for line in rest:
        assert json.loads(line).get("status", 0) < 500
    assert not [line for line in rest if b"Traceback" in line or b"Error" in line]
