"""The engine's contract: cached = uncached, chunked = whole, batched = single, rewound = never fed."""

import itertools
import json
from dataclasses import replace

import numpy as np
import oracle
import pytest
from checkpoints import SMALL, make_checkpoint, random_tensors
from engines import CUDA, FP32, HALF, INT4, INT8, INT8X16, MIXED, POINTER
from safetensors.numpy import load_file

from gpt2cli.engine.chunks import joinable
from gpt2cli.errors import UsageError

RNG = np.random.default_rng(3)
IDS = RNG.integers(0, 299, 64).tolist()


KINDS = [FP32, INT8, INT8X16, MIXED, HALF, POINTER, pytest.param(CUDA, marks=pytest.mark.gpu)]


@pytest.fixture(scope="module", params=KINDS, ids=str)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, checkpoint, tmp_path_factory):
    target = tmp_path_factory.mktemp("export")
    kind.export(checkpoint, target)
    return target


@pytest.fixture
def engine(kind, folder):
    return kind.open(folder)


def assert_same(found, expected, kind):
    """What batches and chunks must not change: not a bit, where the kernels allow it."""
    if kind.exact:
        assert np.array_equal(found, expected)
    else:
        assert np.abs(found - expected).max() < kind.tolerance


def step(engine, ids):
    return np.concatenate([engine.feed([[token]]) for token in ids])


def test_cached_equals_oracle(kind, checkpoint, engine):
    config = json.loads((checkpoint / "config.json").read_text())
    product = oracle.int8 if kind.precision == "int8" else oracle.exact
    expected = oracle.forward(load_file(checkpoint / "model.safetensors"), config, IDS, product)
    assert np.abs(step(engine, IDS) - expected).max() < kind.tolerance
    assert engine.lengths == [64]


def test_every_position_ends_with_the_last(kind, engine):
    whole = engine.feed([IDS], every=True)
    engine.rewind(0)
    assert_same(engine.feed([IDS])[0], whole[-1], kind)
    assert whole.shape == (64, 300)


def test_every_logit_of_several_texts_as_of_each_alone(kind, engine):
    engine.feed([IDS[:9]])
    rows = [IDS[:5], IDS[10:30], IDS[3:4], IDS]
    together = engine.each(rows)
    ends = engine.each(rows, [2, 20, 1, 7])
    assert engine.said == [IDS[:9]]
    for row, logits, end in zip(rows, together, ends, strict=True):
        engine.reset()
        alone = engine.feed([row], every=True)
        assert_same(logits, alone, kind)
        assert_same(end, alone[-len(end) :], kind)
    assert list(map(len, ends)) == [2, 20, 1, 7]


@pytest.mark.parametrize("size", [2, 3, 8, 32, 63])
def test_chunks_equal_the_whole(kind, engine, size):
    whole = engine.feed([IDS], every=True)
    engine.rewind(0)
    engine.chunk = size
    chunked = engine.feed([IDS], every=True)
    assert np.abs(chunked - whole).max() < kind.tolerance


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("precision", [FP32, INT8, INT8X16, MIXED, INT4, HALF], ids=str)
def test_chunks_that_share_a_call_are_what_they_are_alone(tmp_path, precision, heads):
    """Not a bit of the cache differs, wherever they begin: what follows tells."""
    make_checkpoint(tmp_path / "checkpoint", n_embd=128, n_head=heads, n_positions=900)
    (tmp_path / "export").mkdir()
    precision.export(tmp_path / "checkpoint", tmp_path / "export")
    together = precision.open(tmp_path / "export", threads=heads)
    alone = precision.open(tmp_path / "export", threads=heads)
    assert (together.joined, alone.joined) == (4, 4)
    alone.joined = 1
    for before, length in itertools.product((0, 53), (256, 384, 512, 700, 840)):
        ids = RNG.integers(0, 299, before + length).tolist()
        found = []
        for engine in (together, alone):
            engine.reset()
            for start in range(before):
                engine.feed([[ids[start]]])
            found.append([engine.feed([ids[before:-3]]), *(engine.feed([[token]]) for token in ids[-3:])])
            assert engine.said == [ids]
        assert np.array_equal(*found), length
        assert together.calls == alone.calls


