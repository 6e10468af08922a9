"""Whatever a GPT-2 checkpoint looks like, the exported graph computes what the oracle computes."""

import json
import os
import re
import shutil
from math import prod

import numpy as np
import onnx
import oracle
import pytest
from checkpoints import SMALL, make_checkpoint, random_tensors
from conftest import assert_error
from safetensors.numpy import load_file

from gpt2cli.engine.engine import Engine
from gpt2cli.errors import CorruptFile, StorageError, UnknownModel
from gpt2cli.export.checkpoint import Checkpoint
from gpt2cli.export.export import export
from gpt2cli.export.graph import ACTIVATIONS
from gpt2cli.export.rounding import Form, Rounding
from gpt2cli.store import builds
from gpt2cli.store.choice import Choice, Listener
from gpt2cli.store.sources import resolve
from gpt2cli.store.store import ensure

IDS = np.random.default_rng(7).integers(0, 299, 40).tolist()
FP32 = Choice("fp32")


def engine_of(folder, tmp_path, precision="fp32"):
    target = tmp_path / f"export-{precision}"
    target.mkdir()
    for _ in export(folder, target, precision):
        pass
    return Engine(target)


def logits_of(folder, tmp_path, precision="fp32"):
    return engine_of(folder, tmp_path, precision).feed([IDS], every=True)


