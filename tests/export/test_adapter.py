"""Adapters of PEFT's, which run where their base is found."""

import json
import os
import shutil

import numpy as np
import pytest
from checkpoints import SMALL, make_checkpoint
from conftest import assert_error
from oracle import greedy
from safetensors.numpy import load_file, save_file
from torchfiles import saved

from gpt2cli.store import adapters, sources, store
from gpt2cli.store.choice import SILENT, Choice

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


def test_an_adapter_of_an_adapter_is_shown_and_leaves_nothing_behind(adapter, run, tmp_path, monkeypatch):
    folder, whole = adapter
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    shutil.copytree(folder, tmp_path / "second")
    (tmp_path / "second/adapter_config.json").write_text(json.dumps(BASE | {"base_model_name_or_path": str(folder)}))
    facts = json.loads(run("show", tmp_path / "second", "--json").stdout)
    assert (facts["shape"]["layers"], facts["parameters"]) == (2, sum(map(np.size, whole.values())))
    prompt, ids = said(run, tmp_path / "second")
    base = load_file(tmp_path / "base/model.safetensors")
    assert ids == greedy({name: 2 * whole[name] - base[name] for name in whole}, SMALL, prompt, 8)
    assert [path.name for path in (tmp_path / "cache/exports").iterdir() if path.name.startswith(".")] == []


def test_two_who_merge_the_same_adapter_do_not_share_what_they_made(adapter):
    source = sources.resolve(str(adapter[0]))
    first, second = (store.located(source, Choice(prefer="checkpoint"), SILENT) for _ in range(2))
    adapters.discard(first)
    assert not first.exists()
    assert np.array_equal(load_file(second / "model.safetensors")["wte.weight"], adapter[1]["wte.weight"])
    adapters.discard(second)


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
        ({"init_lora_weights": "pissa_niter_16"}, 3, "an adapter with init_lora_weights 'pissa_niter_16'", "unload"),
        ({"bias": "all"}, 3, "an adapter with bias", "merge_and_unload"),
        ({"lora_alpha": "x"}, 5, "'lora_alpha' is x", "mend it"),
        ({"lora_alpha": 10**400}, 5, "'lora_alpha' is 1000", "mend it"),
        ({"lora_alpha": float("nan")}, 5, "'lora_alpha' is nan", "mend it"),
        ({"lora_alpha": True}, 5, "'lora_alpha' is True", "mend it"),
        ({"alpha_pattern": ["c_attn"]}, 5, "'alpha_pattern' is no object", "mend it"),
        ({"alpha_pattern": {r"h\.[01]\.attn": 4}}, 3, "more than LoRA", "merge_and_unload"),
        ({"base_model_name_or_path": "a" * 5000}, 3, "holds an adapter, and its base", "put the base beside it"),
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


def of_rank_zero(tensors):
    return {name: value[:0] if "lora_A" in name else value[:, :0] for name, value in tensors.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_rank_zero, "has shape [0, 32]"),
        (lambda tensors: dict.fromkeys(tensors, np.array(1, np.float32)), "has shape []"),
        (lambda tensors: {name: value.astype(np.int64) for name, value in tensors.items()}, "is of the type int64"),
        (lambda tensors: {name: value * np.inf for name, value in tensors.items()}, "holds NaN or infinity"),
        (lambda tensors: {name: value.astype(np.float64) * 1e300 for name, value in tensors.items()}, "holds NaN"),
    ],
    ids=["no rank", "numbers", "integers", "infinity", "beyond float32"],
)
def test_tensors_that_no_adapter_has_are_refused(adapter, run, change, message):
    path = adapter[0] / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)
    assert_error(run("generate", "-m", adapter[0], "x"), 5, f"{path}: ", message)


def header(path, shape, kind, size, more=b""):
    """A file with one tensor of this type and shape, of which nothing takes room on the disk."""
    name = "base_model.model.transformer.h.0.attn.c_attn.lora_{}.weight"
    entries = {
        name.format("A"): {"dtype": kind, "shape": shape, "data_offsets": [0, size]},
        name.format("B"): {"dtype": kind, "shape": [96, 4], "data_offsets": [size, size + 96 * 4]},
    }
    text = json.dumps(entries).encode() + more
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with path.open("r+b") as file:
        file.truncate(8 + len(text) + size + 96 * 4)


@pytest.mark.skipif(os.name != "posix", reason="files with holes")
def test_a_tensor_of_no_use_is_not_read(adapter, run):
    """Of a hundred gigabytes, which are not there, only the shape."""
    path = adapter[0] / "adapter_model.safetensors"
    header(path, [4, 25_000_000_000], "I8", 100_000_000_000)
    assert_error(run("generate", "-m", adapter[0], "x"), 5, "has shape [4, 25000000000]", "another base")


def test_a_type_that_numpy_has_not(adapter, run):
    path = adapter[0] / "adapter_model.safetensors"
    header(path, [4, 32], "F8_E4M3", 4 * 32)
    assert_error(run("generate", "-m", adapter[0], "x"), 5, "is of the type F8_E4M3", "float32")


def test_a_header_that_is_no_adapter_s_is_not_read(adapter, run):
    path = adapter[0] / "adapter_model.safetensors"
    header(path, [4, 32], "I8", 4 * 32, more=b" " * 5_000_000)
    assert_error(run("generate", "-m", adapter[0], "x"), 5, "header of 5")


@pytest.mark.parametrize("bases", [[".", "."], ["../other", "../adapter"]], ids=["itself", "each other"])
def test_adapters_whose_base_they_are_themselves(adapter, run, tmp_path, bases):
    folder, _ = adapter
    shutil.copytree(folder, tmp_path / "other")
    for place, base in zip((folder, tmp_path / "other"), bases, strict=True):
        (place / "config.json").write_bytes((tmp_path / "base/config.json").read_bytes())
        (place / "adapter_config.json").write_text(json.dumps(BASE | {"base_model_name_or_path": base}))
    assert_error(run("generate", "-m", folder, "x"), 5, "an adapter that is its own base", "base_model_name_or_path")


def test_the_first_pattern_that_matches_counts(adapter, run, tmp_path):
    """As in PEFT."""
    folder, _ = adapter
    made = []
    names = ["transformer.h.0.attn.c_attn", "h.1.attn.c_attn"]
    for patterns in ({"c_attn": 3}, {"c_attn": 3, "attn.c_attn": 5}, dict.fromkeys(names, 3)):
        write(tmp_path, base_model_name_or_path=str(tmp_path / "base"), alpha_pattern=patterns)
        assert run("export", folder, tmp_path / str(len(made)), "--precision", "fp32").code == 0
        made.append((tmp_path / str(len(made)) / "weights.safetensors").read_bytes())
    assert made[0] == made[1] == made[2]
