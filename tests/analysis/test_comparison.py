"""Prompts side by side: distributions against the oracle, endings against scores, samples against `generate`."""

import itertools
import math

import numpy as np
import oracle
import pytest
from checkpoints import SMALL, make_checkpoint
from texts import collect, generate

from gpt2cli import Limits, Sampling, compare, load, score
from gpt2cli.analysis.comparison import first_word, joined, label, wilson
from gpt2cli.analysis.templates import MOST, expanded
from gpt2cli.errors import CannotMeet, UsageError

PROMPTS = ["the cat sat on", "the old man"]


@pytest.fixture(scope="module")
def tensors(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("same"))[1]  # the random tensors of the fixture `checkpoint`


# Templates


def test_braces_multiply_and_the_last_changes_fastest():
    assert expanded("The {White|Black} man") == ["The White man", "The Black man"]
    assert expanded("{a|b}-{c|d|e}") == ["a-c", "a-d", "a-e", "b-c", "b-d", "b-e"]
    assert expanded("a {very |}old man") == ["a very old man", "a old man"]
    assert expanded("nothing | to choose\n") == ["nothing | to choose\n"]
    assert expanded("") == [""]


def test_a_backslash_takes_a_sign_as_it_is():
    assert expanded(r"\{a\|b\} {c\|d|\}} \\{e|f} \n") == [
        r"{a|b} c|d \e \n",
        r"{a|b} c|d \f \n",
        r"{a|b} } \e \n",
        r"{a|b} } \f \n",
    ]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("the {cat|dog", "column 5 is not closed"),
        ("the cat} sat", "column 8 closes nothing"),
        ("{a|{b|c}}", "column 4 opens within others"),
        ("def f() {}", "column 9 has nothing to choose from"),
        (r"\{a} {b|c}", "column 4 closes nothing"),
    ],
)
def test_a_wrong_brace_is_named_by_its_column(template, said):
    with pytest.raises(UsageError, match=said) as caught:
        expanded(template)
    assert r"\{" in caught.value.hint


def test_the_product_has_a_limit():
    assert len(expanded("{0|1|2|3|4|5|6|7|8|9}" * 2)) == MOST
    with pytest.raises(UsageError, match="more than 100 prompts"):
        expanded("{0|1|2|3|4|5|6|7|8|9}" * 3)
    with pytest.raises(UsageError, match="prompts"):
        expanded("{a|b}" * 20_000)  # nobody waits for them


# The next token


def test_distributions_are_the_oracles(small, tensors):
    found = compare(small, PROMPTS)
    for side, prompt in zip(found.sides, PROMPTS, strict=True):
        ids = small.tokenizer.encode(prompt)
        expected = np.log(oracle.softmax(oracle.forward(tensors, SMALL, ids)[-1]))
        np.testing.assert_allclose(side.logprobs, expected, atol=1e-4)
        assert side.ids == ids
        assert side.likeliest(5) == np.argsort(-expected, kind="stable")[:5].tolist()
        assert side.entropy == pytest.approx(-(np.exp(expected) * expected).sum(), abs=1e-4)


def test_divergences_are_what_the_books_say(small):
    found = compare(small, [*PROMPTS, "a"])
    p, q, _ = (np.exp(side.logprobs) for side in found.sides)
    m = (p + q) / 2
    forth, back = (p * np.log(p / q)).sum(), (q * np.log(q / p)).sum()
    js = (p * np.log(p / m)).sum() / 2 + (q * np.log(q / m)).sum() / 2
    assert (found.divergence(0, 1).forth, found.divergence(0, 1).back) == pytest.approx((forth, back))
    assert found.divergence(0, 1).js == found.divergence(1, 0).js == pytest.approx(js)
    assert 0 < js < math.log(2)
    assert found.divergence(2, 2) == (0, 0, 0)


def test_where_they_differ_most_is_what_adds_most_to_the_divergence(small):
    found = compare(small, PROMPTS)
    p, q = (np.exp(side.logprobs) for side in found.sides)
    parts = p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))
    assert found.differing(7) == np.argsort(-parts, kind="stable")[:7].tolist()
    (one, *_) = found.plain(3)["differences"]
    assert one["log_ratios"] == pytest.approx([0, math.log(one["probabilities"][1] / one["probabilities"][0])])


def test_a_prompt_does_not_see_the_others(small):
    alone = compare(small, [PROMPTS[0], PROMPTS[0]])
    among = compare(small, [PROMPTS[1], "a " * 20, PROMPTS[0]])
    assert (alone.sides[0].logprobs == among.sides[2].logprobs).all()


def test_an_empty_prompt_is_the_start_token(small):
    found = compare(small, "{|the cat}")
    assert [side.ids for side in found.sides] == [[299], small.tokenizer.encode("the cat")]


def test_divergences_are_from_the_first_or_of_all_pairs(small):
    found = compare(small, ["the", "a", "an", "one"])
    pairs = [(one["first"], one["second"]) for one in found.plain()["divergences"]]
    assert pairs == [("A", "B"), ("A", "C"), ("A", "D")]
    pairs = [(one["first"], one["second"]) for one in found.plain(pairs=True)["divergences"]]
    assert pairs == [*itertools.combinations("ABCD", 2)]
    assert [label(number) for number in (0, 25, 26, 51, 52)] == ["A", "Z", "AA", "AZ", "BA"]


# Endings


