"""Explanations against the oracle: states, attention, lens, rollout, value zeroing, occlusion, at any length."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import oracle
import pytest
from checkpoints import SMALL, make_checkpoint, random_tensors
from engines import FP32, HALF, INT8, INT8X16, MIXED, Kind
from foreign import make_foreign

import gpt2cli
from gpt2cli import Question, load, score
from gpt2cli.analysis.explanation import Explainer
from gpt2cli.analysis.questions import PARTS
from gpt2cli.engine.inspection import insides
from gpt2cli.errors import CannotMeet, CorruptFile, UsageError

START = SMALL["bos_token_id"]
IDS = np.random.default_rng(0).integers(0, 299, 40).tolist()
FED = [START, *IDS]
ODD = {"n_embd": 60, "n_head": 5, "n_inner": 70, "tie_word_embeddings": False, "activation_function": "silu"}
SHAPES = {"plain": {}, "odd": ODD, "scaled": {"scale_attn_by_inverse_layer_idx": True, "n_layer": 3}}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def made(request, tmp_path):
    """(model at fp32, tensors, config), whose texts have several chunks"""
    config, tensors = make_checkpoint(tmp_path / "made", **request.param)
    model = load(str(tmp_path / "made"), precision="fp32")
    model.engine.chunk = 17
    return model, tensors, config


def explain(model, text, **question):
    return gpt2cli.explain(model, text, Question(**question))


def logarithms(logits):
    return np.log(oracle.softmax(np.asarray(logits)))


def head(tensors, config, states):
    table = tensors["wte.weight"] if config.get("tie_word_embeddings", True) else tensors["lm_head.weight"]
    return logarithms(oracle.final_norm(tensors, config, states) @ table.T.astype(np.float64))


def test_tokens_are_those_of_score_with_their_entropy(made):
    model, tensors, config = made
    found = explain(model, IDS, top=3, parts=())
    assert [one.token for one in found.tokens] == FED
    assert (found.start, found.target) == (True, 40)
    first, *rest = found.tokens
    assert (first.logprob, first.rank, first.top, first.entropy) == (None, None, (), None)
    for one, other in zip(rest, score(model, IDS, top=3).each, strict=True):
        assert (one.token, one.rank, [token for token, _ in one.top]) == (
            other.token,
            other.rank,
            [token for token, _ in other.top],
        )
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
    logs = logarithms(oracle.forward(tensors, config, FED))
    entropies = -(np.exp(logs) * logs).sum(-1)
    np.testing.assert_allclose([one.entropy for one in [*rest, found.following]], entropies, atol=1e-4)
    assert found.following.top[0][0] == logs[-1].argmax()


def test_the_lens_is_the_head_on_each_state(made):
    model, tensors, config = made
    lens = explain(model, IDS, parts=["lens"]).lens
    states, _ = oracle.insides(tensors, config, FED)
    logs = np.stack([head(tensors, config, one) for one in states])
    assert lens.positions == range(41)
    np.testing.assert_array_equal(lens.ids, logs.argmax(-1))
    np.testing.assert_allclose(lens.logprobs, logs.max(-1), atol=1e-4)
    divergence = (np.exp(logs[-1]) * (logs[-1] - logs)).sum(-1)
    np.testing.assert_allclose(lens.divergences, divergence, atol=2e-4)
    assert (lens.divergences[-1] == 0).all()


def test_attention_rollout_and_value_zeroing(made):
    model, tensors, config = made
    found = explain(model, IDS, token=30, parts=["attention", "rollout", "value_zeroing"])
    states, attention = oracle.insides(tensors, config, FED)
    layers, heads = config["n_layer"], config["n_head"]
    assert [(layer, [*each]) for layer, each in found.attention.items()] == [
        (layer, [*range(heads)]) for layer in range(layers)
    ]
    for layer, head in np.ndindex(layers, heads):
        weights = found.attention[layer][head]
        assert weights.positions == range(41)
        np.testing.assert_allclose(weights.rows, attention[layer][head], atol=1e-4)
    rolled = np.eye(41)
    for one in attention:
        rolled = (one.mean(0) / 2 + np.eye(41) / 2) @ rolled
    np.testing.assert_allclose(found.rollout.rows, rolled, atol=1e-4)
    for layer, scores in found.value_zeroing.items():
        assert len(scores) == 30  # up to the place at which token 30 is predicted
        for token in range(30):
            without = oracle.insides(tensors, config, FED, zeroed=(layer, token))[0][layer + 1][29]
            whole = states[layer + 1][29]
            cosine = without @ whole / np.linalg.norm(without) / np.linalg.norm(whole)
            assert scores[token] == pytest.approx(1 - cosine, abs=1e-5)


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("instead", [None, 7])
def test_occlusion_leaves_each_token_out(made, start, instead):
    model, tensors, config = made
    ids = [START, *IDS] if start else IDS
    found = explain(model, IDS, token=25, instead=instead, start=start, parts=["influence"]).influence

    def value(before):
        logs = logarithms(oracle.forward(tensors, config, before))[-1]
        return logs[ids[25]] - (0 if instead is None else logs[instead])

    assert (found.token, found.instead) == (ids[25], instead)
    assert found.base == pytest.approx(value(ids[:25]), abs=1e-4)
    for place, lost in enumerate(found.scores):
        if place >= 25 or (start and place == 0):
            assert lost is None
        else:
            without = value([*ids[:place], *ids[place + 1 : 25]])
            assert lost == pytest.approx(found.base - without, abs=2e-4)


def test_the_second_token_has_nothing_before_it_that_can_go(small):
    assert explain(small, IDS[:1], parts=["influence"]).influence.scores == (None, None)
    assert explain(small, IDS[:2], start=False, parts=["influence"]).influence.scores == (None, None)


@pytest.mark.parametrize("kind", [FP32, INT8, INT8X16, MIXED, HALF, Kind("int4", tolerance=0.2)], ids=str)
def test_every_precision_shows_its_insides(kind, checkpoint, tmp_path):
    """What they end in are the model's own logits, and what a block makes of its own attention its own output."""
    kind.export(checkpoint, tmp_path)
    engine = kind.open(tmp_path)
    inside = insides(engine)
    first, held = inside.chunk(FED[:17], None)
    second, held = inside.chunk(FED[17:], held)
    states = np.concatenate([first.states, second.states], axis=1)
    np.testing.assert_allclose(inside.says(states[-1]), engine.feed([FED], every=True), atol=kind.tolerance)
    reference, attention = oracle.insides(random_tensors(SMALL), SMALL, FED)
    for found, expected in zip(states, reference, strict=True):
        wrong = np.sqrt(((found - expected) ** 2).mean()) / expected.std()
        assert wrong < {"fp32": 1e-5, "fp16": 2e-3, "int8": 0.05, "int4": 0.4}[kind.precision]
    heads = []
    for layer, weights in enumerate(second.attention):
        assert weights.shape == (4, 24, 41)
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-3)
        if kind is FP32:
            np.testing.assert_allclose(weights, attention[layer][:, 17:], atol=1e-5)
        heads.append(np.einsum("ht,htd->hd", weights[:, -1], held.values(layer)).reshape(1, -1))
    after = inside.after_attention(np.stack(heads), states[:-1, -1:])
    np.testing.assert_allclose(after[:, 0], states[1:, -1], atol=4e-3 if kind is HALF else 1e-3)


