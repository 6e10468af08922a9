"""Each sampling step on distributions small enough to work out by hand; their order; seeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.errors import CannotMeet, UsageError
from gpt2cli.generation.parameters import Sampling
from gpt2cli.generation.sampling import History, Sampler, draw, highest, log_softmax, survivors

P = [0.5, 0.3, 0.15, 0.05]
OFF = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}


def logits(*probabilities):
    with np.errstate(divide="ignore"):
        return np.log(np.array([probabilities], np.float32))


def kept(probabilities, **changes):
    """id -> probability after steps 4 to 8, for one row."""
    ids, values = survivors(logits(*probabilities), Sampling(**OFF | changes))
    return {int(i): round(float(p), 4) for i, p in zip(ids[0], values[0], strict=True) if p > 0}


def adjusted(values, prompt=(), generated=(), **changes):
    history = History(Sampling(**changes), prompt)
    for token in generated:
        history.append(token)
    row = np.array(values, np.float32)
    history.adjust(row)
    return row.tolist()


def test_nothing_changes_the_model_distribution_when_all_is_off():
    assert kept(P) == {0: 0.5, 1: 0.3, 2: 0.15, 3: 0.05}


def test_temperature_divides_logits():
    squared = np.array(P) ** 2
    assert kept(P, temperature=0.5) == dict(enumerate(np.round(squared / squared.sum(), 4)))


def test_tiny_temperature_does_not_overflow():
    assert kept(P, temperature=1e-300) == {0: 1.0}


def test_top_k_keeps_the_k_best_and_renormalises():
    assert kept(P, top_k=2) == {0: 0.625, 1: 0.375}
    assert kept(P, top_k=4) == kept(P, top_k=100) == kept(P)


def test_top_k_ties_keep_the_lowest_ids():
    assert list(kept([0.1, 0.3, 0.3, 0.3], top_k=2)) == [1, 2]
    assert list(kept([0.25, 0.25, 0.25, 0.25], top_k=3)) == [0, 1, 2]


def test_top_p_keeps_the_token_that_crosses_the_threshold():
    assert kept(P, top_p=0.6) == {0: 0.625, 1: 0.375}
    assert kept(P, top_p=0.49) == {0: 1.0}
    assert list(kept([0.2, 0.2, 0.4, 0.2], top_p=0.5)) == [2, 0]


def test_min_p_drops_below_a_part_of_the_best():
    assert kept(P, min_p=0.29) == {0: 0.5263, 1: 0.3158, 2: 0.1579}
    assert kept(P, min_p=1.0) == {0: 1.0}


def test_typical_keeps_what_is_nearest_to_the_entropy():
    # surprises .693 1.204 1.897 2.996, entropy 1.142: distances .449 .062 .755 1.853
    assert kept(P, typical=0.25) == {1: 1.0}
    assert kept(P, typical=0.5) == {0: 0.625, 1: 0.375}
    assert list(kept(P, typical=0.85)) == [0, 1, 2]


def test_filters_see_the_survivors_of_the_one_before():
    """Temperature first: at 2 the best three have less than .7 only together. Top-k before top-p: of .625 and .375
    the first reaches .6 alone. Top-p before min-p."""
    assert list(kept(P, temperature=2.0, top_p=0.7)) == [0, 1, 2]
    assert list(kept(P, top_k=2, top_p=0.6)) == [0]
    assert list(kept([0.4, 0.3, 0.2, 0.1], typical=0.3, top_p=0.5)) == [1]
    assert list(kept(P, top_p=0.9, min_p=0.2)) == [0, 1, 2]


def test_penalties_come_before_temperature():
    """A divisor of the logit, then of the temperature: (2 / 2) / .5 = 2, so that e^2 stands against e^(1/.5)."""
    sampler = Sampler(Sampling(**OFF | {"temperature": 0.5, "repeat_penalty": 2.0, "seed": 0}), [0], 5000)
    rows = np.array([[2.0, 1.0]] * 5000, np.float32)
    assert 0.45 < np.mean(sampler.choose(rows, range(5000))) < 0.55


def test_bias_comes_before_the_repetition_penalty():
    assert adjusted([1.0, 1.0], prompt=[0], logit_bias={0: -3.0}, repeat_penalty=2.0) == [-4.0, 1.0]


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits():
    assert adjusted([2.0, -2.0, 1.0], prompt=[0], generated=[1], repeat_penalty=2.0) == [1.0, -4.0, 1.0]


def test_repetition_penalty_looks_back_n_tokens():
    changes = {"repeat_penalty": 2.0}
    assert adjusted([1, 1, 1], prompt=[0, 1], generated=[2], repeat_last_n=2, **changes) == [1, 0.5, 0.5]
    assert adjusted([1, 1, 1], prompt=[0, 1], generated=[2], repeat_last_n=0, **changes) == [1, 1, 1]
    assert adjusted([1, 1, 1], prompt=[0] * 99, generated=[2] * 99, repeat_last_n=-1, **changes) == [
        0.5,
        1,
        0.5,
    ]
    assert adjusted([1, 1, 1], prompt=[0], generated=[2] * 64, **changes) == [1, 1, 0.5]


def test_presence_and_frequency_count_generated_tokens_only():
    assert adjusted([1, 1, 1], prompt=[2, 2], generated=[0, 0, 1], presence_penalty=0.5) == [0.5, 0.5, 1]
    assert adjusted([1, 1, 1], prompt=[2, 2], generated=[0, 0, 1], frequency_penalty=0.25) == [0.5, 0.75, 1]


def test_no_repeat_ngram_bans_what_would_complete_one():
    assert adjusted([1, 1, 1], prompt=[0, 1, 2, 0, 1], no_repeat_ngram=3) == [1, 1, -np.inf]
    assert adjusted([1, 1, 1], prompt=[0, 1], generated=[0], no_repeat_ngram=2) == [1, -np.inf, 1]
    assert adjusted([1, 1, 1], prompt=[0], generated=[2], no_repeat_ngram=1) == [-np.inf, 1, -np.inf]
    assert adjusted([1, 1, 1], prompt=[0], no_repeat_ngram=3) == [1, 1, 1]


def test_minus_infinity_bans_a_token():
    sampler = Sampler(Sampling(logit_bias={0: -np.inf}, seed=1), [9], 50)
    assert 0 not in sampler.choose(np.repeat(logits(0.99, 0.005, 0.005), 50, 0), range(50))


def test_everything_banned_is_an_error():
    sampler = Sampler(Sampling(no_repeat_ngram=1), [0, 1], 1)
    with pytest.raises(CannotMeet):
        sampler.choose(np.zeros((1, 2), np.float32), [0])


def test_greedy_applies_bias_penalties_and_ngrams():
    assert Sampler(Sampling(temperature=0), [0], 1).choose(logits(*P), [0]) == [0]
    assert Sampler(Sampling(temperature=0, logit_bias={0: -9.0}), [0], 1).choose(logits(*P), [0]) == [1]
    assert Sampler(Sampling(temperature=0, repeat_penalty=9.0), [0], 1).choose(logits(*P), [0]) == [1]
    assert Sampler(Sampling(temperature=0, no_repeat_ngram=1), [0, 1], 1).choose(logits(*P), [0]) == [2]
    assert Sampler(Sampling(temperature=0), [0], 1).choose(np.zeros((1, 4), np.float32), [0]) == [0]


def test_temperature_0_ignores_the_seed():
    rows = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    first, second = (Sampler(Sampling(temperature=0, seed=seed), [], 3).choose(rows, range(3)) for seed in (1, 2))
    assert first == second


def test_draw_by_inversion():
    ids = np.array([[7, 3, 5]] * 4)
    probabilities = np.array([[0.5, 0.25, 0.25]] * 4)
    assert draw(ids, probabilities, np.array([0.0, 0.499, 0.5, 0.999])) == [7, 7, 3, 5]
    assert draw(np.array([[1, 2]]), np.array([[1.0, 0.0]]), np.array([1 - 2**-53])) == [1]


@pytest.mark.long
def test_draws_follow_the_distribution():
    sampler = Sampler(Sampling(**OFF, seed=5), [], 20000)
    tokens = sampler.choose(np.repeat(logits(*P), 20000, 0), range(20000))
    assert np.abs(np.bincount(tokens, minlength=4) / 20000 - P).max() < 0.012  # 3.4 standard deviations


def test_rows_draw_from_their_own_streams():
    rows = np.random.default_rng(1).normal(size=(8, 100)).astype(np.float32)
    eight, four = Sampler(Sampling(seed=3), [], 8), Sampler(Sampling(seed=3), [], 4)
    for _ in range(5):
        assert eight.choose(rows, range(8))[:4] == four.choose(rows[:4], range(4))
    assert eight.choose(rows[[3]], [3]) == four.choose(rows[[3]], [3])


def test_the_stream_of_a_seed_never_changes():
    """Texts that were published with their seed must stay reproducible: these numbers are part of the interface."""
    flat = np.zeros((3, 1000), np.float32)
    sampler = Sampler(Sampling(**OFF, seed=42), [], 3)
    assert [sampler.choose(flat, range(3)) for _ in range(3)] == EXPECTED_STREAM


EXPECTED_STREAM = [[773, 793, 289], [438, 245, 951], [858, 404, 93]]


def test_drawn_seeds_are_exact_in_json():
    seeds = {Sampling().seeded().seed for _ in range(100)}
    assert len(seeds) == 100
    assert all(seed < 2**53 for seed in seeds)
    assert Sampling(seed=7).seeded().seed == 7


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": float("nan")},
        {"min_p": -0.1},
        {"min_p": 1.5},
        {"typical": 0.0},
        {"repeat_penalty": 0.0},
        {"repeat_last_n": -2},
        {"presence_penalty": float("nan")},
        {"frequency_penalty": float("inf")},
        {"no_repeat_ngram": -1},
        {"seed": -1},
        {"seed": 2**53},
        {"logit_bias": {1: float("inf")}},
        {"logit_bias": {1: float("nan")}},
        {"logit_bias": {"the": 1.0}},
        {"logit_bias": {1.5: 1.0}},
    ],
)
def test_impossible_settings_are_usage_errors(changes):
    with pytest.raises(UsageError):
        Sampling(**changes)


@given(
    st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=30),
    st.integers(0, 40),
    st.floats(0.01, 1),
    st.floats(0, 1),
    st.floats(0.01, 1),
    st.floats(0.01, 100),
)
def test_at_least_one_token_survives_and_probabilities_sum_to_1(values, top_k, top_p, min_p, typical, temperature):
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, typical=typical)
    ids, probabilities = survivors(np.array([values], np.float32), sampling)
    assert probabilities.sum() == pytest.approx(1)
    assert (probabilities >= 0).all()
    assert len(set(ids[0].tolist())) == ids.shape[1]


def test_log_softmax_is_exact_for_large_logits():
    assert log_softmax(np.array([1000.0, 1000.0], np.float32)).tolist() == pytest.approx([-np.log(2)] * 2)


@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("filters", [{"top_p": 0.9}, {"min_p": 0.05}, {"top_p": 0.99, "min_p": 0.01}, {"typical": 0.7}])
def test_what_survives_of_a_large_vocabulary_is_what_a_full_sort_leaves(spread, filters, monkeypatch):
    """Flat distributions, of which the first thousand are not enough, and steep ones; among others as alone."""
    rows = np.random.default_rng(3).standard_normal((4, 5000)).astype(np.float32) * spread
    sampling = Sampling(**OFF | {"temperature": 0.7} | filters)

    def kept(found):
        return [dict(zip(row[p > 0].tolist(), p[p > 0].tolist(), strict=True)) for row, p in zip(*found, strict=True)]

    head = kept(survivors(rows, sampling))
    assert head == [kept(survivors(row[None], sampling))[0] for row in rows]
    monkeypatch.setattr("gpt2cli.generation.sampling._HEAD", 5000)
    for some, every in zip(head, kept(survivors(rows, sampling)), strict=True):
        assert list(some) == list(every)
        assert list(some.values()) == pytest.approx(list(every.values()), rel=1e-12)


def test_without_filters_the_draw_needs_no_order():
    rows = np.random.default_rng(3).standard_normal((2, 5000)).astype(np.float32)
    ids, p = survivors(rows, Sampling(**OFF))
    assert ids[0].tolist() == list(range(5000))
    assert p == pytest.approx(np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True), rel=1e-4)


@pytest.mark.parametrize("count", [0, 1, 3, 39, 40, 10**30])
def test_the_highest_are_the_first_of_a_whole_sort(count):
    values = np.random.default_rng(1).integers(-3, 3, 40).astype(np.float32)  # many are equal
    values[7:12] = -np.inf
    assert highest(values, count).tolist() == np.argsort(-values, kind="stable")[:count].tolist()
