"""Adapters of PEFT's, which run where their base is found."""

import json

import numpy as np
import pytest
from checkpoints import SMALL, make_checkpoint
from conftest import assert_error
from oracle import greedy
from safetensors.numpy import load_file, save_file
from torchfiles import saved

BASE = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 8,
    "fan_in_fan_out": True,
    "bias": "none",
    "target_modules": ["c_attn", "c_fc"],
}


@pytest.fixture
def adapter(tmp_path):
    """A base, `base`, and an adapter, `adapter`, beside it; what both together are."""
    make_checkpoint(tmp_path / "base")
    (tmp_path / "adapter").mkdir()
    whole, tensors = load_file(tmp_path / "base/model.safetensors"), {}
    rng = np.random.default_rng(3)
    for layer in range(2):
        for name, outputs in (("attn.c_attn", 96), ("mlp.c_fc", 128)):
            narrow, wide = (rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((4, 32), (outputs, 4)))
            key = f"base_model.model.transformer.h.{layer}.{name}"
            tensors |= {f"{key}.lora_A.weight": narrow, f"{key}.lora_B.weight": wide}
            whole[f"h.{layer}.{name}.weight"] += 2 * (wide @ narrow).T
    save_file(tensors, tmp_path / "adapter/adapter_model.safetensors")
    write(tmp_path, base_model_name_or_path=str(tmp_path / "base"))
    return tmp_path / "adapter", whole


def write(folder, **changes):
    (folder / "adapter/adapter_config.json").write_text(json.dumps(BASE | changes))


def said(run, folder):
    result = run("generate", "-m", folder, "--precision", "fp32", "--greedy", "-n", "8", "--json", "The cat")
    assert result.code == 0, result.stderr
    found = json.loads(result.stdout)
    return found["prompt_ids"], found["samples"][0]["ids"]


@pytest.mark.parametrize("base", ["{folder}/base", "somebody/base", "../base"])
def test_an_adapter_runs_with_its_base(adapter, run, tmp_path, base):
    folder, whole = adapter
    write(tmp_path, base_model_name_or_path=base.format(folder=tmp_path))
    prompt, ids = said(run, folder)
    assert ids == greedy(whole, SMALL, prompt, 8)
    assert ids != greedy(load_file(tmp_path / "base/model.safetensors"), SMALL, prompt, 8)


def test_what_is_odd_in_the_base_is_told_once(adapter, run, tmp_path):
    folder, whole = adapter
    head = np.random.default_rng(9).normal(0, 0.5, (300, 32)).astype(np.float32)
    stored = load_file(tmp_path / "base/model.safetensors") | {"lm_head.weight": head}
    save_file({f"module.{name}": value for name, value in stored.items()}, tmp_path / "base/model.safetensors")
    result = run("export", folder, tmp_path / "out", "--precision", "fp32")
    assert result.code == 0, result.stderr
    assert [result.stderr.count(words) for words in ("read without module.", "another is stored")] == [1, 1]
    prompt, ids = said(run, tmp_path / "out")
    assert ids == greedy(whole | {"lm_head.weight": head}, SMALL | {"tie_word_embeddings": False}, prompt, 8)


def test_an_adapter_of_older_versions_is_a_file_of_pytorchs(adapter, run):
    folder, whole = adapter
    tensors = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    assert_error(run("generate", "-m", folder, "x"), 5, "has no weights of its adapter", "download")
    (folder / "adapter_model.bin").write_bytes(saved(tensors))
    prompt, ids = said(run, folder)
    assert ids == greedy(whole, SMALL, prompt, 8)


def test_show_of_an_adapter_has_the_shape_of_its_base(adapter, run, tmp_path):
    folder, whole = adapter
    facts = json.loads(run("show", folder, "--json").stdout)
    assert (facts["shape"]["layers"], facts["parameters"]) == (2, sum(map(np.size, whole.values())))
    write(tmp_path, base_model_name_or_path="nobody/else")
    facts = json.loads(run("show", folder, "--json").stdout)
    assert (facts["shape"], facts["parameters"]) == (None, None)
    assert run("show", folder).code == 0


def test_an_adapter_can_be_exported_and_leaves_nothing_behind(adapter, run, tmp_path, monkeypatch):
    folder, whole = adapter
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    assert run("export", folder, tmp_path / "out", "--precision", "fp32").code == 0
    assert list((tmp_path / "cache/exports").iterdir()) == []
    prompt, ids = said(run, tmp_path / "out")
    assert ids == greedy(whole, SMALL, prompt, 8)
    assert said(run, folder) == (prompt, ids)
    assert [path.name for path in (tmp_path / "cache/exports").iterdir() if path.name.startswith(".")] == []


def test_an_adapter_that_cannot_be_exported_leaves_nothing_behind(adapter, run, tmp_path, monkeypatch):
    folder, _ = adapter
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    tensors = load_file(folder / "adapter_model.safetensors")
    next(iter(tensors.values()))[:] = np.inf
    save_file(tensors, folder / "adapter_model.safetensors")
    assert_error(run("generate", "-q", "-m", folder, "x"), 5, "NaN or infinity")
    assert list((tmp_path / "cache/exports").iterdir()) == []


def test_an_adapter_that_changes_is_merged_anew(adapter, run):
    folder, _ = adapter
    before = said(run, folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({name: -value if "lora_B" in name else value for name, value in tensors.items()}, folder / "new")
    (folder / "new").replace(folder / "adapter_model.safetensors")
    assert said(run, folder) != before


@pytest.mark.parametrize(
    ("changes", "code", "message", "hint"),
    [
        ({"base_model_name_or_path": "elsewhere"}, 3, "its base, 'elsewhere', is not here", "put the base beside it"),
        ({"peft_type": "IA3"}, 3, "an adapter with IA3", "merge_and_unload"),
        ({"use_dora": True}, 3, "an adapter with use_dora", "merge_and_unload"),
        ({"bias": "all"}, 3, "an adapter with bias", "merge_and_unload"),
        ({"lora_alpha": "x"}, 5, "'lora_alpha' is 'x'", "mend it"),
    ],
)
def test_what_cannot_be_merged_is_refused(adapter, run, tmp_path, changes, code, message, hint):
    folder, _ = adapter
    write(tmp_path, **{"base_model_name_or_path": str(tmp_path / "base")} | changes)
    assert_error(run("generate", "-m", folder, "x"), code, message, hint)


def test_another_base_is_refused(adapter, run, tmp_path):
    folder, _ = adapter
    make_checkpoint(tmp_path / "base", n_layer=1)
    assert_error(run("generate", "-m", folder, "x"), 5, "no place for", "another base")
    make_checkpoint(tmp_path / "base", n_embd=16)
    assert_error(run("generate", "-m", folder, "x"), 5, "has shape", "another base")
