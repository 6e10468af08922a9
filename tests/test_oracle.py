"""The oracle against transformers: frozen outputs, and the real library where it is installed (marker `parity`)."""

import json
from pathlib import Path

import numpy as np
import oracle
import pytest
from safetensors.numpy import load_file

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.mark.parametrize("name", ["plain", "variants"])
def test_oracle_equals_frozen_transformers(name):
    folder = FIXTURES / name
    config = json.loads((folder / "config.json").read_text())
    tensors = {
        key.removeprefix("transformer."): value for key, value in load_file(folder / "model.safetensors").items()
    }
    expected = np.load(folder / "outputs.npz")
    ids = expected["ids"].tolist()
    assert np.abs(oracle.forward(tensors, config, ids) - expected["logits"]).max() < 1e-4
    assert oracle.greedy(tensors, config, ids[:8], 20) == expected["greedy"].tolist()