def test_a_text_as_long_as_the_window_and_one_beyond(made):
    model, *_ = made
    window = model.engine.window
    assert len(explain(model, [5] * (window - 1)).tokens) == window
    assert len(explain(model, [5] * window, start=False).tokens) == window
    with pytest.raises(CannotMeet, match=f"has {window} tokens, and the model's window holds {window - 1} beside"):
        explain(model, [5] * window)
    with pytest.raises(CannotMeet, match="window"):
        explain(model, [5] * (window + 1), start=False)


def test_of_much_attention_only_one_place_is_given_unless_it_is_chosen(small, monkeypatch):
    monkeypatch.setattr("gpt2cli.analysis.attending.ROLLOUT", 40)
    whole = explain(small, IDS, layers=[1, 0], heads=[2, 2], parts=["attention"]).attention
    assert {layer: list(heads) for layer, heads in whole.items()} == {0: [2], 1: [2]}
    assert whole[1][2].positions == range(41)
    found = explain(small, IDS, token=20, most=8 * 41**2 - 1, near=10)
    assert found.attention[1][2].positions == found.rollout.positions == range(19, 20)
    np.testing.assert_allclose(found.attention[1][2].rows[0], whole[1][2].rows[19, :20], atol=1e-6)
    assert found.rollout.rows.shape == (1, 41)
    assert [place for place, one in enumerate(found.influence.scores) if one is not None] == [*range(10, 20)]
    few = Explainer(small, IDS, Question(token=20, parts=("lens",), near=5))
    [*few.inside()]
    assert few.explanation.lens.positions == range(15, 20)