def test_endings_are_scored_as_score_does_it(small):
    endings = ["dog", "old man", ", and so"]
    found = compare(small, PROMPTS, endings=endings)
    for side in found.sides:
        for one, text in zip(side.endings, endings, strict=True):
            whole = score(small, joined("", joined(side.prompt, text)), context=side.prompt, start=False)
            assert one.logprob == pytest.approx(whole.logprob, abs=1e-4)
            assert small.tokenizer.decode(one.ids) == joined(side.prompt, text)
        parts = np.exp([one.logprob for one in side.endings])
        assert side.normalized() == pytest.approx((parts / parts.sum()).tolist())
    a, b = (side["endings"] for side in found.plain()["sides"])
    assert [one["log_ratio"] for one in a] == [0, 0, 0]
    for one, other in zip(a, b, strict=True):
        assert other["log_ratio"] == other["logprob"] - one["logprob"]
        assert one["per_token"] == one["logprob"] / len(one["ids"])


def test_a_space_is_put_before_a_word_and_not_before_a_sign():
    assert joined("works as a", "nurse") == " nurse"
    assert joined("works as a ", "nurse") == "nurse"
    assert joined("works as a", " nurse") == " nurse"
    assert joined("works as a nurse", ".") == "."
    assert joined("", "nurse") == "nurse"


def test_a_space_at_the_end_of_a_prompt_belongs_to_the_word():
    model = load("tiny")
    spaced, plain = compare(model, ["The cat sat on the ", "The cat sat on the"], endings=["mat"]).sides
    assert spaced.endings[0].ids == plain.endings[0].ids == model.tokenizer.encode(" mat")
    assert spaced.endings[0].logprob == plain.endings[0].logprob
    assert spaced.ids != plain.ids


# Samples


def test_samples_are_those_of_generate(small):
    found = compare(small, PROMPTS, samples=40, sampling=Sampling(seed=5), limits=Limits(max_tokens=6))
    for side in found.sides:
        rows = collect(generate(small, side.prompt, sampling=Sampling(seed=5), samples=40, max_tokens=6))
        assert side.texts == [rows[number][0] for number in range(40)]
    few = compare(small, PROMPTS, samples=3, sampling=Sampling(seed=5), limits=Limits(max_tokens=6))
    assert few.sides[1].texts == found.sides[1].texts[:3]


def test_first_words_are_counted_with_their_intervals(small):
    found = compare(small, PROMPTS, samples=4)
    found.sides[0].texts = [" doctor.", " doctor, and", " man's hat", "..."]
    found.sides[1].texts = [" nurse", " doctor", "", " nurse-maid"]
    words = found.words()
    assert {word: tuple(one.count for one in shares) for word, shares in words.items()} == {
        "doctor": (2, 1),
        "": (1, 1),
        "man's": (1, 0),
        "nurse": (0, 1),
        "nurse-maid": (0, 1),
    }
    assert next(iter(words)) == "doctor"
    assert words["doctor"][0].share == 0.5
    assert [first_word(text) for text in ("\n\n«Où", " don’t", "—", " 12 men")] == ["Où", "don’t", "", "12"]


def test_intervals_are_wilsons():
    """Their ends are the true shares from which what was counted lies 1.96 standard deviations away."""
    for count, of in ((10, 100), (1, 7), (499, 500), (0, 50)):
        one = wilson(count, of)
        assert one.share == count / of
        for end in (one.low, one.high):
            assert abs(one.share - end) == pytest.approx(1.96 * (end * (1 - end) / of) ** 0.5, rel=1e-4, abs=1e-9)
    assert (wilson(10, 100).low, wilson(10, 100).high) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)


# Several models


def test_two_models_answer_one_prompt(small):
    found = compare([small, small], ["the cat"])
    assert [side.prompt for side in found.sides] == ["the cat", "the cat"]
    assert found.divergence(0, 1) == pytest.approx((0, 0, 0), abs=1e-12)
    with pytest.raises(UsageError, match="different vocabularies"):
        compare([small, load("tiny")], ["the cat"])


# Mistakes


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda model: compare(model, "the cat"), UsageError, "there is one prompt"),
        (lambda model: compare(model, []), UsageError, "there is no prompt"),
        (lambda model: compare(model, ["a"] * 101), UsageError, "101 prompts"),
        (lambda model: compare(model, PROMPTS, endings=["x", " "]), UsageError, "ending 2 is empty"),
        (lambda model: compare(model, PROMPTS, endings=[b"x"]), UsageError, "`endings` is b'x'"),
        (lambda model: compare(model, ["a", b"x"]), UsageError, "`prompt` is b'x'"),
        (lambda model: compare("tiny", PROMPTS), UsageError, "`model` is 'tiny'"),
        (lambda model: compare(model, PROMPTS, samples=-1), UsageError, "`samples` is -1"),
        (lambda model: compare(model, PROMPTS, samples=True), UsageError, "`samples` is True"),
        (lambda model: compare(model, ["a", "the cat " * 60]), CannotMeet, "longer than the model's window of 64"),
        (lambda model: compare(model, PROMPTS, endings=["the cat " * 60]), CannotMeet, "window of 64"),
        (lambda model: compare(model, PROMPTS, samples=2, limits=Limits(max_tokens=None)), UsageError, "no end"),
    ],
)
def test_mistakes_are_told_in_words(small, call, kind, said):
    with pytest.raises(kind) as caught:
        call(small)
    assert said in caught.value.message
