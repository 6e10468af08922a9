"""One server for all tests that need none of their own: a small random model, and one that has words."""

import re
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import Client, live

from gpt2cli.model import load

CHUNK = 17  # of the window's 64, so that prompts have several


def opened(name, tmp_path_factory, **options):
    """A model, where no test's environment is there yet."""
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPT2_CACHE", str(base / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        return load(str(name), threads=1, **options)


@pytest.fixture(scope="session")
def small_model(checkpoint, tmp_path_factory):
    """The random checkpoint at fp32, in short chunks."""
    model = opened(checkpoint, tmp_path_factory, precision="fp32")
    model.engine.chunk = CHUNK
    return model


@pytest.fixture(scope="session")
def alone(checkpoint, tmp_path_factory):
    """The same again, behind no server: what a text is alone."""
    model = opened(checkpoint, tmp_path_factory, precision="fp32")
    model.engine.chunk = CHUNK
    return model


@pytest.fixture(scope="session")
def served(small_model):
    """A server of four rows, and its client."""
    with live(small_model, aliases=("small",)) as found:
        yield found


@pytest.fixture
def client(served):
    return served[1]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    return opened("tiny", tmp_path_factory)


@pytest.fixture(scope="session")
def words(tiny_model):
    """The client of a server of the built-in model."""
    with live(tiny_model) as (_, client):
        yield client


@dataclass
class Process:
    """`gpt2 serve`, and what it has said on stderr until it answered."""

    popen: object
    client: Client
    said: list[str]

    def stop(self, number=signal.SIGTERM):
        """Its exit code, and the rest of stderr."""
        self.popen.send_signal(number)
        _, rest = self.popen.communicate(timeout=60)
        return self.popen.returncode, rest.decode()


@pytest.fixture
def serve(spawn):
    """serve(*argv) -> a Process of `gpt2 serve` on a free port, which answers."""

    def start(*argv, wait=True, **options):
        popen = spawn("serve", "-m", "tiny", *argv, *(() if "--socket" in argv else ("--port", 0)), **options)
        said, address = [], None
        while wait and address is None:
            line = popen.stderr.readline().decode()
            assert line, "".join(said)
            said.append(line)
            if found := re.search(r"answers on (?:http://([^ ]+):(\d+)|(.+));", line):
                address = Path(found[3]) if found[3] else (found[1].strip("[]"), int(found[2]))
        return Process(popen, Client(address), said)

    return start