@pytest.mark.parametrize(
    ("layers", "heads", "size", "joined"),
    [(12, 12, 64, 4), (24, 16, 64, 1), (6, 6, 32, 4), (2, 2, 48, 1), (2, 2, 256, 1), (18, 16, 64, 1), (16, 14, 64, 2)],
)
def test_how_many_chunks_share_a_call(checkpoint, tmp_path, layers, heads, size, joined):
    """Of large models, and of those with heads for which the bits would differ, one."""
    FP32.export(checkpoint, tmp_path)
    facts = FP32.open(tmp_path).facts
    assert joinable(replace(facts, layers=layers, heads=heads, head_size=size)) == joined


def test_what_nobody_wants_to_see_changes_nothing(kind, engine):
    """The head is left out before a prompt's last chunk."""
    engine.chunk = 16
    loud = [engine.feed([IDS[start : start + 16]]) for start in range(0, 64, 16)]
    engine.rewind(0)
    assert np.array_equal(engine.feed([IDS]), loud[-1])
    engine.rewind(0)
    for start in range(0, 48, 16):
        assert engine.feed([IDS[start : start + 16]], silent=True).shape == (0, 300)
    assert np.array_equal(engine.feed([IDS[48:]]), loud[-1])


def test_steps_equal_the_whole(kind, engine):
    whole = engine.feed([IDS], every=True)
    engine.rewind(0)
    assert np.abs(step(engine, IDS) - whole).max() < kind.tolerance


def test_batched_rows_equal_single_rows_bit_for_bit(kind, engine):
    """Row r of a batch of seven, each of another length, is what it would be alone."""
    prompts = [IDS[: 3 + 5 * row] for row in range(7)]
    steps = RNG.integers(0, 299, (10, 7)).tolist()
    engine.select([0] * 7)
    batched = [engine.feed(prompts)] + [engine.feed([[token] for token in tokens]) for tokens in steps]
    for row, prompt in enumerate(prompts):
        engine.select([0])
        engine.rewind(0)
        single = [engine.feed([prompt])] + [engine.feed([[tokens[row]]]) for tokens in steps]
        for several, one in zip(batched, single, strict=True):
            assert_same(several[row], one[0], kind)


def test_some_rows_are_fed_and_the_others_see_nothing_of_it(kind, engine):
    """Rows between those that are fed, one of them full; in any order."""
    prompts = [IDS[:5], IDS[10:20], IDS, IDS[20:30], IDS[30:33]]
    engine.select([0] * 5)
    first = engine.feed(prompts)
    fed = engine.feed([[9], [8], [7]], rows=[4, 0, 3])
    assert engine.said == [[*IDS[:5], 8], IDS[10:20], IDS, [*IDS[20:30], 7], [*IDS[30:33], 9]]
    second = engine.feed([[6]], rows=[1])
    engine.reset()
    for place, (row, token) in enumerate(((4, 9), (0, 8), (3, 7))):
        engine.rewind(0)
        assert_same(engine.feed([prompts[row]])[0], first[row], kind)
        assert_same(engine.feed([[token]])[0], fed[place], kind)
    engine.rewind(0)
    engine.feed([prompts[1]])
    assert_same(engine.feed([[6]]), second, kind)


def test_no_text_is_cut_before_its_last_token(engine):
    engine.chunk = 8
    for length in range(64):
        chunks = engine.chunks(IDS[:length])
        assert [token for chunk in chunks for token in chunk] == IDS[:length]
        assert all(2 <= len(chunk) <= 8 for chunk in chunks) or length == 1
    assert engine.chunks([]) == []


