"""The gate, the schemes that it chooses from, and what `auto` makes of it."""

import json
import re
from collections import Counter

import hard
import numpy as np
import onnx
import onnxruntime
import oracle
import pytest
from checkpoints import SMALL, make_checkpoint, random_tensors
from conftest import assert_error

from gpt2cli.engine import runtime
from gpt2cli.engine.engine import Engine
from gpt2cli.export.checkpoint import Checkpoint
from gpt2cli.export.export import export
from gpt2cli.export.quantize import BLOCK, from_int4, to_int4
from gpt2cli.export.rounding import Form, Rounding
from gpt2cli.store import builds, quality, sources, store

IDS = [5, 7, 250, 7, 99, 120, 3, 44]


def exported(source, folder, precision, *form, **more):
    """`form`: bits of weights, and of activations."""
    folder.mkdir()
    for _ in export(source, folder, precision, Rounding(Form(*form), **more)):
        pass
    return Engine(folder)


def outliers(tensors):
    """What trained GPT-2s have and random ones lack: a few channels of the residual stream that are enormous at the
    first position and large elsewhere (Dettmers et al. 2022, LLM.int8)."""
    tensors["wpe.weight"][0, [3, 17]] = (900, -600)
    tensors["wte.weight"][:, [3, 17]] += (8, -6)
    return tensors


