"""Vectors against the oracle: every pooling, every layer, any length, alone and together."""

import itertools

import numpy as np
import onnx
import oracle
import pytest
from checkpoints import SMALL, make_checkpoint, random_tensors
from engines import FP32, HALF, INT8, INT8X16, MIXED, Kind
from foreign import make_foreign

from gpt2cli import embed, load
from gpt2cli.analysis.embedding import Embedder
from gpt2cli.analysis.poolings import POOLINGS
from gpt2cli.engine.inspection import inspection
from gpt2cli.errors import CannotMeet, CorruptFile, UsageError

WINDOW = SMALL["n_positions"]
LENGTHS = [1, 3, 30, 2, 2, 70, 5, WINDOW, *[4] * 40, 200, 1]


@pytest.fixture(scope="module")
def tensors():
    return random_tensors(SMALL)  # those of the fixture `checkpoint`


def some_ids(count, seed=0):
    return np.random.default_rng(seed).integers(0, 299, count).tolist()


TEXTS = [some_ids(length, seed=number) for number, length in enumerate(LENGTHS)]


def expected(tensors, ids, pooling, layer):
    """As the documentation has it: windows without overlap, of whose vectors the mean is taken."""
    if pooling == "last":
        return oracle.hidden_states(tensors, SMALL, ids[-WINDOW:])[layer][-1]
    windows = [ids[first : first + WINDOW] for first in range(0, len(ids), WINDOW)]
    states = [oracle.hidden_states(tensors, SMALL, window)[layer] for window in windows]
    if pooling == "none":
        return np.concatenate(states)
    if pooling == "mean":
        return np.concatenate(states).mean(0)
    weighted = [np.average(one, axis=0, weights=range(1, len(one) + 1)) for one in states]
    return np.average(weighted, axis=0, weights=list(map(len, states)))


