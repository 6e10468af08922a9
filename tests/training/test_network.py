"""The network: its losses and gradients are those of plain PyTorch, of transformers, and of the engine."""

import json

import numpy as np
import pytest
from checkpoints import SMALL, make_checkpoint
from oracle import forward
from runs import finished
from safetensors.numpy import load_file

pytest.importorskip("torch")

import torch
from torch.nn import functional

from gpt2cli.export.adapter import merge
from gpt2cli.export.checkpoint import Checkpoint
from gpt2cli.training import start
from gpt2cli.training.lora import LoRA, adapt, save_adapter
from gpt2cli.training.network import IGNORED, Network, loss_sum, tensors_of, weights_from
from gpt2cli.training.training import Step

pytestmark = pytest.mark.train

KINDS = [{}, {"tie_word_embeddings": False}, {"activation_function": "relu", "n_inner": 40}]
SCALES = [{"scale_attn_by_inverse_layer_idx": True}, {"scale_attn_weights": False}]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network_of(folder, **options):
    checkpoint = Checkpoint(folder)
    network = Network(checkpoint.config, tied=checkpoint.tied, **options)
    weights_from(network, checkpoint)
    return network


def batch(rows=3, length=20, seed=0):
    ids = torch.from_numpy(np.random.default_rng(seed).integers(0, 300, (rows, length + 1)))
    targets = ids[:, 1:].clone()
    targets[0, :5] = IGNORED
    return ids[:, :-1], targets


def test_the_loss_in_parts_has_the_gradients_of_plain_autograd(monkeypatch):
    torch.manual_seed(1)
    hidden, head = torch.randn(200, 16), torch.randn(1 << 17, 16)  # so large that it is cut
    targets = torch.randint(0, 1 << 17, (200,))
    targets[::3] = IGNORED
    found = []
    for loss in (loss_sum, lambda h, w, t: functional.cross_entropy(h @ w.T, t, reduction="sum", ignore_index=IGNORED)):
        h, w = hidden.clone().requires_grad_(), head.clone().requires_grad_()
        value = loss(h, w, targets)
        (value / 7).backward()
        found.append((value, h.grad, w.grad))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS + SCALES)