def test_json_has_what_was_asked_for_and_numbers_as_the_page_says(small):
    plain = explain(small, "the old man went", instead=" sea", top=2).plain()
    assert list(plain) == [
        *("model", "revision", "precision", "device", "start", "target", "tokens", "next"),
        *("lens", "attention", "rollout", "influence", "value_zeroing"),
    ]
    count = len(plain["tokens"])
    assert list(plain["tokens"][1]) == ["id", "token", "bytes", "logprob", "rank", "top", "entropy"]
    assert list(plain["next"]) == ["top", "entropy"]
    assert [len(one["top"]) for one in (*plain["tokens"], plain["next"])] == [0, *[2] * count]
    for one in (*plain["tokens"][1:], *(one for told in plain["tokens"] for one in told["top"])):
        assert one["logprob"] == round(one["logprob"], 6)
    assert plain["next"]["entropy"] == round(plain["next"]["entropy"], 6)
    lens = plain["lens"]
    assert (lens["layers"], lens["positions"]) == ([0, 1, 2], [*range(count)])
    assert list(lens["said"][2][0]) == ["id", "token", "logprob", "kl"]
    attention = plain["attention"]
    assert [one["layer"] for one in attention["layers"]] == [0, 1]
    for rows in [*(one["weights"] for one in attention["layers"][1]["heads"]), plain["rollout"]["weights"]]:
        assert [len(row) for row in rows] == [*range(1, count + 1)]
        assert all(sum(row) == pytest.approx(1, abs=1e-3) for row in rows)
        assert all(number == round(number, 4) for row in rows for number in row)
    assert plain["influence"]["instead"]["token"] == " sea"
    assert len(plain["influence"]["scores"]) == count
    assert [len(one["scores"]) for one in plain["value_zeroing"]["layers"]] == [count] * 2
    assert plain["value_zeroing"]["layers"][0]["scores"][-1] is None
    bare = explain(small, "the old man went", parts=[]).plain()
    assert [bare[part] for part in PARTS] == [None] * len(PARTS)


def test_what_cannot_be(small):
    for options, words in [
        ({"layers": [2]}, "`layers` has 2, which does not exist"),
        ({"heads": [-1]}, "`heads` has -1"),
        ({"heads": ["a"]}, "`heads` has 'a'"),
        ({"layers": 1}, "`layers` is 1"),
        ({"parts": "lens"}, "`parts` is 'lens'"),
        ({"token": 41}, "`token` is 41"),
        ({"token": 0}, "`token` is 0"),
        ({"token": -41}, "`token` is -41"),
        ({"token": 1.5}, "`token` is 1.5"),
        ({"top": 0}, "`top` is 0"),
        ({"start": 1}, "`start` is 1"),
        ({"parts": ["lenses"]}, "'lenses'"),
        ({"instead": " the old man"}, "`instead` is ' the old man', which is [23] tokens"),
        ({"instead": ""}, "which is no tokens"),
        ({"instead": 300}, "300"),
        ({"instead": IDS[-1]}, "the token itself"),
    ]:
        with pytest.raises(UsageError, match=words):
            explain(small, IDS, **options)
    with pytest.raises(UsageError, match="`question` is 5"):
        gpt2cli.explain(small, IDS, 5)
    for text, words in [("", "the text is empty"), ([1, 300], "300"), (7, "`text`")]:
        with pytest.raises(UsageError, match=words):
            explain(small, text)
    with pytest.raises(UsageError, match="one token, and nothing precedes it"):
        explain(small, [5], start=False)


def test_threads_share_a_model(small):
    texts = [IDS[:length] for length in (5, 17, 30, 40)]
    alone = [explain(small, ids).plain() for ids in texts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda ids: explain(small, ids).plain(), texts * 3))
    assert together == alone * 3


def test_a_ready_made_graph_is_refused_in_words(tmp_path):
    make_foreign(tmp_path)
    with pytest.raises(CannotMeet, match="ready-made"):
        explain(load(str(tmp_path)), [1, 2])


def test_numbers_that_are_none(tmp_path):
    tensors = random_tensors(SMALL)
    tensors["h.1.mlp.c_proj.weight"][:] = 3e38  # finite, but no sum of them is
    make_checkpoint(tmp_path / "broken", tensors=tensors)
    with pytest.raises(CorruptFile, match="not finite"):
        explain(load(str(tmp_path / "broken"), precision="fp32"), "the cat")
