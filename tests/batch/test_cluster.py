"""Rows on a Ray cluster: two workers on this machine, of which one is killed."""

import subprocess
import sys

import pytest
from batch_rows import mixed, write
from conftest import assert_error

from gpt2cli.batch.places import Sizes
from gpt2cli.errors import CannotMeet

# The first answers are there when one of the two dies.
_KILLING = """
import os, signal, sys
from pathlib import Path
from gpt2cli.batch import cluster, identity, order, places, rows
from gpt2cli.batch.running import Runner
from gpt2cli.batch.wishes import Settings
from gpt2cli.model import load
import ray

path, model = sys.argv[1:]
source = rows.survey(Path(path).open("rb"), path, "auto", rows.Shard())
settings = Settings(body={"temperature": 0.8, "max_tokens": 128})
place = places.Place(model, "fp32", "cpu", "auto", True)
opened = load(model, precision="fp32")
local = order.answers(source.rows(), Runner(opened, settings).answers, ordered=True)
expected = [one for some in local for one in some]
facts, found = identity.of(opened), []
with cluster.Cluster("local", place, settings, model=facts, rows=0, sizes=places.Sizes(2, 1)) as engines:
    actors = engines._actors
    pids = ray.get([actor.__ray_call__.remote(lambda self: os.getpid()) for actor in actors])
    for number, some in enumerate(order.answers(source.rows(), engines.answers, ordered=True)):
        if number == 0:
            os.kill(pids[0], signal.SIGKILL)
        found += some
    again = ray.get([actor.__ray_call__.remote(lambda self: os.getpid()) for actor in actors])
    assert again[0] != pids[0] and again[1] == pids[1], (pids, again)
assert len(found) == 1500 and found == expected
"""


@pytest.mark.slow
@pytest.mark.process
def test_a_worker_that_is_killed_changes_no_byte(checkpoint, tmp_path):
    pytest.importorskip("ray")
    path = write(tmp_path / "rows.jsonl", mixed(1500))
    done = subprocess.run(
        [sys.executable, "-c", _KILLING, path, checkpoint], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == ""


@pytest.mark.slow
@pytest.mark.process
def test_a_local_cluster_writes_the_same_file(run, spawn, checkpoint, tmp_path):
    pytest.importorskip("ray")
    path, out = write(tmp_path / "rows.jsonl", mixed(200)), tmp_path / "out.jsonl"
    argv = ("batch", path, "-m", checkpoint, "--precision", "fp32")
    process = spawn(*argv, "--ray", "local", "--ray-engines", 2, "--threads", 1, "-o", out)
    assert process.wait() == 0, process.stderr.read()
    assert out.read_text() == run(*argv).stdout


def test_without_ray_one_error_says_how_to_get_it(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "gpt2cli.batch.cluster", raising=False)
    path = write(tmp_path / "rows.jsonl", mixed(2))
    assert_error(run("batch", path, "--ray", "auto", "-o", tmp_path / "out"), 2, "pip install 'gpt2cli[ray]'")
    assert not (tmp_path / "out").exists()


def test_engines_are_one_a_machine_unless_somebody_says_otherwise():
    assert Sizes().of([16, 8, 0]) == (2, 8)
    assert Sizes(4).of([16]) == (4, 4)
    assert Sizes(0, 2).of([4, 4]) == (2, 2)
    assert Sizes(6, 2).of([8, 4]) == (6, 2)
    for sizes, processors in ((Sizes(3), [2]), (Sizes(1, 9), [8]), (Sizes(), [])):
        with pytest.raises(CannotMeet, match="do not fit"):
            sizes.of(processors)


@pytest.mark.process
def test_a_cluster_that_does_not_answer_is_named(run, tmp_path):
    pytest.importorskip("ray")
    path = write(tmp_path / "rows.jsonl", mixed(2))
    assert_error(run("batch", path, "-m", "tiny", "--ray", "127.0.0.1:1"), 4, "'127.0.0.1:1'", "ray start --head")
