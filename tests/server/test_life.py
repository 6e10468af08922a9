"""A server's life, over real sockets and signals: it loads, is full, is left, is told to go."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import sys
import threading
import time

import pytest
from conftest import assert_error
from hub import NAME
from servers import JSON, Client, Connection, Process, awaited, idle, live

from gpt2cli.errors import UsageError
from gpt2cli.server import run as run_
from gpt2cli.server.app import Capacity

ENDLESS = {"prompt": "the", "slide": True, "max_tokens": -1, "ignore_eos": True}
posix = pytest.mark.skipif(os.name != "posix", reason="signals and sockets of POSIX")


def counts(client):
    """Requests that run, and that wait."""
    metrics = client.metrics()
    return metrics["gpt2_requests_running"], metrics["gpt2_requests_waiting"]


# Loading


def test_while_the_model_is_loaded_the_server_says_so(small_model):
    with live(small_model, opened=False) as (server, client):
        found = client.ask("/health")
        assert (found.status, found.json["error"]["message"]) == (503, "Loading model")
        for found in client.post(prompt="a"), client.ask("/v1/models"), client.ask("/tokenize", {"prompt": "a"}):
            assert (found.status, found.problem["type"]) == (503, "server_error")
            assert found.headers["retry-after"]
        assert client.ask("/metrics").status == client.ask("/version").status == 200
        server.open(small_model, Capacity(1, 1, 60.0))
        assert client.ask("/health").status == 200
        assert client.post(prompt="a").status == 200


# Full


def test_a_full_queue_refuses_and_says_when_to_come_again(small_model):
    with live(small_model, rows=1, waiting=1) as (_, client):
        running = client.stream(**ENDLESS)
        next(running)
        second = []
        thread = threading.Thread(target=lambda: second.append(client.text(prompt="a", seed=1)))
        thread.start()
        awaited(lambda: client.metrics()["gpt2_requests_waiting"] == 1)
        found = client.post(prompt="b")
        assert (found.status, found.problem["code"]) == (429, "rate_limit_exceeded")
        assert int(found.headers["retry-after"]) >= 1
        assert client.metrics()["gpt2_refused_total"] == 1
        assert client.ask("/health").status == 200
        running.close()
        thread.join(60)
        assert second == [client.text(prompt="a", seed=1)]
        assert client.metrics()["gpt2_cancelled_total"] == 1


def test_without_a_queue_only_what_has_room_is_taken(small_model):
    with live(small_model, rows=2, waiting=0) as (_, client):
        first, second = client.stream(**ENDLESS), client.stream(**ENDLESS)
        next(first), next(second)
        assert client.post(prompt="a").status == 429
        second.close()
        awaited(lambda: client.metrics()["gpt2_requests_running"] == 1)
        assert client.post(prompt="a").status == 200
        first.close()


def test_nobody_is_overtaken_for_ever(small_model):
    """Four rows at once are wanted while single ones come and go."""
    with live(small_model, rows=4) as (_, client):
        running = [client.stream(**ENDLESS) for _ in range(2)]
        for one in running:
            next(one)
        wide = []
        thread = threading.Thread(target=lambda: wide.append(client.complete(prompt="a", n=4, max_tokens=3)))
        thread.start()
        awaited(lambda: client.metrics()["gpt2_requests_waiting"] == 1)
        narrow = threading.Thread(target=lambda: client.complete(prompt="b", max_tokens=3))
        narrow.start()
        awaited(lambda: client.metrics()["gpt2_requests_waiting"] == 2)
        for one in running:
            one.close()
        thread.join(60), narrow.join(60)
        assert len(wide[0]["choices"]) == 4


# Left


@pytest.mark.parametrize(
    "fields", [{}, {"n": 3}, {"prompt": ["a", "b", "c"], "n": 2, "echo": True, "logprobs": 2}], ids=str
)
def test_who_hangs_up_is_not_served_any_further(client, fields):
    before = client.metrics()["gpt2_cancelled_total"]
    stream = client.stream(**ENDLESS | fields)
    next(stream)
    stream.close()
    awaited(lambda: idle(client))
    assert client.metrics()["gpt2_cancelled_total"] == before + 1


@pytest.mark.parametrize("busy", [False, True])
def test_who_hangs_up_before_an_answer_is_not_served_any_further(client, busy):
    """Running, or still waiting for rows."""
    before = client.metrics()["gpt2_cancelled_total"]
    others = [client.stream(**ENDLESS | {"n": 2}) for _ in range(2 * busy)]
    for other in others:
        next(other)
    connection = Connection(client.address, 30)
    body = ENDLESS | {"max_tokens": 10**6, "n": 2}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    awaited(lambda: client.metrics()[f"gpt2_requests_{'waiting' if busy else 'running'}"] == 1)
    connection.close()
    awaited(lambda: client.metrics()["gpt2_cancelled_total"] == before + 1)
    for other in others:
        other.close()
    awaited(lambda: idle(client))


def test_who_leaves_is_logged(served):
    server, client = served
    server.events.clear()
    stream = client.stream(**ENDLESS)
    next(stream)
    stream.close()
    awaited(lambda: any(event.get("cancelled") for event in server.events))


def test_who_leaves_before_an_answer_is_logged_as_such(served):
    server, client = served
    server.events.clear()
    connection = Connection(client.address, 30)
    connection.request("POST", "/v1/completions", json.dumps(ENDLESS | {"max_tokens": 10**6}), JSON)
    awaited(lambda: client.metrics()["gpt2_requests_running"] == 1)
    connection.close()
    awaited(lambda: any(event.get("cancelled") and event["status"] == 499 for event in server.events))


# In time


@pytest.mark.long
def test_who_asks_for_nothing_is_not_waited_for(small_model, monkeypatch):
    """From the start, amid a head, or amid the second; who reads an answer is."""
    monkeypatch.setattr("gpt2cli.server.run._HEAD_SECONDS", 0.3)
    with live(small_model) as (_, client):
        stream = client.stream(**ENDLESS)
        next(stream)
        head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
        for sent in b"", head, head + b"\r\n", head + b"\r\n" + head:
            with socket.create_connection(client.address, 60) as one:
                one.sendall(sent)
                while one.recv(1000):
                    pass
        assert next(stream)
        stream.close()


@pytest.mark.long
def test_an_answer_that_takes_too_long_ends(small_model):
    with live(small_model, seconds=0.3) as (_, client):
        found = client.post(**ENDLESS | {"max_tokens": 10**6})
        assert (found.status, found.problem["code"]) == (408, "timeout")
        assert found.headers["x-should-retry"] == "false"
        *events, last = client.events(**ENDLESS)
        assert events
        assert last["error"]["code"] == "timeout"
        awaited(lambda: idle(client))


# The end


@posix
def test_ctrl_c_ends_open_streams_with_an_error(serve):
    server = serve()
    stream, quiet = server.client.stream(**ENDLESS), Connection(server.client.address, 60)
    quiet.connect()  # asks for nothing
    next(stream)
    server.popen.send_signal(signal.SIGINT)
    *_, last = stream
    assert last["error"]["message"] == "the server is shutting down"
    assert stream.done
    code, rest = server.stop(0)
    quiet.close()
    assert code == 130
    assert "Traceback" not in rest


@posix
@pytest.mark.long
def test_ctrl_c_answers_who_waits_for_a_whole_text(serve):
    server = serve("--parallel", 1)
    found = []
    body = ENDLESS | {"max_tokens": 10**6}
    threads = [threading.Thread(target=lambda: found.append(server.client.post(**body))) for _ in range(3)]
    for thread in threads:
        thread.start()
    awaited(lambda: counts(server.client) == (1, 2))
    server.popen.send_signal(signal.SIGINT)
    for thread in threads:
        thread.join(60)
    assert [(one.status, one.problem["message"]) for one in found] == [(503, "the server is shutting down")] * 3
    assert {one.headers["x-should-retry"] for one in found} == {"false"}
    assert server.stop(0)[0] == 130


def stuck(client):
    """A stream whose reader has stopped reading, when the server has noticed."""
    connection = socket.create_connection(client.address)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    body = json.dumps(ENDLESS | {"stream": True, "n": 4, "logprobs": 290}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
    before = -1
    while (now := client.metrics()["gpt2_step_rows_count"]) != before:
        before = now
        time.sleep(0.3)
    return connection


@pytest.mark.long
def test_a_reader_that_stopped_reading_is_let_go(small_model):
    """When its time has passed, with what it left unread."""
    with live(small_model, seconds=1, buffer=4096) as (server, client):
        connection = stuck(client)
        awaited(lambda: idle(client))
        awaited(lambda: any(event["path"] == "/v1/completions" for event in server.events))
        read = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(1 << 20):
                read += part
        connection.close()
        assert read
        assert b"[DONE]" not in read


@posix
@pytest.mark.long
def test_ctrl_c_waits_for_no_reader_for_ever(serve):
    server = serve()
    connection = stuck(server.client)
    code, rest = server.stop(signal.SIGINT)
    connection.close()
    assert code == 130
    assert "Traceback" not in rest


@posix
@pytest.mark.long
def test_ctrl_c_while_the_model_is_loaded(spawn, tmp_path):
    path = tmp_path / "s"
    process = spawn("serve", "--socket", path)
    awaited(path.exists)
    awaited(lambda: not refuses(Client(path), 500))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in said


@pytest.mark.long
@posix
def test_sigterm_lets_answers_finish(serve):
    server = serve()
    stream = server.client.stream(prompt="The old man", max_tokens=120, ignore_eos=True, seed=1)
    first = next(stream)
    server.popen.send_signal(signal.SIGTERM)
    others = list(stream)
    assert stream.done
    assert len([first, *others]) == 120
    assert others[-1]["choices"][0]["finish_reason"] == "length"
    code, rest = server.stop(0)
    assert (code, "Traceback" in rest) == (0, False)
    with pytest.raises(ConnectionRefusedError):
        server.client.ask("/health")


@posix
@pytest.mark.long
def test_a_second_signal_waits_for_nobody(serve):
    """SIGTERM waits for the end of a text that has none; Ctrl-C ends it."""
    server = serve()
    stream = server.client.stream(**ENDLESS)
    next(stream)
    server.popen.send_signal(signal.SIGTERM)
    awaited(lambda: refuses(server.client, 503))
    server.popen.send_signal(signal.SIGINT)
    *_, last = stream
    assert last["error"]["message"] == "the server is shutting down"
    assert server.stop(0)[0] == 130


def refuses(client, status):
    """Whether it is not to be reached, or answers so."""
    try:
        return client.ask("/health").status == status
    except OSError:
        return True


# Where it listens


def test_a_port_that_is_taken(run):
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        assert_error(run("serve", "--port", port), 2, f"cannot listen on 127.0.0.1:{port}: it is taken", "--port")


def addresses(monkeypatch, *hosts):
    """What the system says when it is asked for a name."""
    families = {host: socket.AF_INET6 if ":" in host else socket.AF_INET for host in hosts}
    rest = {socket.AF_INET: (), socket.AF_INET6: (0, 0)}
    found = [(families[host], socket.SOCK_STREAM, 6, "", (host, 0, *rest[families[host]])) for host in hosts]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_an_address_that_the_machine_does_not_have_is_passed_over(monkeypatch):
    addresses(monkeypatch, "2001:db8::1", "127.0.0.1")
    (one,) = run_.listen("localhost", 0)
    assert one.getsockname()[0] == "127.0.0.1"
    one.close()


def test_a_port_that_is_taken_on_one_of_the_addresses(monkeypatch):
    with socket.create_server(("127.0.0.2", 0)) as other:
        port = other.getsockname()[1]
        addresses(monkeypatch, "127.0.0.1", "127.0.0.2")
        with pytest.raises(UsageError, match="it is taken"):
            run_.listen("localhost", port)
        socket.create_server(("127.0.0.1", port)).close()  # nothing listens there


def test_a_host_that_is_none(run):
    assert_error(run("serve", "--host", "nobody.invalid"), 2, "nobody.invalid")


def test_a_host_that_is_another_machine(run):
    assert_error(run("serve", "--host", "192.0.2.7", "--insecure"), 2, "192.0.2.7:8080", "--host 127.0.0.1")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.7.7", "example.org"])
def test_other_machines_need_a_key(run, host):
    assert_error(run("serve", "--host", host), 2, "there is no key", "--api-key-file", "--insecure")


ORIGINS = ["", "*", "a.example", "http://a.example/", "http://a.example/page", "http://A.example", "http://*.example"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--api-key", ""], ["the API key is empty"]),
        (["--api-key-file", "missing.txt"], ["missing.txt", "a key a line"]),
        (["--log-format", "xml"], ["xml", "text or json"]),
        (["--timeout", "nan"], ["--timeout is no number"]),
        (["--alias", ""], ["--alias is empty"]),
        (["--open", "--socket", "gpt2.sock"], ["--open contradicts --socket"]),
        *((["--cors", origin], [f"'{origin}' is no origin", "https://"]) for origin in ORIGINS),
    ],
)
def test_wrong_options(run, argv, words):
    assert_error(run("serve", *argv), 2, *words)


def test_a_file_without_a_key(run, tmp_path):
    (tmp_path / "keys").write_text("\n \n")
    assert_error(run("serve", "--api-key-file", tmp_path / "keys"), 2, "holds no key")


@pytest.mark.long
def test_keys_from_a_file_and_the_environment(serve, tmp_path):
    (tmp_path / "keys").write_text("one\n\n two \n", encoding="utf-8-sig")  # as editors on Windows write it
    server = serve("--api-key-file", tmp_path / "keys", env=os.environ | {"GPT2_API_KEY": "three"})
    for key in "one", "two", "three":
        assert server.client.ask("/v1/models", Authorization=f"Bearer {key}").status == 200
    for key in "", "four", "two ,one":
        assert server.client.ask("/v1/models", Authorization=f"Bearer {key}").status == 401
    _, rest = server.stop()
    assert not re.search("one|two|three|four", rest)


@pytest.mark.long
@posix
def test_a_unix_socket(serve, run, tmp_path):
    path = tmp_path / "gpt2.sock"
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stale.bind(str(path))
    stale.close()  # a dead server's
    server = serve("--socket", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert server.client.address == path
    assert server.client.text(prompt="The", max_tokens=3, ignore_eos=True)
    assert_error(run("serve", "--socket", path), 2, f"another server listens on '{path}'")
    assert server.client.ask("/health").status == 200
    assert server.stop()[0] == 0
    assert not path.exists()


@posix
def test_a_path_that_can_be_no_socket(run, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert_error(run("serve", "--socket", tmp_path / "file"), 7, "cannot make the socket")
    assert (tmp_path / "file").read_text() == "mine"
    assert_error(run("serve", "--socket", tmp_path / "missing/one"), 7, "cannot make the socket")
    assert_error(run("serve", "--socket", tmp_path / ("x" * 200)), 7, "cannot make the socket")


# The browser


def browser(folder, name):
    """A program that writes down what it is told to open."""
    program = folder / name
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/opened\n')
    program.chmod(0o755)
    return program


@posix
@pytest.mark.long
def test_the_page_opens_in_the_browser(serve, tmp_path):
    server = serve("--open", env=os.environ | {"BROWSER": str(browser(tmp_path, "mine"))})
    awaited((tmp_path / "opened").exists)
    assert (tmp_path / "opened").read_text() == f"{server.client.url}\n"


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a browser with windows")
def test_no_browser_takes_the_terminal(serve, tmp_path):
    browser(tmp_path, "w3m")
    server = serve("--open", env={"PATH": f"{tmp_path}:/nowhere", "GPT2_CACHE": str(tmp_path / "cache")})
    said = []
    for _ in range(50):  # each request is a line at least
        server.client.ask("/health")
        said.append(server.popen.stderr.readline().decode())
    assert f"note: no browser is found: open {server.client.url} in yours\n" in said
    assert not (tmp_path / "opened").exists()


# The log


@posix
@pytest.mark.long
def test_the_log_as_json(serve):
    server = serve("--log-format", "json")
    server.client.post(prompt="a whispered prompt", max_tokens=2, dry_base=1, ignore_eos=True)
    server.client.ask("/%1b[31m%C2%9B31m/x?whispered")
    code, rest = server.stop()
    lines = [json.loads(line) for line in [*server.said, *rest.splitlines()]]
    assert code == 0
    assert [line["path"] for line in lines if "path" in line] == ["/v1/completions", "/\x1b[31m\x9b31m/x"]
    assert all("time" in line for line in lines)
    assert "whispered" not in rest


@pytest.mark.long
def test_the_log_as_text(serve):
    server = serve()
    server.client.post(prompt="a whispered prompt", max_tokens=2, ignore_eos=True)
    server.client.ask("/%1b[31m%C2%9B31m%0Anext")
    _, rest = server.stop()
    first, second = rest.splitlines()
    assert re.fullmatch(r"\S+ 127\.0\.0\.1 POST /v1/completions 200 \d+\.\d{3}s \d+\+2 tokens", first)
    assert re.fullmatch(r"\S+ 127\.0\.0\.1 GET /\\x1b\[31m\\x9b31m\\nnext 404 \d+\.\d{3}s", second)


@posix
@pytest.mark.long
def test_a_quiet_server_says_nothing(spawn, tmp_path):
    server = Process(spawn("serve", "-q", "--socket", tmp_path / "s"), Client(tmp_path / "s"), [])
    awaited(lambda: not refuses(server.client, 503))
    assert server.client.post(prompt="a", max_tokens=1).status == 200
    assert server.stop() == (0, "")


# A page on the address in use


def test_what_answers_on_the_address_is_this_server(serve):
    server = serve()
    assert server.said[-1].startswith("note: tiny (int8, cpu, ")
    assert f"answers on {server.client.url}; Ctrl-C ends" in server.said[-1]
    found = server.client.ask("/version", Origin=server.client.url, Sec_Fetch_Site="same-origin")
    assert found.status == 200
    assert server.client.post(prompt="a", max_tokens=1).status == 200


@pytest.mark.long
@pytest.mark.terminal
@posix
def test_who_ends_it_before_its_model_is_there_gets_the_cursor_back(hub, files):
    """The download is in a thread that is left behind, with its bar."""
    from terminals import Terminal

    hub.add(NAME, files)
    hub.fail("CDN", "slow", block=4000, pause=0.3)
    terminal = Terminal("serve", "-m", NAME, "--port", 0, shell='exec "$@"')
    try:
        terminal.wait("downloading")
        terminal.type("\x03")
        assert terminal.exit_code() == 130
        assert terminal.raw.count(b"\x1b[?25l") == terminal.raw.count(b"\x1b[?25h") == 1
    finally:
        terminal.close()