@pytest.mark.parametrize("shape", [(32, 5), (96, 40), (20, 7), (33, 3), (1, 1)])
def test_int4_is_the_nearest_of_its_grid(shape):
    weight = np.random.default_rng(0).standard_normal(shape, np.float32)
    weight[:, 0] = 0
    packed, scales = to_int4(weight)
    blocks = -(-shape[0] // BLOCK)
    assert (packed.shape, scales.shape) == ((shape[1], blocks, BLOCK // 2), (shape[1], blocks))
    back = from_int4(packed, scales, shape[0])
    assert back.shape == shape
    assert (back[:, 0] == 0).all()
    step = np.abs(np.repeat(scales.T, BLOCK, axis=0)[: shape[0]])
    inside = np.abs(weight) <= 7 * step
    assert (np.abs(back - weight) <= step / 2 + 1e-6)[inside].all()
    assert np.abs(back - weight).max() <= np.abs(weight).max() / 4


@pytest.mark.parametrize(
    ("precision", "bits", "error"),
    [("int8", (8, 8), 0.08), ("int8", (7, 8), 0.12), ("int8", (8, 16), 0.08), ("int4", (8, 8), 0.8)],
)
@pytest.mark.parametrize("change", [lambda tensors: tensors, outliers])
def test_every_scheme_is_near_the_oracle(tmp_path, precision, bits, error, change):
    """Also with outliers, by which a scale for all rows together would be ruined: the error of the other rows then is
    of the order of the logits themselves."""
    config, tensors = make_checkpoint(tmp_path / "c", tensors=change(random_tensors(SMALL)))
    expected = oracle.forward(tensors, config, IDS)
    found = exported(tmp_path / "c", tmp_path / "e", precision, *bits)
    got = found.feed([IDS], every=True)
    spread = expected.std(axis=1)
    assert (np.sqrt(((got - expected) ** 2).mean(axis=1)) < error * spread).all()


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_rows_and_chunks_of_quantised_graphs_agree(tmp_path, precision):
    """int8 rows do not see each other: bit for bit. MatMulNBits adds in another order for several rows."""
    make_checkpoint(tmp_path / "c")
    one = exported(tmp_path / "c", tmp_path / "e", precision, 7)
    whole = one.feed([IDS], every=True)
    one.reset()
    steps = np.concatenate([one.feed([[token]]) for token in IDS])
    np.testing.assert_allclose(steps, whole, atol=0.05)
    one.reset()
    one.select([0, 0, 0])
    batch = one.feed([[5], [7], [9]])
    one.reset()
    single = one.feed([[7]])
    np.testing.assert_allclose(batch[1], single[0], atol=0 if precision == "int8" else 1e-5)


@pytest.mark.parametrize("activation_bits", [8, 16])
def test_unsigned_weights_are_the_signed_ones(tmp_path, activation_bits):
    """Bit for bit, and read back as a checkpoint; and they open as they are to be run."""
    config, _ = make_checkpoint(tmp_path / "c", tie_word_embeddings=False)
    signed = exported(tmp_path / "c", tmp_path / "s", "int8", 8, activation_bits)
    unsigned = exported(tmp_path / "c", tmp_path / "u", "int8", 8, activation_bits, unsigned=True)
    assert (signed.facts.settled, unsigned.facts.settled) == (False, True)
    assert np.array_equal(signed.feed([IDS], every=True), unsigned.feed([IDS], every=True))
    shape = config["vocab_size"], config["n_embd"]
    for table in ("wte.weight", "lm_head.weight"):
        one, other = (Checkpoint(tmp_path / name).tensor(table, shape) for name in "su")
        assert np.array_equal(one, other)
    assert not Checkpoint(tmp_path / "u").tied
    assert builds.own_precision(tmp_path / "u") == "int8"


@pytest.mark.parametrize("form", [("fp32", (), {}), ("int8", (7,), {}), ("int8", (), {"unsigned": True})])
def test_a_settled_graph_leaves_onnx_runtime_nothing_to_do(tmp_path, form):
    """The nodes are those that its optimisers leave: it is opened without them."""
    make_checkpoint(tmp_path / "c")
    assert exported(tmp_path / "c", tmp_path / "e", form[0], *form[1], **form[2]).facts.settled
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(tmp_path / "e/model.onnx", options)
    before, after = (
        Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)
        for path in (tmp_path / "e/model.onnx", tmp_path / "optimised.onnx")
    )
    assert before == after


def test_seven_bits_never_saturate(tmp_path):
    """The largest products there are, on whichever kernels this processor has."""
    tensors = random_tensors(SMALL)
    for name, value in tensors.items():
        if name.endswith("c_fc.weight"):
            value[:] = np.sign(value) * 0.02
    config, tensors = make_checkpoint(tmp_path / "c", tensors=tensors)
    expected = oracle.forward(tensors, config, IDS)
    got = exported(tmp_path / "c", tmp_path / "e", "int8", 7).feed([IDS], every=True)
    assert (np.sqrt(((got - expected) ** 2).mean(axis=1)) < 0.06 * expected.std(axis=1)).all()
    assert isinstance(runtime.saturates(), bool)


def test_kl_and_perplexity_by_hand():
    expected = np.log(np.array([[0.5, 0.5], [0.9, 0.1]], np.float32)) + 3
    got = np.log(np.array([[0.25, 0.75], [0.9, 0.1]], np.float32)) - 5
    found = quality.compare(expected, got, [0, 1], "calibration", [])
    assert found.perplexity_fp32 == pytest.approx((0.5 * 0.1) ** -0.5, rel=1e-5)
    assert found.perplexity == pytest.approx((0.25 * 0.1) ** -0.5, rel=1e-5)
    assert found.kl == pytest.approx((0.5 * np.log(2) + 0.5 * np.log(0.5 / 0.75)) / 2, rel=1e-5)
    assert found.top1 == 0.5
    assert not found.passed


def test_of_a_short_text_the_difference_is_known_so_well():
    """A loss that is higher by 0.02 passes where it varies so much from token to token, and not where it does not."""
    random = np.random.default_rng(0)
    expected = random.normal(size=(64, 50)).astype(np.float32)
    targets = expected.argmax(axis=1)
    for noise, passed in ((0.0, False), (0.2, True)):
        got = expected.copy()
        got[np.arange(64), targets] -= 0.025 + noise * np.where(np.arange(64) % 2, 1, -1).astype(np.float32)
        found = quality.compare(expected, got, targets.tolist(), "calibration", [])
        assert 0.01 < found.loss - found.loss_fp32 < 0.06
        assert (found.loss_error > 0.01) == passed
        assert found.kl < quality.MOST_KL
        assert found.passed == passed, found


def test_auto_is_int8_where_that_passes(checkpoint, tmp_path, monkeypatch, run):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path))
    source = sources.resolve(str(checkpoint))
    found = builds.read(store.ensure(source).folder)
    assert (found.precision, found.quality.passed, found.quality.tokens) == ("int8", True, 63)
    assert store.ensure(source).folder == found.folder
    shown = run("show", checkpoint).stdout
    assert "passes the gate: perplexity" in shown
    assert re.search(r"matrices rounded: \d+ to [78] bits", shown)
    facts = json.loads(run("show", checkpoint, "--json").stdout)["exports"][0]["quality"]
    assert facts["kl"] == found.quality.kl
    assert facts["passed"]