def test_the_loss_is_the_oracles(kind, tmp_path):
    make_checkpoint(tmp_path, **kind)
    ids, targets = batch(rows=1)
    with torch.no_grad():
        loss = float(network_of(tmp_path).eval()(ids, targets))
    logits = torch.from_numpy(forward(load_file(tmp_path / "model.safetensors"), SMALL | kind, ids[0].tolist()))
    plain = functional.cross_entropy(logits, targets[0], reduction="sum", ignore_index=IGNORED)
    assert loss == pytest.approx(float(plain), rel=1e-5)


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_small_differences(kind, checkpointed, tmp_path):
    make_checkpoint(tmp_path, **kind)
    network = network_of(tmp_path).double().train()
    network.checkpointed = checkpointed
    ids, targets = batch(rows=1, length=8)
    network(ids, targets).backward()
    rng = np.random.default_rng(2)
    for name, parameter in network.named_parameters():
        place = tuple(int(rng.integers(0, size)) for size in parameter.shape)
        with torch.no_grad():
            values = []
            for step in (1e-5, -2e-5):
                parameter[place] += step
                logits = network.hidden(ids)[0] @ network.head.T
                values.append(functional.cross_entropy(logits, targets[0], reduction="sum", ignore_index=IGNORED))
            parameter[place] += 1e-5
        slope = float(values[0] - values[1]) / 2e-5
        assert float(parameter.grad[place]) == pytest.approx(slope, rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize("targets", [("c_attn",), ("c_attn", "c_proj", "c_fc")])
def test_lora_merged_is_lora_beside(targets, checkpoint, tmp_path):
    lora, (ids, labels) = LoRA(3, 6.0, targets), batch()
    network = network_of(checkpoint)
    with torch.no_grad():
        plain = float(network(ids, labels))
        adapt(network, lora, seed=1)
        assert float(network(ids, labels)) == plain  # at first it adds nothing
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
        beside = float(network(ids, labels))
        assert beside != pytest.approx(plain, rel=1e-3)
        merged = network_of(checkpoint)
        merged.load_state_dict({name: torch.from_numpy(value) for name, value in tensors_of(network)})
        assert float(merged(ids, labels)) == pytest.approx(beside, rel=1e-5)
        # and in NumPy, from the files
        save_adapter(network, lora, str(checkpoint), tmp_path)
        (tmp_path / "merged").mkdir()
        merge(tmp_path, checkpoint, tmp_path / "merged")
        assert float(network_of(tmp_path / "merged")(ids, labels)) == pytest.approx(beside, rel=1e-5)


def test_only_what_lora_adds_is_learnt(begun, checkpoint):
    folder = begun(steps=3, lora=LoRA(2, 4.0))
    facts = folder.plan()
    assert facts["trainable"] == 2 * (32 * 2 + 2 * 96)
    finished(folder)
    before, after = Checkpoint(checkpoint), Checkpoint(folder.path)
    same = {
        name
        for name, parameter in network_of(checkpoint).named_parameters()
        if np.array_equal(*(one.tensor(name, tuple(parameter.shape)) for one in (before, after)))
    }
    assert {"wte.weight", "h.0.attn.c_proj.weight", "h.1.mlp.c_fc.weight", "h.0.attn.c_attn.bias"} <= same
    assert not {"h.0.attn.c_attn.weight", "h.1.attn.c_attn.weight"} & same


def test_what_is_frozen_stays(begun, checkpoint):
    folder = begun(steps=3, freeze=1)
    finished(folder)
    before, after = Checkpoint(checkpoint), Checkpoint(folder.path)
    for name, stays in [("wte.weight", True), ("h.0.attn.c_attn.bias", True), ("h.1.attn.c_attn.bias", False)]:
        shape = {"wte.weight": (300, 32)}.get(name, (96,))
        assert np.array_equal(before.tensor(name, shape), after.tensor(name, shape)) == stays


def test_a_head_that_is_not_tied_is_kept_and_said(begun, tmp_path):
    make_checkpoint(tmp_path / "untied", tie_word_embeddings=False)
    folder = begun(steps=2, base=tmp_path / "untied")
    finished(folder)
    assert json.loads((folder.path / "config.json").read_text())["tie_word_embeddings"] is False
    assert not Checkpoint(folder.path).tied


def test_samples_leave_the_random_state_alone(begun):
    found = []
    for name, samples in (("with", True), ("without", False)):
        run, _ = start.opened(begun(name, steps=4, dropout=0.2), samples=samples)
        found.append([event.loss for event in run.events() if isinstance(event, Step)])
    assert found[0] == found[1]


@pytest.mark.parity
@pytest.mark.parametrize("kind", KINDS + SCALES)
def test_gradients_are_those_of_transformers(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    make_checkpoint(tmp_path, **kind)
    ids, targets = batch()
    ours = network_of(tmp_path)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, attn_implementation="eager")
    theirs.eval()
    loss = ours(ids, targets)
    loss.backward()
    logits = theirs(ids).logits
    plain = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=IGNORED)
    plain.backward()
    torch.testing.assert_close(loss, plain, rtol=1e-4, atol=1e-4)
    named = {name.removeprefix("transformer."): parameter for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, named[name].grad, rtol=1e-3, atol=2e-3, msg=name)


@pytest.mark.parity
def test_transformers_reads_what_was_trained(begun):
    transformers = pytest.importorskip("transformers")
    folder = begun(steps=3)
    finished(folder)
    ids, targets = batch(rows=1)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder.path).eval()
    ours = network_of(folder.path).eval()
    with torch.no_grad():
        logits = theirs(ids).logits
        plain = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=IGNORED)
        torch.testing.assert_close(ours(ids, targets), plain, rtol=1e-4, atol=1e-4)
    assert SMALL["n_layer"] == theirs.config.n_layer


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::FutureWarning")  # between these two
def test_peft_reads_what_lora_has_learnt(begun, checkpoint):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    folder = begun(steps=3, lora=LoRA(2, 4.0, ("c_attn", "c_proj")))
    finished(folder)
    ids, targets = batch(rows=1)
    base = transformers.GPT2LMHeadModel.from_pretrained(checkpoint)
    theirs = peft.PeftModel.from_pretrained(base, folder.path / "adapter").eval()
    with torch.no_grad():
        logits = theirs(ids).logits
        plain = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=IGNORED)
        torch.testing.assert_close(network_of(folder.path)(ids, targets), plain, rtol=1e-4, atol=1e-4)
