"""Fixtures: an isolated cache and environment for every test, small checkpoints, and the command line in-process."""

import errno
import gc
import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import pytest
from checkpoints import make_checkpoint
from hub import NAME, Hub
from huggingface_hub import constants
from hypothesis import HealthCheck, settings
from texts import LINES

from gpt2cli import cli, paths
from gpt2cli.model import load

pytest_plugins = ["pages", "runs"]

# what a shell's background and nohup ignore, children would inherit
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

settings.register_profile(
    "here",  # a busy machine; and most fixtures are the same for all examples
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("here")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """The whole suite runs on every core, and one test more at a time, for some only wait; a part of it that is named,
    on one, which begins sooner. -n decides."""
    whole, worker = config.args == config.getini("testpaths"), hasattr(config, "workerinput")
    if whole and not worker and config.getoption("numprocesses", 0) is None:
        config.option.numprocesses, config.option.dist = (os.cpu_count() or 1) + 1, "worksteal"


# What a test starts, told by its fixtures; other tests carry the marker themselves.
STARTS = {
    "process": {"spawn", "bound", "foreign", "bash", "shell", "wheel", "environment", "editor"},
    "terminal": {"repl", "wide", "terminal", "shown"},
    "hub": {"hub", "machine"},
    "browser": {"browser", "page", "sheet"},
    "whole": {"run", "client", "served", "words", "serve", "alone", "small_model"},
}
NOT_FAST = (*STARTS, "long", "network", "gpu", "slow", "parity", "train")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        for marker, fixtures in STARTS.items():
            if fixtures.intersection(item.fixturenames):
                item.add_marker(marker)
        if not any(item.get_closest_marker(marker) for marker in NOT_FAST):
            item.add_marker("fast")


def pytest_collection_finish():
    gc.freeze()  # what has been collected stays to the end, and needs no looking through


class Options(onnxruntime.SessionOptions):
    """Threads of ONNX Runtime that have no work sleep, instead of waiting for it on the processors of other tests. What
    they compute, and on how many threads, stays the same."""

    def __init__(self):
        super().__init__()
        self.entries = {}
        self.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def add_session_config_entry(self, key, value):
        if self.entries.get(key) != value:  # ONNX Runtime warns of what is said twice
            self.entries[key] = value
            super().add_session_config_entry(key, value)


@pytest.fixture(scope="session", autouse=True)
def sessions():
    """ONNX Runtime with those options. It opens the built-in model, whose files no test changes, once: a session keeps
    nothing from one call to the next."""
    opened, real = {}, onnxruntime.InferenceSession

    def session(graph, options, **others):
        if not isinstance(graph, Path) or not graph.is_relative_to(paths.data("models")):
            return real(graph, options, **others)
        key = repr((graph, options.entries, options.intra_op_num_threads, others))
        return opened.get(key) or opened.setdefault(key, real(graph, options, **others))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime, "SessionOptions", Options)
        patch.setattr(onnxruntime, "InferenceSession", session)
        yield


def _no_process(*_, **__):
    raise AssertionError("a test that starts a process carries the marker `process`, or `terminal`")


