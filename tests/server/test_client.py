"""`gpt2 generate --server`: the same command on a running server, with nothing heavy imported."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import assert_error


@pytest.fixture(scope="module")
def served():
    """The URL of a server with `tiny`."""
    command = [sys.executable, "-m", "gpt2cli", "serve", "-m", "tiny", "--port", "0", "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        found = re.search(r"answers on (\S+);", server.stderr.readline())
        yield found[1]
        server.terminate()
        server.stderr.read()


def same(run, served, *argv, stdin=None):
    """The result on the server, which is that of this process."""
    here = run("generate", *argv, stdin=stdin)
    there = run("generate", "--server", served, *argv, stdin=stdin)
    assert (there.code, there.stdout, there.stderr) == (here.code, here.stdout, here.stderr)
    return there


@pytest.mark.parametrize(
    "argv",
    [
        ["-s", 1, "-n", 12, "The king"],
        ["-s", 1, "-n", 12, "-N", 3, "--echo", "The king"],
        ["-s", 4, "-n", 30, "--stop", "e", "-t", 1.4, "--top-k", 0, "--min-p", 0.01, "The"],
        ["--greedy", "-n", 9, "--logit-bias", " the=-inf", "--logit-bias", "300=5", "Once upon a time"],
        ["-s", 2, "-n", 9, "--ids", "5 6 7", "--repeat-penalty", 1.3, "--no-repeat-ngram", 2],
        ["-s", 2, "--max-length", 9, "Once upon a time"],
        ["-s", 2, "-n", 3, "--special", "<|endoftext|>"],
        ["-s", 2, "-n", 20, "--ignore-eos", "--typical", 0.9, ""],
        ["-s", 2, "-n", 5, "日本語 🧙‍♂️"],
        ["-n", 0, "The king"],
        ["-s", 2, "-n", 5, "--regex", " [a-z]{3}!", "The king"],
        ["-s", 2, "-n", 5, "--regex", "[ab]{90}", "The king"],
        ["-s", 2, "-N", 2, "--json-schema", "ok bool", "The king"],
        ["-s", 2, "--choice", " a", "--choice", " the end", "The king"],
    ],
)
def test_the_same_text(run, served, argv):
    assert same(run, served, *argv).code == 0


def test_the_same_json(run, served):
    def plain(*more):
        result = run("generate", "-s", 1, "-n", 9, "-N", 2, "--json", "--logprobs", 2, "The king", *more)
        found = json.loads(result.stdout)
        assert list(found.pop("timings")) == ["load_s", "first_token_s", "total_s", "tokens_per_second"]
        return found

    assert plain("--server", served) == plain()


@pytest.mark.long
def test_a_text_beyond_the_window(run, served):
    long = "the king and the queen " * 300
    result = same(run, served, "-s", 1, "-n", 4, "--keep", 3, stdin=long)
    assert "what follows its first 3 tokens was cut off" in result.stderr
    assert same(run, served, "-s", 1, "-n", 4, "--strict", stdin=long).code == 6


def test_what_cannot_be_is_the_same_error(run, served):
    assert same(run, served, "--logit-bias", "5000=1", "x").code == 2
    assert same(run, served, "--keep", 900, "-n", 2000, "x").code == 6
    assert same(run, served, "--max-length", 2, "Once upon a time").code == 6
    assert same(run, served, "--ids", "99999").code == 2


def test_errors_of_its_own(run, served, monkeypatch):
    assert_error(run("generate", "--server", served, "-m", "gpt2", "x"), 3, "no model 'gpt2'")
    assert_error(run("generate", "--server", "http://127.0.0.1:9", "x"), 4, "no server answers on http://127.0.0.1:9")
    assert_error(run("generate", "--server", "unix:/no/such/socket", "x"), 4, "no server answers on unix:")
    assert_error(run("generate", "--server", "localhost", "x"), 2, "--server is 'localhost'")
    assert_error(run("generate", "--server", served, "--beams", 2, "x"), 2, "--beams contradicts --server")
    assert_error(run("generate", "--server", served, "--lookup", "--greedy", "x"), 2, "--lookup contradicts --server")
    assert_error(run("generate", "--server", served, "--precision", "fp32", "x"), 2, "--precision contradicts --server")
    for key in "clé☃", "secret\nkey":
        monkeypatch.setenv("GPT2_API_KEY", key)
        refused = run("generate", "--server", served, "x")
        assert_error(refused, 2, "API key")
        assert key[:3] not in refused.stderr
    monkeypatch.delattr(socket, "AF_UNIX")
    assert_error(run("generate", "--server", "unix:/no/such/socket", "x"), 2, "no Unix sockets")


@pytest.mark.parametrize(
    "answer",
    [
        'data: {"choices": [{"index": 0, "text": "a", "logprobs": null, "finish_reason": null}]}\n\n',
        "data: <html>\n\n",
        'data: {"error": "no"}\n\n',
    ],
)
def test_a_server_of_another_kind(run, answer):
    class Other(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_address[1]}"
        assert_error(run("generate", "--server", url, "x"), 4, f"what answers on {url} is no `gpt2 serve`")
        other.shutdown()


def test_the_variable_is_as_good_as_the_flag(run, served, monkeypatch):
    here = run("generate", "-s", 1, "-n", 5, "The king").stdout
    monkeypatch.setenv("GPT2_SERVER", "http://127.0.0.1:9")
    assert_error(run("generate", "-s", 1, "x"), 4, "no server answers")
    monkeypatch.setenv("GPT2_SERVER", served)
    assert run("generate", "-s", 1, "-n", 5, "The king").stdout == here


@pytest.mark.long
def test_nothing_heavy_is_imported(spawn, served):
    code = (
        "import sys; from gpt2cli import cli; cli.main(sys.argv[1:]);"
        " print([name for name in ('numpy', 'onnxruntime', 'tokenizers', 'starlette', 'rich') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "generate", "-n", "2", "-s", "1", "--json", "--server", served, "The king"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.long
def test_ctrl_c_keeps_what_there_is_and_frees_the_server(spawn, served, run):
    process = spawn("generate", "--server", served, "-n", -1, "--ignore-eos", "Once upon a time")
    first = process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(20) == 130
    assert len(first + rest) >= 20
    assert process.stderr.read() == b""
    assert run("generate", "--server", served, "-n", 2, "x").code == 0
