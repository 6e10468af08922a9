"""Scores against the oracle: any length, any stride, alone and together."""

import itertools

import numpy as np
import oracle
import pytest
from checkpoints import SMALL, make_checkpoint

from gpt2cli.analysis.scoring import Score, Scorer, scored
from gpt2cli.errors import UsageError
from gpt2cli.model import load

WINDOW = SMALL["n_positions"]


@pytest.fixture(scope="module")
def tensors(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("same"))[1]  # the random tensors of the fixture `checkpoint`


def some_ids(count, seed=0):
    return np.random.default_rng(seed).integers(0, 299, count).tolist()


def expected(tensors, before, ids, stride):
    """Log-probabilities of `ids` by the loop of Hugging Face's guide: each window scores what is new in it."""
    whole, found, done = before + ids, [], 0
    for begin in range(0, len(whole), stride):
        end = min(begin + WINDOW, len(whole))
        logits = oracle.forward(tensors, SMALL, whole[begin:end])
        logprobs = np.log(oracle.softmax(logits))
        # what nothing precedes, and the context, are not scored
        found += [logprobs[place - begin - 1, whole[place]] for place in range(max(done, len(before), 1), end)]
        done = end
        if end == len(whole):
            break
    return found


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize(
    ("count", "context", "stride"),
    [
        (1, 0, None),
        (WINDOW - 1, 0, None),
        (WINDOW, 0, WINDOW - 1),
        (WINDOW + 1, 0, 1),
        (200, 0, None),
        (200, 0, 10),
        (5, 40, None),
        (150, WINDOW - 2, 20),
    ],
)
def test_scores_are_the_oracles(small, tensors, count, context, stride, start):
    ids, before = some_ids(count), some_ids(context, seed=1)
    scorer = Scorer(small, context=before, start=start, stride=stride)
    found = list(scorer.tokens(iter(ids)))
    assert [one.token for one in found] == ids
    logprobs = [one.logprob for one in found if one.logprob is not None]
    assert len(logprobs) == count - (not start and not context)
    reference = expected(tensors, [small.start] * start + before, ids, scorer.stride)
    np.testing.assert_allclose(logprobs, reference, atol=2e-5)
    again = [one.logprob for one in scorer.tokens(ids) if one.logprob is not None]  # from the shared context
    np.testing.assert_allclose(again, logprobs, atol=2e-5)


def test_a_context_beyond_the_window_is_cut_to_what_a_moved_window_keeps(small, tensors):
    ids, before = some_ids(30), some_ids(100, seed=1)
    scorer = Scorer(small, context=before, stride=20)
    assert scorer.context == WINDOW - 20 - 1
    reference = expected(tensors, [small.start, *before[-scorer.context :]], ids, 20)
    np.testing.assert_allclose([one.logprob for one in scorer.tokens(ids)], reference, atol=2e-5)


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("context", [0, 9])
def test_together_is_alone(small, start, context):
    lengths = [1, 3, 30, 2, 2, 0, 70, 5, *[4] * 40, 1]
    texts = [some_ids(length, seed=number) for number, length in enumerate(lengths)]
    scorer = Scorer(small, context=some_ids(context), start=start, top=2)
    together = [list(tokens) for tokens in scorer.texts(iter(texts))]
    assert [[one.token for one in text] for text in together] == texts
    for text, tokens in zip(texts, together, strict=True):
        for one, alone in zip(
            tokens, Scorer(small, context=some_ids(context), start=start, top=2).tokens(text), strict=True
        ):
            assert (one.logprob is None) == (alone.logprob is None)
            if one.logprob is not None:
                assert one.logprob == pytest.approx(alone.logprob, abs=2e-5)
                assert one.top[0][0] == alone.top[0][0]


def test_int8_together_is_alone_to_the_bit(checkpoint):
    model = load(str(checkpoint), precision="int8")
    texts = [some_ids(length, seed=length) for length in (5, 9, 3)]
    scorer = Scorer(model)
    assert [list(tokens) for tokens in scorer.texts(texts)] == [list(scorer.tokens(text)) for text in texts]


def test_text_after_another_writer_used_the_model(small):
    scorer = Scorer(small, context=some_ids(5))
    before = list(scorer.tokens([1, 2, 3]))
    small.engine.reset()
    small.engine.feed([[7] * 30])
    assert list(scorer.tokens([1, 2, 3])) == before


def test_memory_does_not_grow_with_the_text(small):
    """An endless text is scored as it comes."""
    tokens = Scorer(small, stride=32).tokens(itertools.cycle(some_ids(50)))
    assert len(list(itertools.islice(tokens, 500))) == 500


def test_rank_and_alternatives():
    logits = np.array([[1, 3, 3, 0, -5]], np.float32)

    def of(token, top=3):
        return next(scored(logits, [token], top=top))

    assert [of(token).rank for token in range(5)] == [3, 1, 2, 4, 5]
    assert [token for token, _ in of(0).top] == [1, 2, 0]
    assert len(of(0, top=9).top) == 5
    assert of(0, top=0).top == ()
    norm = np.log(np.exp(logits.astype(float)).sum())
    assert of(0).logprob == pytest.approx(1 - norm)
    assert of(0).top[0][1] == pytest.approx(3 - norm)


def test_sums():
    score = Score()
    assert (score.perplexity, score.bits_per_byte) == (None, None)
    score.add(None, 3)
    assert score.tokens == 0
    score.add(np.log(1 / 8), 2)
    score.add(np.log(1 / 2), 2)
    assert score.perplexity == pytest.approx(4)
    assert score.bits_per_byte == pytest.approx(1)
    score.add(-1e5, 1)
    assert score.perplexity == float("inf")
    assert score.plain()["perplexity"] is None


@pytest.mark.parametrize("stride", [0, WINDOW, WINDOW + 1])
def test_strides_that_do_not_fit(small, stride):
    with pytest.raises(UsageError, match=str(stride)):
        Scorer(small, stride=stride)


def test_ids_outside_the_vocabulary(small):
    with pytest.raises(UsageError, match="300"):
        list(Scorer(small).tokens([1, 300]))
    with pytest.raises(UsageError, match="300"):
        list(Scorer(small).texts([[1], [300]]))