@pytest.mark.parametrize("layer", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_vectors_are_the_oracles(small, tensors, pooling, layer):
    found = list(Embedder(small, pooling=pooling, layer=layer).each(iter(TEXTS)))
    for ids, vectors in zip(TEXTS, found, strict=True):
        reference = expected(tensors, ids, pooling, layer)
        assert (vectors.dtype, vectors.shape) == (np.float32, reference.shape)
        np.testing.assert_allclose(vectors, reference, atol=1e-4)


def test_normalized_vectors_have_length_one(small):
    for pooling in POOLINGS:
        plain, unit = embed(small, TEXTS[2], pooling=pooling), embed(small, TEXTS[2], pooling=pooling, normalize=True)
        np.testing.assert_allclose(np.linalg.norm(unit, axis=-1), 1, atol=1e-6)
        np.testing.assert_allclose(unit, plain / np.linalg.norm(plain, axis=-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("kind", [FP32, INT8, INT8X16, MIXED, HALF, Kind("int4", tolerance=0.2)], ids=str)
@pytest.mark.long
def test_every_precision_has_them_and_rows_of_a_batch_do_not_see_each_other(kind, checkpoint, tensors, tmp_path):
    kind.export(checkpoint, tmp_path)
    engine = kind.open(tmp_path)
    texts = [ids for ids in TEXTS if len(ids) <= WINDOW]
    for layer in (0, 1, 2):
        inside = inspection(engine, layer)
        together = inside.together(texts)
        for ids, states in zip(texts, together, strict=True):
            if kind.precision == "int8":
                np.testing.assert_array_equal(states, inside.together([ids])[0])
            np.testing.assert_allclose(states, inside.together([ids])[0], atol=1e-5 if kind is FP32 else kind.tolerance)
            reference = oracle.hidden_states(tensors, SMALL, ids)[layer]
            wrong = np.sqrt(((states - reference) ** 2).mean()) / reference.std()
            assert wrong < {"fp32": 1e-5, "fp16": 2e-3, "int8": 0.05, "int4": 0.4}[kind.precision]


def test_heads_that_are_padded_and_tables_that_are_not_tied(tmp_path):
    changes = {"n_embd": 60, "n_head": 5, "n_inner": 70, "tie_word_embeddings": False, "activation_function": "silu"}
    config, tensors = make_checkpoint(tmp_path / "odd", **changes)
    model = load(str(tmp_path / "odd"), precision="fp32")
    for layer in range(3):
        found = embed(model, TEXTS[2], pooling="none", layer=layer)
        np.testing.assert_allclose(found, oracle.hidden_states(tensors, config, TEXTS[2])[layer], atol=1e-4)


def test_a_chunk_after_another_is_the_whole(small):
    ids = TEXTS[5][:WINDOW]
    inside = inspection(small.engine, 2)
    first, held = inside.chunk(ids[:17], None)
    second, held = inside.chunk(ids[17:40], held)
    third, _ = inside.chunk(ids[40:], held)
    np.testing.assert_allclose(np.concatenate([first, second, third]), inside.together([ids])[0], atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "weighted", "last"])
def test_a_text_that_comes_bit_by_bit_needs_no_memory(small, pooling):
    ids = itertools.islice(itertools.cycle(some_ids(50)), 1000)
    found = Embedder(small, pooling=pooling).long(ids)
    whole = embed(small, [*itertools.islice(itertools.cycle(some_ids(50)), 1000)], pooling=pooling)
    np.testing.assert_array_equal(found, whole)


def test_a_step_is_never_more_than_a_chunk_of_work(small):
    small.engine.chunk = 17
    calls, inside = [], inspection(small.engine, -1)
    run = inside._run
    inside._run = lambda names, ids, held: calls.append(ids.size) or run(names, ids, held)
    found = {}
    for pairs in Embedder(small).steps(TEXTS, batch=100):
        assert len(calls) <= 1
        assert sum(calls) <= 100
        calls.clear()
        found |= dict(pairs)
    assert sorted(found) == list(range(len(TEXTS)))


def test_texts_of_the_built_in_model_are_texts_or_ids():
    model = load("tiny")
    texts = ["The cat sat on the mat.", "naïve 猫"]
    several = embed(model, texts)
    assert [one.shape for one in several] == [(192,), (192,)]
    for text, vector in zip(texts, several, strict=True):
        np.testing.assert_array_equal(vector, embed(model, text))
        np.testing.assert_array_equal(vector, embed(model, model.tokenizer.encode(text)))
    assert embed(model, []) == []


def test_what_cannot_be(small):
    for options, words in [
        ({"layer": 3}, "`layer` is 3"),
        ({"layer": -4}, "`layer` is -4"),
        ({"layer": "2"}, "`layer` is '2'"),
        ({"pooling": "max"}, "`pooling` is 'max'"),
        ({"pooling": ["mean"]}, "`pooling` is"),
        ({"normalize": 1}, "`normalize` is 1"),
    ]:
        with pytest.raises(UsageError, match=words):
            embed(small, "the cat", **options)
    for texts, words in [("", "text 1 is empty"), (["a", ""], "text 2 is empty"), ([1, 300], "300"), (7, "`texts`")]:
        with pytest.raises(UsageError, match=words):
            embed(small, texts)
    with pytest.raises(UsageError, match="empty"):
        Embedder(small).long(iter([]))


def test_a_ready_made_graph_is_refused_in_words(tmp_path):
    make_foreign(tmp_path)
    with pytest.raises(CannotMeet, match="ready-made"):
        embed(load(str(tmp_path)), [1, 2])


def test_numbers_that_are_none(tmp_path):
    tensors = random_tensors(SMALL)
    tensors["h.1.mlp.c_proj.weight"][:] = 3e38  # finite, but no sum of them is
    make_checkpoint(tmp_path / "broken", tensors=tensors)
    model = load(str(tmp_path / "broken"), precision="fp32")
    with pytest.raises(CorruptFile, match="hidden states are not finite"):
        embed(model, "the cat")
    assert np.isfinite(embed(model, "the cat", layer=1)).all()


def test_a_graph_that_is_not_what_it_says_is_refused(tmp_path, checkpoint):
    FP32.export(checkpoint, tmp_path)
    engine = FP32.open(tmp_path)
    graph = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False)
    for node in graph.graph.node:
        node.op_type = node.op_type.replace("SkipLayerNormalization", "Identity")
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(CorruptFile, match="not the graph"):
        inspection(engine, 2)