@pytest.mark.long
def test_auto_is_fp32_where_nothing_passes(checkpoint, tmp_path, monkeypatch, run):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path))
    monkeypatch.setattr(quality, "MOST_KL", 0.0)
    result = run("generate", "-m", checkpoint, "-n", 1, "x", "--json")
    assert json.loads(result.stdout)["precision"] == "fp32"
    assert "int8 does not pass the quality gate" in result.stderr
    (int8,) = [one for one in builds.cached() if one.precision == "int8"]
    assert [(form["weight_bits"], form["activation_bits"]) for form in int8.quality.forms] == [
        (8, 16)
    ]  # the best form was tried
    again = run("generate", "-m", checkpoint, "-n", 1, "x", "--json")  # nothing is made again
    assert json.loads(again.stdout)["precision"] == "fp32"
    assert again.stderr == ""
    # what nobody will run is not kept
    assert int8.files == {}
    assert [path.name for path in int8.folder.iterdir()] == ["export.json"]
    assert re.search(r"int8  not kept .*\n +does not pass the gate: ", run("show", checkpoint).stdout)
    assert [line for line in run("verify", checkpoint).stdout.splitlines() if "int8" in line] == []
    (row,) = [line for line in run("list").stdout.splitlines() if "checkpoint" in line]
    assert "fp32: " in row
    assert "int8" not in row
    explicit = run("generate", "-m", checkpoint, "-n", 1, "x", "--json", "--precision", "int8")
    assert json.loads(explicit.stdout)["precision"] == "int8"
    assert builds.read(int8.folder).files
    assert json.loads(run("generate", "-q", "-m", checkpoint, "-n", 1, "x", "--json").stdout)["precision"] == "fp32"


@pytest.mark.long
def test_what_the_gate_did_not_pass_is_sound_all_the_same(tmp_path, monkeypatch, run):
    """The self-test looks for damage: what rounding costs has been told."""
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    found, random = hard.tensors(), np.random.default_rng(0)
    hard.stretched(found, random, hard.outliers)
    hard.offset(found, random, 300, everywhere=False)
    hard.write(tmp_path / "c", found)
    pulled = run("pull", tmp_path / "c", "--precision", "int4")
    assert pulled.code == 0, pulled.stderr
    assert "int4 does not pass the quality gate" in pulled.stderr
    assert "the int4 export is sound" in run("verify", tmp_path / "c").stdout
    assert run("export", "-q", tmp_path / "c", tmp_path / "out", "--precision", "int4").code == 0
    assert run("verify", tmp_path / "out").code == 0
    assert list(tmp_path.glob(".out*")) == []
    (tmp_path / "e").mkdir()
    engine = exported(tmp_path / "c", tmp_path / "e/4", "int4")
    ids = engine.any_ids(12)
    exact = oracle.forward(found, json.loads((tmp_path / "c/config.json").read_text()), ids)[-1]
    assert (engine.feed([ids])[0] - exact).std() > 0.3 * exact.std()  # else the self-test would have passed anyway


@pytest.mark.parametrize("size", [0, 1, 40])
def test_where_all_tokens_are_as_likely_nothing_is_damaged(tmp_path, run, monkeypatch, size):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    tensors = random_tensors(SMALL)
    tensors["wte.weight"][:] = size * tensors["wte.weight"][0]
    make_checkpoint(tmp_path / "c", tensors=tensors)
    assert run("pull", "-q", tmp_path / "c").code == 0


def test_damage_is_found_in_weights_that_fit_the_file(tmp_path, run, monkeypatch):
    """The graph of one model beside the weights of another that are stored the other way round."""
    make_checkpoint(tmp_path / "c")
    for precision in ("fp32", "int8"):
        exported(tmp_path / "c", tmp_path / precision, precision)
        model = onnx.load(tmp_path / precision / "model.onnx", load_external_data=False)
        for node in model.graph.node:
            if node.op_type == "GroupQueryAttention":
                next(one for one in node.attribute if one.name == "scale").f *= -3
        onnx.save(model, tmp_path / precision / "model.onnx")
        assert "self-test" in run("verify", tmp_path / precision).stderr


