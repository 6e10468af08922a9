"""finetune(...): what `gpt2 finetune` does, for whoever writes Python."""

import contextlib

import pytest

pytest.importorskip("torch")

import torch
from safetensors.numpy import load_file

from gpt2cli import complete, finetune, load
from gpt2cli.errors import UsageError
from gpt2cli.training.recipe import Shape
from gpt2cli.training.run import Ended, Evaluated
from gpt2cli.training.training import Step

pytestmark = pytest.mark.train

QUICK = {"batch": 128, "length": 32, "rate": 0.003}


@pytest.fixture(autouse=True)
def models(monkeypatch, tmp_path):
    """The folder of the models that have names; on one thread."""
    monkeypatch.setenv("GPT2_MODELS", str(tmp_path / "models"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path / "models"
    torch.set_num_threads(before)


def weights(folder):
    return {name: value.tobytes() for name, value in load_file(folder / "model.safetensors").items()}


def test_what_happens_is_told_and_the_result_can_be_loaded(text, checkpoint):
    events = list(finetune(text, "story", str(checkpoint), steps=3, **QUICK))
    assert [event.number for event in events if isinstance(event, Step)] == [1, 2, 3]
    assert any(isinstance(event, Evaluated) and event.best for event in events)
    assert events[-1] == Ended("done", 3)
    assert complete(load("story"), "The cat")


def test_a_closed_iterator_saves_and_goes_on_to_the_same_end(text, checkpoint, models):
    wishes = {"steps": 8, **QUICK}
    list(finetune([text], "whole", str(checkpoint), **wishes))
    with contextlib.closing(finetune(text, "cut", str(checkpoint), **wishes)) as events:
        for event in events:
            if isinstance(event, Step) and event.number == 5:
                break
    with pytest.raises(UsageError, match="a run is in"):
        next(finetune(text, "cut", str(checkpoint), **wishes))
    numbers = [event.number for event in finetune((), "cut", resume=True) if isinstance(event, Step)]
    assert numbers == [6, 7, 8]
    assert weights(models / "cut") == weights(models / "whole")
    with pytest.raises(UsageError, match="has ended"):
        next(finetune((), "cut", resume=True))


def test_a_new_model_has_the_shape_that_was_asked_for(text, tmp_path):
    shape = Shape(layers=1, width=16, heads=2, positions=64, vocabulary=270)
    assert list(finetune(text, tmp_path / "new", shape=shape, steps=1, **QUICK))[-1] == Ended("done", 1)
    assert load(str(tmp_path / "new")).engine.vocabulary == 270


def test_what_cannot_begin_leaves_nothing(text, models):
    with pytest.raises(UsageError, match="out of all reason"):
        next(finetune(text, "story", "tiny", rate=float("nan")))
    with pytest.raises(UsageError, match="there is no"):
        next(finetune("none.txt", "story", "tiny"))
    assert not (models / "story").exists()