@pytest.fixture(autouse=True)
def no_process(request, monkeypatch):
    """What is fast starts none."""
    if request.node.get_closest_marker("fast"):
        monkeypatch.setattr(subprocess, "Popen", _no_process)


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path_factory):
    """No GPT2_*, colour or network variables from outside, a cache of its own for every test run, no config file, no
    network; where a test names none, the built-in model, and one thread, which waits for no other."""
    for name in list(os.environ):
        of_the_network = name.lower().endswith("_proxy") or name.endswith("_CA_BUNDLE") or name.startswith("SSL_CERT_")
        if of_the_network or name.startswith(("GPT2_", "HF_")) or name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    # else every process compiles the package anew, a quarter of its start
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    base = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("GPT2_CACHE", str(base / "cache"))
    monkeypatch.setenv("GPT2_CONFIG", str(base / "no-config.toml"))
    monkeypatch.setenv("GPT2_STATE", str(base / "state"))
    monkeypatch.setenv("GPT2_MODELS", str(base / "models"))
    monkeypatch.setenv("GPT2_MODEL", "tiny")
    monkeypatch.setenv("GPT2_THREADS", "1")
    monkeypatch.setenv("HF_HOME", str(base / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # in this process the library has read its variables already
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(base / "hf/hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A random two-layer GPT-2 of 300 tokens and 64 positions, with a tokenizer."""
    folder = tmp_path_factory.mktemp("checkpoint")
    make_checkpoint(folder)
    return folder


@pytest.fixture
def small(checkpoint):
    """The same, loaded: a fresh engine for every test."""
    return load(str(checkpoint), precision="fp32")


@dataclass
class Result:
    stdout: str
    stderr: str
    code: int
    raw: bytes


@pytest.fixture
def run(monkeypatch):
    """run(*argv, stdin=None) -> Result, through cli.main. `stdin` is bytes or text from a pipe; None is a terminal
    at which nobody types."""

    def call(*argv, stdin=None):
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
        data = stdin.encode() if isinstance(stdin, str) else stdin or b""
        source = io.TextIOWrapper(io.BufferedReader(io.BytesIO(data)), "utf-8")
        source.isatty = lambda: stdin is None
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.setattr(sys, "stdin", source)
        code = cli.main([str(argument) for argument in argv])
        out.flush()
        err.flush()
        raw = out.buffer.getvalue()
        return Result(raw.decode(errors="replace"), err.buffer.getvalue().decode(), code, raw)

    yield call
    monkeypatch.undo()


class Spawned(subprocess.Popen):
    """A process whose return code is what a shell says of it."""

    @property
    def returncode(self):
        return self._code

    @returncode.setter
    def returncode(self, code):
        self._code = code if code is None or code >= 0 else 128 - code


@pytest.fixture
def spawn():
    """spawn(*argv, **popen) -> a real `gpt2` process with pipes."""
    running = []

    def start(*argv, **options):
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        command = [sys.executable, "-m", "gpt2cli", *map(str, argv)]
        process = Spawned(command, **pipes)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                pipe.close()


def read_by(process, fifo):
    """A pipe with a name, open for writing as soon as the process reads it; one that has ended never will."""
    number = None
    while number is None:
        try:
            number = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as reason:
            if reason.errno != errno.ENXIO:  # nobody reads it yet
                raise
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.set_blocking(number, True)
    return os.fdopen(number, "wb")


# Root gives CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER up before it starts (prctl(2), PR_CAPBSET_DROP).
_BOUND = """
import ctypes, os, sys
for capability in (1, 2, 3):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "gpt2cli", *sys.argv[1:]])
"""


@pytest.fixture
def bound():
    """bound(*argv) -> Result of a `gpt2` process that the permissions of files bind, whoever runs the tests."""

    def call(*argv):
        if os.name != "posix" or (os.geteuid() == 0 and sys.platform != "linux"):
            pytest.skip("needs a user whom permissions bind")
        program = ["-c", _BOUND] if os.geteuid() == 0 else ["-m", "gpt2cli"]
        done = subprocess.run(
            [sys.executable, *program, *map(str, argv)], capture_output=True, stdin=subprocess.DEVNULL
        )
        return Result(done.stdout.decode(), done.stderr.decode(), done.returncode, done.stdout)

    return call


@pytest.fixture
def read_only():
    """read_only(folder) takes the right to write away from a folder alone, until the test ends."""
    folders = []

    def call(folder):
        folders.append((folder, folder.stat().st_mode))
        folder.chmod(0o500)

    yield call
    for folder, mode in folders:
        if folder.exists():
            folder.chmod(mode)


@pytest.fixture
def data():
    """The folder with real tokenizer files and checkpoints, named by GPT2CLI_TEST_DATA."""
    folder = os.environ.get("GPT2CLI_TEST_DATA")
    if not folder:
        pytest.skip("GPT2CLI_TEST_DATA names no folder with test data")
    return Path(folder)


@pytest.fixture
def story(tmp_path):
    """A file of those lines."""
    path = tmp_path / "story.txt"
    path.write_text("\n".join(LINES) + "\n")
    return path


@pytest.fixture
def odd_name(tmp_path):
    """The path of a text file whose name is no text, and drives terminals."""
    path = tmp_path / os.fsdecode(b"caf\xe9\x1b[31m.txt")
    try:
        path.write_text("The cat\nThe dog\n")
    except (OSError, UnicodeError):
        pytest.skip("this system's file names are text")
    return path


def assert_error(result, code, *words):
    """One error line with `words`, one hint line, nothing on stdout."""
    lines = result.stderr.splitlines()
    assert result.code == code, result.stderr
    assert [line.split(":")[0] for line in lines] == ["error", "hint"], result.stderr
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr


# A hub on loopback


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with empty caches and a network."""

    def point(url):
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setenv("HF_ENDPOINT", url)

    monkeypatch.delenv("GPT2_MODEL")
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf/hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf/token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # what a cut leaves of a chunk is lost
    return point


@pytest.fixture
def reopened():
    """The client reads the variables of the network when it opens: it does so in this test."""
    from huggingface_hub import utils

    utils.close_session()
    yield
    utils.close_session()


@pytest.fixture
def hub(machine):
    with Hub() as server:
        machine(server.url)
        yield server


@pytest.fixture(scope="session")
def files(checkpoint):
    """The files of a small checkpoint, and some that nobody needs."""
    extra = {"README.md": b"# tales", "tf_model.h5": b"0" * 5000, "training_args.bin": b"1" * 100}
    return {path.name: path.read_bytes() for path in checkpoint.iterdir()} | extra


@pytest.fixture
def tell(run):
    """gpt2 generate from the hub's model."""

    def call(*argv, name=NAME, **options):
        return run("generate", "-m", name, "-n", 4, "--seed", 1, "The cat", *argv, **options)

    return call


# Servers (servers.py)


def opened(name, base, **options):
    """A model that many tests share: opened where no test's environment is there yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPT2_CACHE", str(base / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        return load(str(name), threads=1, **options)


@pytest.fixture(scope="session")
def small_model(checkpoint, tmp_path_factory):
    """The small checkpoint at fp32, in chunks of 17 of its 64 positions, so that prompts have several."""
    model = opened(checkpoint, tmp_path_factory.getbasetemp(), precision="fp32")
    model.engine.chunk = 17
    return model


@pytest.fixture(scope="session")
def alone(checkpoint, tmp_path_factory):
    """The same again, behind no server: what a text is alone."""
    model = opened(checkpoint, tmp_path_factory.getbasetemp(), precision="fp32")
    model.engine.chunk = 17
    return model


@pytest.fixture(scope="session")
def served(small_model):
    """A server of four rows, and its client: one for all tests that need none of their own."""
    from servers import live

    with live(small_model, aliases=("small",)) as found:
        yield found


@pytest.fixture
def client(served):
    return served[1]


@pytest.fixture(scope="session")
def words(tmp_path_factory):
    """The client of a server of the built-in model."""
    from servers import live

    with live(opened("tiny", tmp_path_factory.getbasetemp())) as (_, client):
        yield client


@pytest.fixture
def serve(spawn):
    """serve(*argv) -> a servers.Process: `gpt2 serve` on a free port, which answers."""
    from servers import Process

    def start(*argv, **options):
        return Process.answering(spawn("serve", *argv, *(() if "--socket" in argv else ("--port", 0)), **options))

    return start