def test_rows_may_be_added_empty(kind, engine):
    engine.feed([IDS[:9]])
    for _ in range(5):  # one by one, as a server adds them
        engine.select([*range(len(engine.said)), None])
    assert engine.lengths == [9, 0, 0, 0, 0, 0]
    added = engine.feed([IDS[9:20]], rows=[3])
    engine.select([3, 0])
    assert engine.said == [IDS[9:20], IDS[:9]]
    engine.select([None])
    assert engine.lengths == [0]
    assert_same(engine.feed([IDS[9:20]]), added, kind)


def test_rows_may_get_different_numbers_of_new_tokens(kind, engine):
    engine.select([0, 0])
    engine.feed([IDS[:5], IDS[10:30]])
    logits = engine.feed([IDS[5:12], IDS[30:31]])
    assert engine.lengths == [12, 21]
    for row, ids in enumerate((IDS[:12], IDS[10:31])):
        engine.select([0])
        engine.rewind(0)
        assert np.abs(engine.feed([ids])[0] - logits[row]).max() < kind.tolerance


@pytest.mark.parametrize("length", [0, 1, 17, 40])
def test_rewind_equals_never_fed(kind, engine, length):
    engine.feed([[*IDS[:length], 1, 2, 3]])
    engine.rewind(length)
    logits = engine.feed([IDS[length:50]])
    engine.rewind(0)
    assert np.abs(engine.feed([IDS[:50]]) - logits).max() < kind.tolerance


def test_select_repeats_drops_and_reorders_rows(kind, engine):
    engine.select([0, 0, 0])
    engine.feed([IDS[:4], IDS[10:20], IDS[30:33]])
    expected = engine.feed([[5], [5], [5]])
    for row, length in enumerate((4, 10, 3)):
        engine.rewind(length, row)
    engine.select([2, 0, 2, 1, 1])
    assert engine.lengths == [3, 4, 3, 10, 10]
    assert_same(engine.feed([[5]] * 5), expected[[2, 0, 2, 1, 1]], kind)
    for row, length in enumerate((3, 4, 3, 10, 10)):
        engine.rewind(length, row)
    engine.select([4, 1])
    assert_same(engine.feed([[5]] * 2), expected[[1, 0]], kind)


def test_a_full_window_can_be_fed_and_no_more(engine):
    engine.feed([IDS])
    with pytest.raises(ValueError, match="window of 64"):
        engine.feed([[1]])
    assert engine.lengths == [64]


@pytest.mark.parametrize("token", [-1, 300, 1 << 40])
def test_ids_outside_the_vocabulary_are_refused_before_anything_runs(engine, token):
    with pytest.raises(UsageError, match="outside"):
        engine.feed([[1, token]])
    assert engine.lengths == [0]


def test_threads_do_not_change_the_result(kind, folder):
    one, two = (kind.open(folder, threads=threads).feed([IDS]) for threads in (1, 2))
    assert_same(one, two, kind)


def exported(kind, tmp_path, **checkpoint):
    """An engine of a checkpoint of its own, and what the checkpoint is made of."""
    made = make_checkpoint(tmp_path / "c", tokenizer=False, **checkpoint)
    (tmp_path / "e").mkdir()
    kind.export(tmp_path / "c", tmp_path / "e")
    return kind.open(tmp_path / "e"), *made


@pytest.mark.parametrize("width", [20, 4])  # heads of 5, and of 1
def test_odd_head_sizes_are_cached_too(kind, tmp_path, width):
    engine, config, tensors = exported(kind, tmp_path, n_embd=width)
    product = oracle.int8 if kind.precision == "int8" else oracle.exact
    assert np.abs(step(engine, IDS) - oracle.forward(tensors, config, IDS, product)).max() < kind.tolerance


def test_zero_weights_do_not_divide_by_zero(kind, tmp_path):
    zeros = {name: np.zeros_like(value) for name, value in random_tensors(SMALL).items()}
    engine, *_ = exported(kind, tmp_path, tensors=zeros)
    assert np.array_equal(engine.feed([IDS]), np.zeros((1, 300)))
