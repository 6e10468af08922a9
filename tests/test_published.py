"""Outputs of the real models that others published (published.json names each source): they need the hub.

pytest -m network tests/test_published.py          all but the two largest models
pytest -m 'network or slow' tests/test_published.py
"""

import json
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from texts import generate

from gpt2cli import Sampling, load

CASES = json.loads((Path(__file__).parent / "published.json").read_text(encoding="utf-8"))
LARGE = ("gpt2-large", "gpt2-xl")


@pytest.fixture(scope="module")
def opened():
    models = {}

    def get(name):
        if name not in models:
            models.clear()
            models[name] = load(name, precision="fp32")
        return models[name]

    return get


@pytest.fixture(autouse=True)
def network(monkeypatch):
    """The user's own cache and network, which the other tests do without."""
    monkeypatch.undo()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.mark.network
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case["id"], marks=[pytest.mark.slow] if case["model"] in LARGE else [])
        for case in sorted(CASES, key=lambda case: case["model"])
    ],
)
def test_published_outputs(case, opened):
    model = opened(case["model"])
    assert model.tokenizer.encode(case["prompt"]) == case["prompt_ids"]
    if "new_ids" in case:
        options = dict(case["options"])
        beams = options.pop("beams", 1)
        sampling = Sampling(temperature=0, repeat_last_n=-1, **options)
        count = len(case["new_ids"])
        pieces = list(generate(model, case["prompt_ids"], sampling=sampling, max_tokens=count, beams=beams, logprobs=0))
        assert [piece.token for piece in pieces if piece.token is not None] == case["new_ids"]
        for piece, published in zip(pieces, case.get("new_logprobs", []), strict=False):
            assert piece.logprob.logprob == pytest.approx(published, abs=case["tolerance"])
    if "logits" in case:
        model.engine.reset()
        logits = model.engine.feed([case["prompt_ids"]], every=True)
        for position, token, value in case["logits"]:
            assert logits[position, token] == pytest.approx(value, abs=case["tolerance"])
        if "best" in case:
            assert int(np.argmax(logits[-1])) == case["best"]


def test_the_published_facts_fit_the_real_tokenizer(data):
    """What can be checked without the hub: prompts and texts are the ids that are compared."""
    from gpt2cli.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer(data / "reference/tokenizer")
    assert len(CASES) > 25
    for case in CASES:
        assert tokenizer.encode(case["prompt"]) == case["prompt_ids"], case["id"]
        assert case["source"]
        assert case.get("new_ids") or case.get("logits")
