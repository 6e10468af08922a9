"""A run: what happens in it, and that one which is cut goes on as if it had not been."""

import json
import math
import os

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from checkpoints import make_checkpoint
from runs import finished
from safetensors.numpy import load_file

from gpt2cli.errors import CannotMeet, CorruptFile, StorageError, UsageError
from gpt2cli.training import documents, start
from gpt2cli.training.run import DONE, INTERRUPTED, PATIENCE, Ended, Evaluated
from gpt2cli.training.training import Step

pytestmark = pytest.mark.train


def weights(folder):
    found = load_file(folder.path / "model.safetensors"), load_file(folder.run / "last/model.safetensors")
    return [{name: value.tobytes() for name, value in one.items()} for one in found]


def lines(folder):
    """metrics.jsonl without what the clock says."""
    return [row | {"seconds": 0} for row in folder.told()]


@pytest.mark.parametrize("how", [{"steps": 13}, {"epochs": 3.3}, {"steps": 9, "optimizer": "muon", "dropout": 0.1}])
def test_a_run_that_was_cut_ends_as_one_that_was_not(begun, how):
    whole, cut = begun("whole", **how), begun("cut", **how)
    finished(whole)
    finished(cut, cuts=(1, 2, 3, 5, 8))
    assert weights(whole) == weights(cut)
    assert lines(whole) == lines(cut)
    assert len(lines(whole)) > 3


def test_lora_that_was_cut_ends_as_one_that_was_not(begun):
    from gpt2cli.training.lora import LoRA

    lora = LoRA(2, 4.0, ("c_attn", "c_proj"))
    whole, cut = begun("whole", steps=6, lora=lora), begun("cut", steps=6, lora=lora)
    finished(whole)
    finished(cut, cuts=(1, 4))
    assert weights(whole) == weights(cut)
    assert (whole.path / "adapter/adapter_model.safetensors").read_bytes() == (
        cut.path / "adapter/adapter_model.safetensors"
    ).read_bytes()


def test_the_loss_is_measured_before_and_after_and_the_best_is_kept(begun):
    folder = begun(steps=10)
    events = finished(folder)
    found = [event for event in events if isinstance(event, Evaluated)]
    assert (found[0].step, found[0].train, found[-1].step) == (0, None, 10)
    assert found[-1].loss.mean < found[0].loss.mean
    best = min(found[1:], key=lambda one: one.loss.mean)
    assert best.best
    assert math.isclose(best.loss.perplexity, math.exp(best.loss.mean))
    said = (folder.path / "README.md").read_text()
    assert f"{best.loss.mean:.4f}" in said
    assert f"{found[0].loss.mean:.4f}" in said
    assert events[-1] == Ended(DONE, 10)


def test_a_run_ends_early_where_nothing_gets_better(begun):
    folder = begun(steps=200, rate=3.0, patience=2)
    events = finished(folder)
    assert events[-1].reason == PATIENCE
    assert events[-1].step < 200


def test_a_run_that_was_stopped_is_a_model_and_goes_on(begun):
    folder = begun(steps=400)
    with folder.held():
        run, _ = start.opened(folder, samples=False)
        for event in run.events():
            if isinstance(event, Step):
                run.stop()
    assert event == Ended(INTERRUPTED, 1)
    assert (folder.path / "config.json").exists()
    run, _ = start.opened(folder)
    assert run.training.step == 1


def test_minutes_end_a_run(begun):
    assert finished(begun(minutes=0.002))[-1].reason == DONE


def test_a_run_that_has_ended_cannot_go_on(begun):
    folder = begun(steps=2)
    finished(folder)
    assert folder.ended
    with pytest.raises(UsageError, match="has ended"):
        start.opened(folder)


def test_of_a_loss_that_is_no_number_nothing_is_learnt(begun):
    folder = begun(steps=50)
    with folder.held():
        run, _ = start.opened(folder, samples=False)
        events = run.events()
        for _ in range(4):
            next(events)
        run.save()
        state = (folder.run / "state.pt").read_bytes()
        with torch.no_grad():
            run.training.network.wte.weight[5, 0] = math.nan
        with pytest.raises(CannotMeet, match=rf"step {run.training.step + 1} is no number"):
            list(events)
    assert (folder.run / "state.pt").read_bytes() == state
    run, _ = start.opened(folder)
    assert np.isfinite(run.training.network.wte.weight.detach().numpy()).all()


@pytest.mark.parametrize("text", ["", "cat", "the cat and the dog"])
def test_too_little_text_is_refused_with_the_number(begun, tmp_path, text):
    path = tmp_path / "short.txt"
    path.write_text(text)
    with pytest.raises(CannotMeet, match=r"no text|64 tokens are the least, it has \d"):
        begun(sources=[path], steps=2)