VARIANTS = {
    "plain": {},
    "prefixed": {"prefix": "transformer."},
    "sharded": {"prefix": "transformer.", "shards": 3},
    "untied": {"tie_word_embeddings": False},
    "untied_prefixed": {"tie_word_embeddings": False, "prefix": "transformer."},
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
    "float64": {"dtype": "float64"},
    "unscaled_attention": {"scale_attn_weights": False},
    "inverse_layer_scale": {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    "epsilon": {"layer_norm_epsilon": 0.1},
    "inner": {"n_inner": 50},
    "inner_null": {"n_inner": None},
    "one_head": {"n_head": 1},
    "head_size_2": {"n_head": 16},
    "head_size_5": {"n_embd": 20},
    "head_size_1": {"n_embd": 6, "n_head": 6},
    "odd_everything": {"n_embd": 15, "n_head": 3, "n_inner": 7, "vocab_size": 303, "n_positions": 41},
    "one_layer": {"n_layer": 1},
    "stray_keys": {"rope_theta": 10000, "num_key_value_heads": 1, "sliding_window": 4, "hidden_act": "silu"},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_fp32_equals_oracle(changes, tmp_path):
    config, tensors = make_checkpoint(tmp_path / "c", tokenizer=False, **changes)
    expected = oracle.forward(tensors, config, IDS)
    assert np.abs(logits_of(tmp_path / "c", tmp_path) - expected).max() < 1e-4 * max(1, np.abs(expected).max() / 10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_equals_oracle(activation, tmp_path):
    config, tensors = make_checkpoint(tmp_path / "c", tokenizer=False, activation_function=activation)
    expected = oracle.forward(tensors, config, IDS)
    assert np.abs(logits_of(tmp_path / "c", tmp_path) - expected).max() < 1e-3


@pytest.mark.parametrize("name", ["plain", "untied", "head_size_5", "inner", "odd_everything", "inverse_layer_scale"])
def test_int8_is_its_numpy_simulation(name, tmp_path):
    config, tensors = make_checkpoint(tmp_path / "c", tokenizer=False, **VARIANTS[name])
    actual = logits_of(tmp_path / "c", tmp_path, "int8")
    fp32 = oracle.forward(tensors, config, IDS)
    simulated = oracle.forward(tensors, config, IDS, oracle.int8)

    def error(logits):
        return np.sqrt(((logits - fp32) ** 2).mean())

    assert 0.9 < error(actual) / error(simulated) < 1.1
    assert error(simulated) < 0.06 * fp32.std()


def test_16_bit_activations_leave_the_rounding_of_the_weights(tmp_path):
    config, tensors = make_checkpoint(tmp_path / "c", tokenizer=False)
    (tmp_path / "e").mkdir()
    for _ in export(tmp_path / "c", tmp_path / "e", "int8", Rounding(Form(8, 16))):
        pass
    actual = Engine(tmp_path / "e").feed([IDS], every=True)
    fp32 = oracle.forward(tensors, config, IDS)
    weights_only = oracle.forward(tensors, config, IDS, oracle.int8_weights)

    def error(logits):
        return np.sqrt(((logits - fp32) ** 2).mean())

    assert 0.98 < error(actual) / error(weights_only) < 1.02
    assert np.sqrt(((actual - weights_only) ** 2).mean()) < 0.05 * error(weights_only)


def test_int8_with_an_untied_embedding_reads_the_embedding_not_the_head(tmp_path):
    config, tensors = make_checkpoint(tmp_path / "c", tokenizer=False, tie_word_embeddings=False)
    fp32 = oracle.forward(tensors, config, IDS)
    assert np.corrcoef(logits_of(tmp_path / "c", tmp_path, "int8").ravel(), fp32.ravel())[0, 1] > 0.99


def test_int8_survives_saturating_products(tmp_path):
    """Weights and activations at their limits: x86 without VNNI would clip u8 x s8 sums at 16 bits."""
    config = {**SMALL, "n_layer": 1}
    tensors = {name: np.sign(value) * np.float32(0.5) for name, value in random_tensors(config).items()}
    make_checkpoint(tmp_path / "c", config, tensors=tensors, tokenizer=False)
    expected = oracle.forward(tensors, config, IDS, oracle.int8)
    assert np.abs(logits_of(tmp_path / "c", tmp_path, "int8") - expected).max() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8, np.bool_])
def test_mask_buffers_of_any_type_are_skipped(dtype, tmp_path):
    mask = np.tril(np.ones((1, 1, 64, 64))).astype(dtype)
    extra = {f"h.{n}.attn.bias": mask for n in range(2)} | {
        f"h.{n}.attn.masked_bias": np.array(-1e4, np.float32) for n in range(2)
    }
    config, tensors = make_checkpoint(tmp_path / "c", extra=extra, tokenizer=False)
    assert np.abs(logits_of(tmp_path / "c", tmp_path) - oracle.forward(tensors, config, IDS)).max() < 1e-4


def test_header_of_any_length_and_order_is_read(tmp_path):
    """Published files of 2022 have unpadded headers and tensors in arbitrary order."""
    config, tensors = make_checkpoint(tmp_path / "c", tokenizer=False)
    names, offset, entries, blobs = sorted(tensors, key=hash), 0, {}, []
    for name in names:
        blob = tensors[name].astype(np.float32).tobytes()
        entries[name] = {
            "dtype": "F32",
            "shape": list(tensors[name].shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        offset += len(blob)
        blobs.append(blob)
    header = json.dumps(entries).encode()
    header += b" " * ((3 - len(header)) % 8)
    assert len(header) % 8 == 3
    (tmp_path / "c/model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"".join(blobs))
    assert np.abs(logits_of(tmp_path / "c", tmp_path) - oracle.forward(tensors, config, IDS)).max() < 1e-4


def test_old_configs_with_n_ctx_only(tmp_path):
    config = {key: value for key, value in SMALL.items() if key != "n_positions"} | {"n_ctx": 64}
    make_checkpoint(tmp_path / "c", config, tensors=random_tensors(SMALL), tokenizer=False)
    assert engine_of(tmp_path / "c", tmp_path).window == 64


def test_an_end_token_outside_the_vocabulary_is_none(tmp_path):
    make_checkpoint(tmp_path / "c", tokenizer=False, eos_token_id=50256)
    assert engine_of(tmp_path / "c", tmp_path).facts.ends == ()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_checker_passes_and_weights_are_readable_safetensors(precision, checkpoint, tmp_path):
    from safetensors.numpy import load_file

    engine_of(checkpoint, tmp_path, precision)
    folder = tmp_path / f"export-{precision}"
    onnx.checker.check_model(str(folder / "model.onnx"))
    stored = load_file(folder / "weights.safetensors")
    graph = onnx.load(str(folder / "model.onnx")).graph  # reads the external data
    for tensor in graph.initializer:
        if tensor.name in stored:
            assert np.array_equal(onnx.numpy_helper.to_array(tensor), stored[tensor.name])
    assert set(stored) <= {tensor.name for tensor in graph.initializer}


def test_export_is_deterministic(checkpoint, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for _ in export(checkpoint, tmp_path / name, "int8"):
            pass
    for file in ("model.onnx", "weights.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_fp32_of_an_int8_export_is_its_dequantised_weights(tmp_path):
    """How the built-in model runs with --precision fp32: its file holds integers only."""
    config, tensors = make_checkpoint(tmp_path / "c", tokenizer=False)
    engine_of(tmp_path / "c", tmp_path, "int8")
    (tmp_path / "again").mkdir()
    engine = engine_of(tmp_path / "export-int8", tmp_path / "again")

    def rounded(weight):
        scale = np.abs(weight).max(0) / 127
        return np.rint(weight / scale) * scale

    for name, value in tensors.items():
        if value.ndim == 2 and name != "wpe.weight":
            tensors[name] = rounded(value.T).T if name == "wte.weight" else rounded(value)
    assert np.abs(engine.feed([IDS], every=True) - oracle.forward(tensors, config, IDS)).max() < 1e-3


@pytest.mark.parametrize("second", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("first", ["fp32", "int8", "int4"])
def test_an_export_whose_heads_were_filled_up_can_be_exported(first, second, tmp_path):
    """Heads of 5 are stored as heads of 8."""
    _, tensors = make_checkpoint(tmp_path / "c", tokenizer=False, n_embd=20)
    engine_of(tmp_path / "c", tmp_path, first)
    read = Checkpoint(tmp_path / f"export-{first}")
    for name in ("h.0.attn.c_attn.weight", "h.1.attn.c_attn.bias", "h.1.attn.c_proj.weight"):
        value = read.tensor(name, tensors[name].shape)
        assert np.abs(value - tensors[name]).max() <= (0 if first == "fp32" else 0.15) * np.abs(tensors[name]).max()
    (tmp_path / "again").mkdir()
    again = logits_of(tmp_path / f"export-{first}", tmp_path / "again", second)
    once = Engine(tmp_path / f"export-{first}").feed([IDS], every=True)
    assert np.sqrt(((again - once) ** 2).mean()) < (1e-5 if first == second == "fp32" else 0.5) * once.std()


# What strangers' checkpoints store otherwise than config.json says, as transformers reads it

OTHER = np.random.default_rng(9).normal(0, 0.5, (300, 32)).astype(np.float32)
UNTIED = SMALL | {"tie_word_embeddings": False}


def notes_of(run, folder, *argv):
    """The notes of the first use of a checkpoint; none of a second one."""
    first, again = (run("generate", "-m", folder, "--precision", "fp32", "-n", 1, "x", *argv) for _ in range(2))
    assert (first.code, again.code, again.stderr) == (0, 0, "")
    return [line for line in first.stderr.splitlines() if line.startswith(f"note: {folder}: ")]


def store(folder, tensors, kind):
    """Replace a checkpoint's weights: one file of safetensors or PyTorch, or two shards."""
    from safetensors.numpy import save_file
    from torchfiles import saved

    (folder / "model.safetensors").unlink(missing_ok=True)
    if kind == "safetensors":
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    elif kind == "bin":
        (folder / "pytorch_model.bin").write_bytes(saved(tensors))
    else:
        names = {name: f"model-{number % 2 + 1:05}-of-00002.safetensors" for number, name in enumerate(sorted(tensors))}
        for shard in set(names.values()):
            save_file({name: tensors[name] for name in tensors if names[name] == shard}, folder / shard)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


STORED = pytest.mark.parametrize("kind", ["safetensors", "bin", "shards"])


@STORED
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_stored_head_that_differs_is_kept(kind, prefix, tmp_path, run):
    _, tensors = make_checkpoint(tmp_path / "c")
    stored = {f"{prefix}{name}": value.astype(np.float32) for name, value in tensors.items()}
    store(tmp_path / "c", stored | {"lm_head.weight": OTHER}, kind)
    expected = oracle.forward(tensors | {"lm_head.weight": OTHER}, UNTIED, IDS)
    assert np.abs(logits_of(tmp_path / "c", tmp_path) - expected).max() < 1e-4
    (note,) = notes_of(run, tmp_path / "c")
    assert "another is stored" in note


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_an_export_keeps_the_head_that_differs(precision, tmp_path, run):
    """Its config.json still says that the head is tied: `verify` and another export go by what is stored."""
    make_checkpoint(tmp_path / "c", extra={"lm_head.weight": OTHER})
    result = run("export", tmp_path / "c", tmp_path / "e", "--precision", precision)
    assert result.code == 0, result.stderr
    assert result.stderr.count("another is stored") == 1
    assert not Checkpoint(tmp_path / "e").tied
    assert run("verify", "-q", tmp_path / "e").code == 0
    assert run("export", "-q", tmp_path / "e", tmp_path / "again", "--precision", "fp32").code == 0
    ids = IDS[:8]
    fp32 = Engine(tmp_path / "again").feed([ids], every=True)
    if precision == "fp32":
        config, tensors = make_checkpoint(
            tmp_path / "d", UNTIED, tensors=random_tensors(SMALL) | {"lm_head.weight": OTHER}
        )
        assert np.abs(fp32 - oracle.forward(tensors, config, ids)).max() < 1e-4


def test_exports_where_nothing_passes_the_gate_tell_once(tmp_path, run, monkeypatch):
    from gpt2cli.store import quality

    monkeypatch.setattr(quality, "MOST_KL", -1)
    make_checkpoint(tmp_path, extra={"lm_head.weight": OTHER})
    result = run("generate", "-m", tmp_path, "-n", 1, "x")
    assert "does not pass" in result.stderr
    assert result.stderr.count("another is stored") == 1


@STORED
def test_a_stored_copy_of_the_embedding_is_tied_without_a_word(kind, tmp_path, run):
    config, tensors = make_checkpoint(tmp_path / "c")
    stored = {name: value.astype(np.float32) for name, value in tensors.items()}
    store(tmp_path / "c", stored | {"lm_head.weight": stored["wte.weight"].copy()}, kind)
    assert Checkpoint(tmp_path / "c").tied
    assert np.abs(logits_of(tmp_path / "c", tmp_path) - oracle.forward(tensors, config, IDS)).max() < 1e-4
    assert notes_of(run, tmp_path / "c") == []


@STORED
@pytest.mark.parametrize("prefix", ["", "transformer.", "module.transformer."])
def test_a_tied_model_may_be_stored_by_its_heads_name(kind, prefix, tmp_path):
    """safetensors.torch.save_model keeps one name of two, the first by the alphabet."""
    config, tensors = make_checkpoint(tmp_path / "c")
    stored = {f"{prefix}{name}": value.astype(np.float32) for name, value in tensors.items()}
    stored[f"{prefix.removesuffix('transformer.')}lm_head.weight"] = stored.pop(f"{prefix}wte.weight")
    store(tmp_path / "c", stored, kind)
    assert np.abs(logits_of(tmp_path / "c", tmp_path) - oracle.forward(tensors, config, IDS)).max() < 1e-4


def test_a_head_of_its_own_is_no_embedding(tmp_path):
    tensors = random_tensors(UNTIED)
    del tensors["wte.weight"]
    make_checkpoint(tmp_path / "c", UNTIED, tensors=tensors)
    assert "wte.weight is missing" in refused(tmp_path / "c", CorruptFile)


def test_an_untied_model_without_a_head(tmp_path, run):
    _, tensors = make_checkpoint(tmp_path / "c", UNTIED, tensors=random_tensors(SMALL))
    assert np.abs(logits_of(tmp_path / "c", tmp_path) - oracle.forward(tensors, SMALL, IDS)).max() < 1e-4
    (note,) = notes_of(run, tmp_path / "c")
    assert "the embedding serves" in note


WRAPPERS = [
    *("module.", "_orig_mod.", "_fsdp_wrapped_module.", "base_model.model.", "model.", "module.module."),
    *("_orig_mod.module.", "module._orig_mod.", "model._orig_mod.", "_fsdp_wrapped_module._orig_mod.model."),
    *("pretrained_model.", "_forward_module.", "student.gpt."),  # of frameworks that nobody has heard of, too
]


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_what_wraps_a_model_is_taken_off(wrapper, prefix, tmp_path, run):
    tensors = random_tensors(SMALL)
    stored = {f"{wrapper}{prefix}{name}": value for name, value in tensors.items()}
    stored[f"{wrapper}lm_head.weight"] = OTHER
    make_checkpoint(tmp_path / "c")
    store(tmp_path / "c", stored, "safetensors")
    expected = oracle.forward(tensors | {"lm_head.weight": OTHER}, UNTIED, IDS)
    assert np.abs(logits_of(tmp_path / "c", tmp_path) - expected).max() < 1e-4
    wrapped, head = notes_of(run, tmp_path / "c")
    assert wrapper.split(".")[0] in wrapped
    assert "another is stored" in head


@pytest.mark.parametrize("mark", ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."])
def test_wrapped_blocks(mark, tmp_path):
    config, tensors = make_checkpoint(tmp_path / "c")
    stored = {re.sub(r"^(h\.\d+\.)", rf"\1{mark}", name): value.astype(np.float32) for name, value in tensors.items()}
    store(tmp_path / "c", stored, "safetensors")
    assert np.abs(logits_of(tmp_path / "c", tmp_path) - oracle.forward(tensors, config, IDS)).max() < 1e-4


def test_tensors_beside_the_model_are_not_the_model(tmp_path):
    """What a training script adds has no part in what wraps the model; a plain model is not wrapped."""
    tensors = random_tensors(SMALL)
    extra = {f"model.{name}": np.zeros_like(value) for name, value in tensors.items()} | {"v_head.weight": OTHER}
    config, tensors = make_checkpoint(tmp_path / "c", extra=extra, prefix="transformer.")
    assert np.abs(logits_of(tmp_path / "c", tmp_path) - oracle.forward(tensors, config, IDS)).max() < 1e-4


def test_a_second_model_of_another_name_is_not_the_model(tmp_path):
    tensors = random_tensors(SMALL)
    stored = {f"module.{name}": value for name, value in tensors.items()}
    config, _ = make_checkpoint(tmp_path / "c")
    store(tmp_path / "c", stored | {f"reference.{name}": value * 2 for name, value in tensors.items()}, "safetensors")
    assert np.abs(logits_of(tmp_path / "c", tmp_path) - oracle.forward(tensors, config, IDS)).max() < 1e-4


@pytest.mark.parametrize(
    ("twin", "words"),
    [("transformer.ln_f.bias", "ln_f.bias twice"), ("model.wpe.weight", "several models: model., module.")],
)
def test_names_that_mean_two_things(twin, words, tmp_path):
    tensors = random_tensors(SMALL)
    prefix = "module." if "wpe" in twin else ""
    make_checkpoint(tmp_path / "c")
    stored = {f"{prefix}{name}": value for name, value in tensors.items()}
    store(tmp_path / "c", stored | {twin: np.zeros(32, np.float32)}, "safetensors")
    assert words in refused(tmp_path / "c", CorruptFile)


BIASES = {
    "all": (".", "attn.c_attn, attn.c_proj, ln_1, ln_2, ln_f, mlp.c_fc, mlp.c_proj"),
    "norms": (r"ln_\w+\.bias", "ln_1, ln_2, ln_f"),
    "queries, keys and values": ("c_attn", "attn.c_attn"),
}


@pytest.mark.parametrize(("kind", "places"), BIASES.values(), ids=BIASES)
def test_models_without_biases(kind, places, tmp_path, run):
    tensors = random_tensors(SMALL)
    gone = [name for name in tensors if name.endswith(".bias") and re.search(kind, name)]
    stored = {name: value for name, value in tensors.items() if name not in gone}
    config, _ = make_checkpoint(tmp_path / "c", tensors=stored)
    expected = oracle.forward(tensors | {name: np.zeros_like(tensors[name]) for name in gone}, config, IDS)
    assert np.abs(logits_of(tmp_path / "c", tmp_path) - expected).max() < 1e-4
    (note,) = notes_of(run, tmp_path / "c")
    assert f"no biases of {places}:" in note


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", ["h.0.mlp.c_fc.bias", "h.0.ln_1.bias", "ln_f.bias", "h.0.attn.c_attn.bias"])
def test_a_single_missing_bias_is_missing(name, layers, tmp_path):
    tensors = random_tensors(SMALL | {"n_layer": layers})
    del tensors[name]
    make_checkpoint(tmp_path / "c", n_layer=layers, tensors=tensors)
    assert name in refused(tmp_path / "c", CorruptFile)


# What cannot be exported is refused, and nothing is left in the cache


def refused(folder, kind):
    with pytest.raises(kind) as caught:
        ensure(resolve(str(folder)), FP32)
    from gpt2cli import paths

    assert not paths.exports().exists() or not [path for path in paths.exports().iterdir() if path.name.startswith(".")]
    return caught.value.message


@pytest.mark.parametrize("kind", ["gpt_neo", "llama", "gptj", "biogpt", None])
def test_other_architectures_are_refused_by_name(kind, tmp_path):
    make_checkpoint(tmp_path / "c", model_type=kind, architectures=["Other"])
    assert (kind or "no named model type") in refused(tmp_path / "c", UnknownModel)


def test_a_classifier_is_refused(tmp_path):
    make_checkpoint(tmp_path / "c", architectures=["GPT2ForSequenceClassification"])
    assert "GPT2ForSequenceClassification" in refused(tmp_path / "c", UnknownModel)


def test_an_unknown_architecture_is_not_called_headless(tmp_path):
    make_checkpoint(tmp_path / "c", architectures=["GPT2LMHeadCustomModel"])
    message = refused(tmp_path / "c", UnknownModel)
    assert "GPT2LMHeadCustomModel, an architecture that gpt2 does not know" in message


FORMATS = {
    "adapter": (["adapter_config.json", "adapter_model.safetensors"], "an adapter", "merge_and_unload"),
    "gguf": (["gpt2.Q4_K_M.gguf", "README.md"], "a GGUF file", "checkpoint"),
    "nanoGPT": (["ckpt.pt"], "training script", "save_pretrained"),
    "Lightning": (["epoch=3.ckpt", "optimizer.pt"], "training script", "save_pretrained"),
    "DeepSpeed": (["mp_rank_00_model_states.pt"], "training script", "save_pretrained"),
    "TensorFlow": (["tf_model.h5"], "a TensorFlow checkpoint", "from_tf=True"),
    "OpenAI": (["checkpoint", "model.ckpt.index", "hparams.json"], "a TensorFlow checkpoint", "original_tf"),
    "Flax": (["flax_model.msgpack"], "a Flax checkpoint", "from_flax=True"),
}


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize(("names", "what", "hint"), FORMATS.values(), ids=FORMATS)
def test_other_formats_are_called_by_their_names(names, what, hint, configured, tmp_path, run):
    for name in names:
        (tmp_path / name).write_bytes(b"{}")
    if configured:
        (tmp_path / "config.json").write_text(json.dumps(SMALL))
    assert_error(run("generate", "-m", tmp_path, "x"), 3, what, names[0], hint)
    assert_error(run("export", tmp_path, tmp_path / "out"), 3, what, hint)


@pytest.mark.parametrize(("name", "what"), [("gpt2.gguf", "a GGUF file"), ("ckpt.pt", "training script")])
def test_a_file_of_another_format_in_a_folders_place(name, what, tmp_path, run):
    (tmp_path / name).write_bytes(b"GGUF")
    assert_error(run("generate", "-m", tmp_path / name, "x"), 3, f"{name}' is", what)


def test_the_folder_of_a_trainers_run_leads_to_its_checkpoints(tmp_path, run):
    for age, steps in enumerate((1000, 500, 250)):
        make_checkpoint(tmp_path / f"checkpoint-{steps}")
        os.utime(tmp_path / f"checkpoint-{steps}", (1e9 - age, 1e9 - age))
    (tmp_path / "optimizer.pt").touch()
    assert_error(run("generate", "-m", tmp_path, "x"), 3, "no config.json", f"'{tmp_path / 'checkpoint-1000'}'")


def test_an_adapter_in_the_weights_place_or_beside_them(tmp_path, run):
    make_checkpoint(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    (note,) = notes_of(run, tmp_path)
    assert "adapter" in note
    (tmp_path / "adapter_config.json").unlink()
    name = "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"
    store(tmp_path, {name: np.zeros((8, 32), np.float32)}, "safetensors")
    assert_error(run("generate", "-m", tmp_path, "x"), 3, "an adapter", "merge_and_unload")


def test_an_unknown_activation_is_refused(tmp_path):
    make_checkpoint(tmp_path / "c", activation_function="snake")
    assert "snake" in refused(tmp_path / "c", UnknownModel)


@pytest.mark.parametrize("size", [0, 7, 100, 2000, -1])
def test_truncated_safetensors(size, tmp_path):
    make_checkpoint(tmp_path / "c")
    path = tmp_path / "c/model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert "model.safetensors" in refused(tmp_path / "c", CorruptFile)


def test_garbage_safetensors(tmp_path):
    make_checkpoint(tmp_path / "c")
    (tmp_path / "c/model.safetensors").write_bytes(bytes(range(256)) * 100)
    refused(tmp_path / "c", CorruptFile)


def test_a_missing_tensor_is_named(tmp_path):
    tensors = random_tensors(SMALL)
    del tensors["h.1.mlp.c_fc.bias"]
    make_checkpoint(tmp_path / "c", tensors=tensors)
    assert "h.1.mlp.c_fc.bias" in refused(tmp_path / "c", CorruptFile)


def test_weights_of_another_architecture_are_no_download_gone_wrong(tmp_path, run):
    make_checkpoint(tmp_path)
    store(tmp_path, {"model.layers.0.mlp.up_proj.weight": OTHER, "model.embed_tokens.weight": OTHER}, "safetensors")
    result = run("generate", "-m", tmp_path, "x")
    assert_error(result, 3, "not GPT-2's", "model.embed_tokens.weight", "save_pretrained")
    assert "note:" not in result.stderr


def test_biases_of_missing_matrices_are_no_zeros(tmp_path, run):
    tensors = {name: value for name, value in random_tensors(SMALL).items() if "c_fc" not in name}
    make_checkpoint(tmp_path, tensors=tensors)
    result = run("generate", "-m", tmp_path, "--precision", "fp32", "x")
    assert (result.code, "h.0.mlp.c_fc.weight is missing" in result.stderr) == (5, True)
    assert "no biases" not in result.stderr


def test_a_tensor_of_the_wrong_shape_is_named(tmp_path):
    tensors = random_tensors(SMALL) | {"h.0.attn.c_proj.weight": np.zeros((32, 31), np.float32)}
    make_checkpoint(tmp_path / "c", tensors=tensors)
    message = refused(tmp_path / "c", CorruptFile)
    assert "h.0.attn.c_proj.weight" in message
    assert "[32, 31]" in message


@pytest.mark.skipif(os.name != "posix", reason="files with holes")
def test_a_tensor_of_the_wrong_shape_is_not_read(tmp_path):
    """Of a hundred gigabytes, which are not there, only the shape."""
    make_checkpoint(tmp_path)
    path, entries, place = tmp_path / "model.safetensors", {}, 0
    for name, value in load_file(path).items():
        rows = 800_000_000 if name == "wte.weight" else len(value)
        shape = [rows, *value.shape[1:]]
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [place, place := place + 4 * prod(shape)]}
    head = json.dumps(entries).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head)
    with path.open("r+b") as file:
        file.truncate(8 + len(head) + place)
    with pytest.raises(CorruptFile, match=r"wte\.weight in .* has shape \[800000000, 32\]"):
        Checkpoint(tmp_path).tensor("wte.weight", (300, 32))


def test_matrices_of_another_layout_are_called_so(tmp_path):
    """nanoGPT has torch.nn.Linear, which stores [out, in]."""
    tensors = random_tensors(SMALL)
    linear = {name: np.ascontiguousarray(value.T) for name, value in tensors.items() if name.startswith("h.")}
    make_checkpoint(tmp_path / "c", tensors=tensors | linear)
    assert "h.0.attn.c_attn.weight" in (message := refused(tmp_path / "c", CorruptFile))
    assert "torch.nn.Linear" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(value, tmp_path):
    tensors = random_tensors(SMALL)
    tensors["h.1.ln_2.weight"][3] = value
    make_checkpoint(tmp_path / "c", tensors=tensors)
    assert "h.1.ln_2.weight" in refused(tmp_path / "c", CorruptFile)


def test_a_missing_shard_is_named(tmp_path):
    make_checkpoint(tmp_path / "c", shards=3)
    (tmp_path / "c/model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003" in refused(tmp_path / "c", CorruptFile)


def test_an_index_larger_than_any_is_not_read(tmp_path):
    make_checkpoint(tmp_path / "c", shards=2)
    os.truncate(tmp_path / "c/model.safetensors.index.json", 1 << 30)
    assert "1,073,741,824 bytes are too many" in refused(tmp_path / "c", CorruptFile)


@pytest.mark.parametrize("name", ["../evil.safetensors", "/etc/passwd", "a/b.safetensors"])
def test_shards_stay_in_their_folder(name, tmp_path):
    make_checkpoint(tmp_path / "c", shards=2)
    index = tmp_path / "c/model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"wte.weight": name}}))
    refused(tmp_path / "c", CorruptFile)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_layer": -1},
        {"n_embd": "wide"},
        {"vocab_size": 1 << 60},
        {"n_head": 5},
        {"layer_norm_epsilon": None},
    ],
)
def test_impossible_configs(changes, tmp_path):
    make_checkpoint(tmp_path / "c", tokenizer=False)
    path = tmp_path / "c/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    refused(tmp_path / "c", CorruptFile)


@pytest.mark.parametrize("text", ["", "{", "[]", '"gpt2"', "\xff"])
def test_broken_config_json(text, tmp_path):
    make_checkpoint(tmp_path / "c")
    (tmp_path / "c/config.json").write_text(text, encoding="latin-1")
    refused(tmp_path / "c", CorruptFile)


def test_folders_that_are_no_checkpoint(tmp_path):
    assert "config.json" in refused(tmp_path, UnknownModel)
    make_checkpoint(tmp_path / "c")
    (tmp_path / "c/model.safetensors").rename(tmp_path / "c/pytorch_model.h5")
    assert "pytorch_model.bin" in refused(tmp_path / "c", UnknownModel)


def test_a_full_disk_is_noticed_before_writing(monkeypatch, tmp_path):
    make_checkpoint(tmp_path / "c")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert "are free" in refused(tmp_path / "c", StorageError)


def test_a_cache_that_cannot_be_written(checkpoint, run, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "file"))
    assert_error(run("generate", "-q", "-m", checkpoint, "the"), 7, "GPT2_CACHE")


def test_an_interrupted_export_leaves_nothing(checkpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path))

    def interrupt(title, done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure(resolve(str(checkpoint)), FP32, Listener(interrupt))
    assert list((tmp_path / "exports").iterdir()) == []


def test_an_export_is_made_once_and_again_when_the_checkpoint_changes(tmp_path):
    make_checkpoint(tmp_path / "c")
    seen = []
    listener = Listener(lambda *step: seen.append(step))
    first = ensure(resolve(str(tmp_path / "c")), FP32, listener)
    assert seen
    seen.clear()
    assert ensure(resolve(str(tmp_path / "c")), FP32, listener) == first
    assert not seen
    ensure(resolve(str(tmp_path / "c")), Choice("int8"))
    make_checkpoint(tmp_path / "c", seed=1)
    second = ensure(resolve(str(tmp_path / "c")), Choice("int8"))
    assert second != first
    mine = [one for one in builds.cached() if one.model == str(tmp_path / "c")]
    assert [one.folder for one in mine] == [second.folder]  # those of the old weights are gone, at every precision


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors"])
@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_damaged_exports_are_corrupt_not_a_crash(name, keep, checkpoint, tmp_path, run):
    engine_of(checkpoint, tmp_path)
    path = tmp_path / "export-fp32" / name
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    assert_error(run("generate", "-m", tmp_path / "export-fp32", "the"), 5, name if name == "model.onnx" else "")


def test_layers_beyond_the_configuration_are_not_dropped(tmp_path):
    make_checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"n_layer": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CorruptFile, match="more layers than the 1"):
        ensure(resolve(str(tmp_path)), FP32)


def test_types_that_numpy_has_not(tmp_path):
    make_checkpoint(tmp_path)
    data = (tmp_path / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    start, end = header["wte.weight"]["data_offsets"]
    header["wte.weight"] |= {"dtype": "F8_E4M3", "shape": [end - start]}
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    with pytest.raises(CorruptFile, match=r"wte\.weight"):
        ensure(resolve(str(tmp_path)), FP32)


def test_a_link_to_nowhere(tmp_path, run):
    make_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    assert_error(run("generate", "-q", "-m", tmp_path, "x"), 5, "model.safetensors")


def test_a_tokenizer_that_is_a_folder_is_not_the_caches_fault(tmp_path, run):
    make_checkpoint(tmp_path, tokenizer=False)
    (tmp_path / "tokenizer.json").mkdir()
    assert_error(run("generate", "-q", "-m", tmp_path, "x"), 5, "tokenizer.json")


def test_a_long_folder_name(tmp_path):
    make_checkpoint(tmp_path / ("n" * 250))
    assert (ensure(resolve(str(tmp_path / ("n" * 250))), FP32).folder / "model.onnx").exists()


def test_an_export_that_somebody_emptied_is_made_again(tmp_path):
    make_checkpoint(tmp_path)
    folder = ensure(resolve(str(tmp_path)), FP32).folder
    (folder / "model.onnx").unlink()
    assert ensure(resolve(str(tmp_path)), FP32).folder == folder
    assert (folder / "model.onnx").exists()
    assert [path.name for path in folder.parent.glob(f".*{folder.name}*")] == []


def test_an_export_of_another_version_is_refused(checkpoint, tmp_path):
    for _ in export(checkpoint, tmp_path, "fp32"):
        pass
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    facts = json.loads(model.metadata_props[0].value) | {"version": 999}
    model.metadata_props[0].value = json.dumps(facts)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(CorruptFile, match="another version"):
        Engine(tmp_path)
