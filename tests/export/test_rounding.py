"""Which matrices are rounded how, and channels that are balanced first."""

import hard
import numpy as np
import pytest
from checkpoints import make_checkpoint
from engines import MIXED, mixed

from gpt2cli.engine import runtime
from gpt2cli.engine.engine import Engine
from gpt2cli.export import reference
from gpt2cli.export.checkpoint import Checkpoint, read_config
from gpt2cli.export.export import export
from gpt2cli.export.rounding import Form, Rounding, Study, balanced
from gpt2cli.store import builds, quality

IDS = [5, 7, 250, 7, 99, 120, 3, 44]
CHANGES = {
    "as it is": lambda found, random: None,
    "heavy tails": lambda found, random: hard.stretched(found, random, hard.student),
    "enormous channels": lambda found, random: hard.stretched(found, random, hard.outliers),
    "large at the first position": lambda found, random: hard.offset(found, random, 300, everywhere=False),
    "large everywhere": lambda found, random: hard.offset(found, random, 30, everywhere=True),
    "all at once": lambda found, random: [
        hard.stretched(found, random, hard.student),
        hard.stretched(found, random, hard.outliers),
        hard.offset(found, random, 300, everywhere=False),
    ],
}


def random_factors(random, count):
    inputs, rows = np.exp(random.normal(0, 3, (2, count)))
    return balanced(inputs, rows, 0.5)


def test_what_is_balanced_is_the_same_product():
    """Bit for bit: the factors are powers of two."""
    random = np.random.default_rng(0)
    factors = random_factors(random, 64)
    assert set(np.frexp(factors)[0]) == {0.5}
    assert factors.max() / factors.min() > 16
    x, weight = random.normal(size=(5, 64)).astype(np.float32), random.normal(size=(64, 33)).astype(np.float32)
    assert np.array_equal((x / factors) @ (weight * factors[:, None]), x @ weight)


def test_channels_of_which_nothing_is_known_stay():
    inputs, rows = np.array([0, 1, np.inf, 4, 1]), np.array([1, 0, 1, 1, 1])
    assert balanced(inputs, rows, 1).tolist()[:3] == [1, 1, 1]
    assert (balanced(np.zeros(3), np.ones(3), 0.5) == 1).all()


@pytest.mark.parametrize("tied", [True, False])
def test_a_balanced_export_holds_the_same_weights(tmp_path, tied):
    """Read back, they are those of the checkpoint, but for their rounding; the embedding and a tied head are one."""
    config, _ = make_checkpoint(tmp_path / "c", tie_word_embeddings=tied)
    (tmp_path / "e").mkdir()
    MIXED.export(tmp_path / "c", tmp_path / "e")
    one, other = Checkpoint(tmp_path / "c"), Checkpoint(tmp_path / "e")
    assert other.tied == tied
    table = "wte.weight" if tied else "lm_head.weight"
    shape = config["vocab_size"], config["n_embd"]
    np.testing.assert_allclose(other.tensor(table, shape), one.tensor(table, shape), atol=0.05)
    right, rounded = (reference.logits(opened, IDS, every=True) for opened in (one, other))
    assert np.sqrt(((right - rounded) ** 2).mean()) < 0.03 * right.std()


def test_each_matrix_has_its_form(tmp_path):
    make_checkpoint(tmp_path / "c", tie_word_embeddings=False)
    (tmp_path / "e").mkdir()
    MIXED.export(tmp_path / "c", tmp_path / "e")
    stored = Checkpoint(tmp_path / "e")
    for name, form in mixed(read_config(tmp_path / "c")).finer.items():
        kind = "int8" if form.weight_bits == 7 else "uint8"
        assert f"{name}.{kind}" in stored, name
    assert "wte.weight.uint8" in stored  # it is looked up: 8 bits cost nothing
    assert Engine(tmp_path / "e").facts.settled


def test_the_study_finds_what_hurts():
    """A matrix that one channel of its inputs rules is worse than one without, and is mended by balancing."""
    random = np.random.default_rng(1)
    x, weight = random.normal(size=(40, 64)).astype(np.float32), random.normal(size=(64, 96)).astype(np.float32)
    spiky, taken_back = x.copy(), weight.copy()
    spiky[:, 5] *= 512
    taken_back[5] /= 512
    study = Study()
    study("h.0.attn.c_attn.weight", x, weight, x @ weight, None)
    study("h.0.mlp.c_fc.weight", spiky, taken_back, spiky @ taken_back, None)
    study("h.0.mlp.c_proj.weight", spiky, taken_back, spiky @ taken_back, np.zeros((40, 96), np.float32))
    assert "h.0.attn.c_attn.weight" not in study.factors  # there was nothing to gain
    assert study.factors["h.0.mlp.c_fc.weight"][5] >= 64
    first, *_, last = study.roundings(saturates=False)
    assert (first.form, first.finer) == (Form(8, 8), {})
    assert last.form == Form(8, 16)
    finer = [rounding.finer for rounding in study.roundings(saturates=False) if rounding.finer]
    assert finer[0] == {"h.0.mlp.c_proj.weight": Form(8, 16)}  # no norm stands before it
    assert {rounding.form.weight_bits for rounding in study.roundings(saturates=True)} == {7, 8}


@pytest.mark.long
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_hard_checkpoints_pass_the_gate(tmp_path, change):
    """In int8, with the slow form for no more than a third of the matrices."""
    found = hard.tensors()
    change(found, np.random.default_rng(0))
    hard.write(tmp_path / "c", found)
    folder = tmp_path / "e"
    folder.mkdir()
    passed = builds._export(tmp_path / "c", folder, "int8", lambda *_: None)
    assert passed.passed, passed
    counts = {(form["weight_bits"], form["activation_bits"]): form["matrices"] for form in passed.forms}
    assert counts.get((8, 16), 0) <= sum(counts.values()) / 3, counts


@pytest.mark.parametrize("change", [CHANGES["heavy tails"], CHANGES["enormous channels"]])
def test_they_do_not_pass_without(tmp_path, change):
    """What makes them hard is undone by balancing alone."""
    found = hard.tensors()
    change(found, np.random.default_rng(0))
    hard.write(tmp_path / "c", found)
    (tmp_path / "e").mkdir()
    gate = quality.Gate(tmp_path / "c", tmp_path / "e", "int8")
    rounding = Rounding(Form(8, 8), unsigned=runtime.saturates())
    for _ in export(tmp_path / "c", tmp_path / "e", "int8", rounding):
        pass
    assert gate.measure(tmp_path / "e", rounding).kl > 10 * quality.MOST_KL


def test_without_a_tokenizer_the_gate_measures_on_what_the_model_writes(tmp_path, monkeypatch, run):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    make_checkpoint(tmp_path / "c", tokenizer=False)
    shown = run("export", tmp_path / "c", tmp_path / "out", "--json")
    assert shown.code == 0, shown.stderr
    assert '"text": "sampled"' in shown.stdout
    assert "measured on text of its own" in (tmp_path / "out/README.md").read_text()