def test_all_of_the_text_is_learnt_where_another_file_is_measured(begun, text):
    folder = begun(steps=1, validation=text)
    run, facts = start.opened(folder)
    assert facts["held"] == facts["data"]["tokens"]
    assert run.training._windows.per_epoch * 32 == facts["data"]["tokens"] - 1


def test_what_cannot_fit_is_refused_before_the_first_step(begun, monkeypatch):
    monkeypatch.setattr(start.memory, "available", lambda device: 1 << 20)
    with pytest.raises(CannotMeet, match=r"takes 0\.\d GB of memory"):
        begun(steps=1)


def test_where_memory_is_short_fewer_windows_are_computed_at_once(begun, monkeypatch):
    plain = begun("plain", steps=3)
    monkeypatch.setattr(start.memory, "needed", lambda plan, *_, **__: 0 if plan.checkpointed and plan.rows == 1 else 2)
    monkeypatch.setattr(start.memory, "available", lambda device: 1)
    short = begun("short", steps=3)
    assert (short.plan()["plan"]["rows"], short.plan()["plan"]["checkpointed"]) == (1, True)
    losses = [[row["validation"] for row in (finished(folder), folder.told())[1]] for folder in (plain, short)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.parametrize(("ends", "end"), [([0, 299], 299), ([7, 0], 7), ([], 299)])
def test_of_several_end_tokens_the_tokenizers_stands_between_documents(ends, end, begun, tmp_path, text):
    make_checkpoint(tmp_path / "base")
    (tmp_path / "base/generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    ids = documents.opened(begun(base=tmp_path / "base", sources=[text, text]).run).ids
    assert (ids[-1], (ids[:-1] == end).sum() >= 1) == (end, True)


def test_two_runs_do_not_share_a_folder(begun):
    folder = begun(steps=1)
    with folder.held(), pytest.raises(UsageError, match="another run is at work"):
        folder.held()


def test_a_folder_with_something_else_is_refused(begun, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/letters.txt").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        begun(steps=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["letters.txt"]


def test_what_is_broken_in_a_run_is_said(begun):
    folder = begun(steps=3)
    (folder.run / "state.pt").write_bytes(b"nothing")
    with pytest.raises(CorruptFile, match=r"state\.pt cannot be read"):
        start.opened(folder)
    (folder.run / "plan.json").write_text(json.dumps({"plan": {}}))
    with pytest.raises(CorruptFile, match="plan of the run"):
        start.opened(folder)


def test_a_full_disk_loses_nothing_that_was_saved(begun):
    import resource

    folder = begun(steps=30)
    with folder.held():
        run, _ = start.opened(folder, samples=False)
        for event in run.events():
            if isinstance(event, Step) and event.number == 2:
                run.stop()
    before = weights_and_state(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with folder.held():
        run, _ = start.opened(folder, samples=False)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            with pytest.raises(StorageError, match="cannot write to"):
                list(run.events())
            with pytest.raises(StorageError, match="cannot write to"):
                run.save()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert weights_and_state(folder) == before
    assert not list(folder.path.rglob("*.part"))
    finished(folder)
    assert folder.ended


def test_a_disk_that_is_full_from_the_beginning_is_said_and_nothing_stays(begun, tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StorageError, match="File too large") as caught:
            begun(steps=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "--resume" not in caught.value.hint
    assert not list((tmp_path / "out").rglob("*.part"))


def test_weights_that_are_mapped_are_read_without_a_warning(begun, recwarn):
    begun(steps=1)
    assert not [one for one in recwarn if "not writable" in str(one.message)]


def weights_and_state(folder):
    return (folder.path / "model.safetensors").read_bytes(), (folder.run / "state.pt").read_bytes()


RUN = ["plan.json", "state.pt", "data.json", "ids.bin", "starts.npy", "metrics.jsonl", "last/config.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
@pytest.mark.parametrize("name", RUN)
def test_nobody_waits_for_a_pipe_in_a_run(begun, name):
    folder = begun()
    (folder.run / name).unlink(missing_ok=True)
    os.mkfifo(folder.run / name)
    with pytest.raises(CorruptFile, match="is a pipe, a device or a folder"):
        start.opened(folder)


@pytest.mark.parametrize("name", ["plan.json", "data.json"])
@pytest.mark.parametrize("content", ["[]", "[" * 200_000, "{}"])
def test_what_is_no_run_is_said(begun, name, content):
    folder = begun()
    (folder.run / name).write_text(content)
    with pytest.raises(CorruptFile):
        start.opened(folder)