def test_a_text_of_its_own_does_not_run_dry(tmp_path):
    """A model that says but its end token, or another one for ever, has no text that would tell of rounding."""
    tensors = random_tensors(SMALL)
    tensors["ln_f.bias"] *= 40
    for token in (299, 7):
        tensors["wte.weight"][token] = tensors["ln_f.bias"] * (2 if token == 299 else 1)
    make_checkpoint(tmp_path / "c", tensors=tensors, tokenizer=False)
    (tmp_path / "e").mkdir()
    ids = quality._sampled(tmp_path / "c", tmp_path / "e", 64)
    assert len(ids) == 64
    assert 299 not in ids[1:]
    assert ids.count(7) > 50
    assert len(set(ids)) >= 4


def test_one_process_at_a_time_writes_an_export(checkpoint, tmp_path, run):
    from gpt2cli.store import locks

    with locks.unless_held(tmp_path / ".out.gpt2-lock"):
        assert_error(run("export", "-q", checkpoint, tmp_path / "out"), 7, "another process is writing")
    assert run("export", "-q", checkpoint, tmp_path / "out").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_int4_is_used_only_when_it_is_asked_for(checkpoint, tmp_path, monkeypatch, run):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path))
    result = run("generate", "-m", checkpoint, "-n", 1, "x", "--json", "--precision", "int4")
    assert json.loads(result.stdout)["precision"] == "int4"
    assert "int4 does not pass" in result.stderr
    assert json.loads(run("generate", "-m", checkpoint, "-n", 1, "x", "--json").stdout)["precision"] == "int8"


def test_an_int4_export_can_be_read_back(checkpoint, tmp_path):
    exported(checkpoint, tmp_path / "e", "int4")
    four = exported(tmp_path / "e", tmp_path / "f", "fp32").feed([IDS], every=True)
    rounded = Engine(tmp_path / "e").feed([IDS], every=True)
    assert np.sqrt(((four - rounded) ** 2).mean()) < 0.05 * four.std()


def overflowing(folder):
    """Finite, and so are its logits; but the span of a row of activations is not, which rounding needs."""
    tensors = random_tensors(SMALL)
    for layer in range(SMALL["n_layer"]):
        tensors[f"h.{layer}.mlp.c_fc.bias"][:2] = 2.5e38, -2.5e38
        tensors[f"h.{layer}.mlp.c_proj.weight"][:2] = 0
    make_checkpoint(folder, tensors=tensors, activation_function="linear")


def test_a_form_that_overflows_does_not_pass(tmp_path, monkeypatch, run):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    overflowing(tmp_path / "c")
    result = run("generate", "-m", tmp_path / "c", "-n", 3, "x", "--json")
    assert result.code == 0, result.stderr
    assert json.loads(result.stdout)["precision"] == "fp32"
    assert "int8 does not pass the quality gate: its logits are not finite" in result.stderr
    shown = [one for one in json.loads(run("show", tmp_path / "c", "--json").stdout)["exports"] if one["quality"]]
    assert shown[0]["quality"]["kl"] is None
    assert run("generate", "-q", "-m", tmp_path / "c", "-n", 3, "x", "--precision", "int8").code == 5
    assert run("export", "-q", tmp_path / "c", tmp_path / "out").code == 0


def test_losses_of_any_size_are_told(checkpoint):
    expected = np.array([[0.0, 5000.0]], np.float32)
    found = quality.compare(expected, expected, [0], "calibration", [])
    assert found.passed
    assert json.loads(json.dumps(found.perplexity)) > 1e300


def test_columns_of_the_smallest_numbers(recwarn):
    from gpt2cli.export.quantize import column_scales, to_int8

    weight = np.full((32, 2), 1e-44, np.float32)
    assert (to_int8(weight, column_scales(weight)) == 0).all()
    packed, scales = to_int4(weight)
    assert np.abs(from_int4(packed, scales, 32)).max() < 1e-40
    assert not recwarn.list


def test_an_exported_folder_says_what_it_costs(run, checkpoint, tmp_path):
    result = run("export", checkpoint, tmp_path / "four", "--precision", "int4", "--json")
    assert json.loads(result.stdout)["quality"]["kl"] > 0
    assert "int4 does not pass the quality gate" in result.stderr
    assert "KL 0." in (tmp_path / "four/README.md").read_text()
