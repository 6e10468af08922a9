"""Half precision, and the choice of a device. The engine's contract on each is in test_engine.py. Where there is a GPU:
pytest -m gpu."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import oracle
import pytest
from checkpoints import SMALL, make_checkpoint, random_tensors
from conftest import assert_error
from engines import CUDA, HALF, POINTER
from foreign import make_foreign
from texts import generate

from gpt2cli import model
from gpt2cli.engine import runtime
from gpt2cli.engine.engine import Engine
from gpt2cli.errors import CannotMeet
from gpt2cli.generation.parameters import Sampling
from gpt2cli.model import load
from gpt2cli.store import builds, sources

IDS = [5, 7, 250, 7, 99, 120, 3, 44]


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """An fp16 export, and the logits of the oracle."""
    folder = tmp_path_factory.mktemp("half")
    config, tensors = make_checkpoint(folder / "c", tensors=random_tensors(SMALL))
    (folder / "e").mkdir()
    HALF.export(folder / "c", folder / "e")
    return folder / "e", oracle.forward(tensors, config, IDS)


ENGINES = pytest.mark.parametrize("kind", [HALF, POINTER, pytest.param(CUDA, marks=pytest.mark.gpu)], ids=str)


@ENGINES
def test_half_precision_is_near_the_oracle(half, kind):
    folder, expected = half
    found = kind.open(folder).feed([IDS], every=True)
    assert found.dtype == np.float32
    assert (np.sqrt(((found - expected) ** 2).mean(axis=1)) < 0.005 * expected.std(axis=1)).all()


def greedy(name, tokens, **options):
    model = load(name, text=False, **options)
    pieces = generate(model, [1, 2, 3], sampling=Sampling(temperature=0), max_tokens=tokens, ignore_eos=True)
    return [piece.token for piece in pieces]


def test_greedy_text_of_half_precision(checkpoint):
    """The same but for near-ties: here the first 20 tokens."""
    assert greedy(str(checkpoint), 20, precision="fp16") == greedy(str(checkpoint), 20, precision="fp32")


@pytest.mark.gpu
def test_greedy_text_on_cuda_is_the_cpu_s(checkpoint):
    for name in ("tiny", str(checkpoint)):
        cuda, cpu = greedy(name, 200, device="cuda"), greedy(name, 200, device="cpu", precision="fp32")
        same = next((place for place, pair in enumerate(zip(cuda, cpu, strict=True)) if pair[0] != pair[1]), 200)
        print(f"{name}: the first {same} of 200 tokens are the same")
        assert same >= 20


@pytest.mark.gpu
def test_nothing_runs_on_the_cpu_in_silence(half):
    engine = Engine(half[0], device="cuda")
    assert engine._session.get_providers()[0] == "CUDAExecutionProvider"
    assert load("tiny").device == "cuda"


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this one has CUDA")
def test_cuda_that_is_not_there(run):
    with pytest.raises(CannotMeet, match="no CUDA execution provider"):
        runtime.check_cuda()
    assert load("tiny").device == "cpu"
    assert_error(run("generate", "--device", "cuda", "x"), 6, "no CUDA execution provider", "onnxruntime-gpu")
    result = run("generate", "-v", "-n", 1, "x")
    assert "on the CPU: CUDA cannot be used" in result.stderr
    assert "CUDA" not in run("generate", "-n", 1, "x").stderr
    assert "CUDA" not in run("generate", "-v", "-n", 1, "--device", "cpu", "x").stderr


def test_choices_that_cannot_be(run):
    assert_error(run("generate", "--device", "tpu", "x"), 2, "no device 'tpu'")
    assert_error(run("generate", "--device", "cuda", "--precision", "int8", "x"), 6, "fp16, not int8")


def test_a_driver_that_does_not_work_is_told(monkeypatch, run):
    """As where onnxruntime-gpu is installed on a machine without a GPU: the provider is there, and no session opens."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(CannotMeet):
        runtime.check_cuda()
    assert_error(run("generate", "--device", "cuda", "x"), 6, "CUDA cannot be used")
    assert run("generate", "-q", "-n", 1, "x").code == 0


def test_a_ready_made_graph_runs_on_the_cpu_beside_a_gpu(monkeypatch, tmp_path, run):
    make_foreign(tmp_path)
    monkeypatch.setattr(model, "check_cuda", lambda: None)
    assert load(str(tmp_path), text=False).why_cpu == model.READY_MADE
    facts = json.loads(run("show", tmp_path, "--json").stdout)
    assert (facts["device"], facts["why_cpu"]) == ("cpu", model.READY_MADE)
    error = f"'{tmp_path}' has no checkpoint, and {model.READY_MADE}"
    assert_error(run("generate", "--device", "cuda", "-m", tmp_path, "--ids", "1"), 6, error, "--device cpu")


def test_pull_makes_what_the_device_runs(monkeypatch, checkpoint, run):
    monkeypatch.setattr(model, "check_cuda", lambda: None)
    runnable, why_cpu = model.prepare(sources.resolve(str(checkpoint)))
    assert (builds.own_precision(runnable.folder), why_cpu) == ("fp16", None)
    assert json.loads(run("show", checkpoint, "--json").stdout)["device"] == "cuda"
    assert run("pull", "-q", "--device", "cpu", checkpoint).code == 0
    assert_error(run("pull", "--device", "cuda", "--precision", "int4", checkpoint), 6, "fp16, not int4")


def test_how_many_threads_want_to_run():
    assert runtime.runnable("0.52 0.58 0.59 3/467 12345\n") == 3
    assert runtime.runnable("nonsense") == runtime.runnable("") == 0


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/loadavg").exists(), reason="only Linux says it")
def test_beside_others_threads_do_not_spin():
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count())]
    try:
        assert runtime.crowded(0)
        assert runtime.crowded(1)
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_our_own_threads_are_no_others(monkeypatch):
    """The tokenizer is read while the session is opened: whether the machine is busy is asked before."""
    seen = []

    def asked(threads):
        seen.append([thread.name for thread in threading.enumerate() if "ThreadPool" in thread.name])
        return True

    monkeypatch.setattr(model, "crowded", asked)
    monkeypatch.setattr(runtime, "crowded", None)
    assert model.load("tiny").engine.feed([[5, 6]]).shape == (1, 4096)
    assert seen == [[]]
