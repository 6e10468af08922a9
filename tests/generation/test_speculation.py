"""Drafts change how fast a text comes, not which text: greedy token for token, drawn in distribution."""

from dataclasses import replace

import numpy as np
import pytest
from checkpoints import SMALL, make_checkpoint, random_tensors
from texts import generate

from gpt2cli.errors import UsageError
from gpt2cli.generation.parameters import Sampling
from gpt2cli.generation.sampling import Draft, Sampler, survivors
from gpt2cli.generation.speculation import DraftModel, Lookup
from gpt2cli.model import load
from gpt2cli.tokenizer.tokenizer import Tokenizer

PROMPT = [5, 7, 250, 7, 99, 120, 3, 44]
GREEDY = Sampling(temperature=0)


def ids_of(pieces):
    return [piece.token for piece in pieces if piece.token is not None]


@pytest.fixture
def other(tmp_path):
    """A model of the same vocabulary that says something else."""
    tensors = random_tensors(SMALL)
    for name in tensors:
        if name.endswith("mlp.c_proj.weight"):
            tensors[name] = tensors[name] * np.float32(0.5)
    make_checkpoint(tmp_path, tensors=tensors)
    return load(str(tmp_path), precision="fp32")


class Oracle:
    """Guesses what it was told the text will be, with every third guess wrong."""

    def __init__(self, text, length):
        self.text, self.length = text, length
        self.drafted = self.accepted = 0

    def begin(self, sampling):
        pass

    def propose(self, context, most):
        said = len(context) - len(PROMPT)
        guesses = self.text[said : said + min(self.length, most)]
        return [Draft(token + (place % 3 == 2)) for place, token in enumerate(guesses)]

    def judged(self, drafted, accepted):
        self.drafted += drafted
        self.accepted += accepted


@pytest.mark.parametrize("length", [1, 2, 3, 8])
@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        Sampling(temperature=0, repeat_penalty=1.3, no_repeat_ngram=3),
        Sampling(temperature=0, presence_penalty=2, logit_bias={7: 3.0}),
    ],
)
def test_greedy_text_is_the_same_with_right_and_wrong_drafts(small, sampling, length):
    plain = ids_of(generate(small, PROMPT, sampling=sampling, max_tokens=50, ignore_eos=True))
    drafter = Oracle(plain, length)
    assert ids_of(generate(small, PROMPT, sampling=sampling, max_tokens=50, ignore_eos=True, drafter=drafter)) == plain
    assert drafter.accepted > 0
    assert drafter.accepted < drafter.drafted or length < 3


@pytest.mark.parametrize("keep", [0, 5, -1])
@pytest.mark.parametrize("kind", ["lookup", "model", "itself"])
@pytest.mark.long
def test_greedy_text_is_the_same_beyond_the_window(small, other, checkpoint, keep, kind):
    plain = ids_of(generate(small, PROMPT, sampling=GREEDY, max_tokens=200, keep=keep, ignore_eos=True))
    twin = load(str(checkpoint), precision="fp32")
    drafter = Lookup() if kind == "lookup" else DraftModel(other if kind == "model" else twin, small)
    pieces = generate(small, PROMPT, sampling=GREEDY, max_tokens=200, keep=keep, ignore_eos=True, drafter=drafter)
    assert ids_of(pieces) == plain
    assert drafter.accepted > 0
    if kind == "itself":
        assert drafter.accepted > 0.9 * drafter.drafted


def test_a_draft_model_serves_one_text_after_another(small, other):
    drafter = DraftModel(other, small)
    for prompt in (PROMPT, [9, 9, 9], PROMPT[:3]):
        plain = ids_of(generate(small, prompt, sampling=GREEDY, max_tokens=20, ignore_eos=True))
        assert (
            ids_of(generate(small, prompt, sampling=GREEDY, max_tokens=20, ignore_eos=True, drafter=drafter)) == plain
        )


def test_the_rest_of_a_piece_is_the_same(small):
    """Text, finish and log-probabilities, with an end of text and a stop string on the way."""
    for options in ({"logprobs": 3}, {"stop": ["z"]}, {"min_tokens": 10}):
        plain = list(generate(small, PROMPT, sampling=GREEDY, max_tokens=40, **options))
        guessed = list(generate(small, PROMPT, sampling=GREEDY, max_tokens=40, drafter=Lookup(), **options))
        assert [(piece.text, piece.token, piece.finish) for piece in guessed] == [
            (piece.text, piece.token, piece.finish) for piece in plain
        ]
        if "logprobs" in options:
            values = [[piece.logprob.logprob for piece in pieces] for pieces in (plain, guessed)]
            np.testing.assert_allclose(*values, atol=1e-4)


def chi_square(counts, expected):
    used = expected > 5
    return ((counts - expected)[used] ** 2 / expected[used]).sum(), used.sum() - 1


@pytest.mark.parametrize("certain", [True, False])
@pytest.mark.parametrize("sampling", [Sampling(seed=3), Sampling(temperature=1.3, top_k=0, top_p=0.9, seed=4)])
@pytest.mark.long
def test_judged_tokens_have_the_distribution_of_chosen_ones(sampling, certain):
    """6,000 tokens of rejection sampling against the exact distribution: chi-square within four deviations."""
    rng = np.random.default_rng(0)
    logits, guess = rng.standard_normal((2, 1, 30)).astype(np.float32) * 2
    ids, p = survivors(logits, sampling)
    expected = np.zeros(30)
    expected[ids[0]] = p[0]
    theirs = survivors(guess, sampling)
    sampler, count = Sampler(sampling, [], 1), 6_000
    counts, taken = np.zeros(30), 0
    for _ in range(count):
        if certain:
            draft = Draft(int(ids[0, 1]))
        else:
            draft = Draft(int(rng.choice(theirs[0][0], p=theirs[1][0])), theirs[0][0], theirs[1][0])
        token, agreed = sampler.judge(logits, draft)
        counts[token] += 1
        taken += agreed
    value, freedom = chi_square(counts, expected * count)
    assert counts[expected == 0].sum() == 0
    assert value < freedom + 4 * np.sqrt(2 * freedom)
    q = np.zeros(30)
    q[theirs[0][0]] = theirs[1][0]
    overlap = p[0, 1] if certain else np.minimum(expected, q).sum()
    assert taken / count == pytest.approx(overlap, abs=0.025)


@pytest.mark.long
def test_drawn_text_with_a_draft_model_has_the_distribution_of_plain_text(small, other):
    """Whole texts: the third token of 400 drawn with drafts against its exact distribution given the first two,
    which is summed over the pairs that came up."""
    texts = []
    drafter = DraftModel(other, small)
    for seed in range(400):
        sampling = Sampling(top_k=5, top_p=1, temperature=1.5, seed=seed)
        pieces = generate(small, PROMPT, sampling=sampling, max_tokens=3, ignore_eos=True, drafter=drafter)
        texts.append(tuple(ids_of(pieces)))
    expected, counts = np.zeros(300), np.zeros(300)
    engine, sampling = small.engine, Sampling(top_k=5, top_p=1, temperature=1.5)
    for pair in {text[:2] for text in texts}:
        engine.reset()
        logits = engine.feed([[*PROMPT, *pair]])
        logits[:, list(small.ends)] = -np.inf
        ids, p = survivors(logits, sampling)
        expected[ids[0]] += p[0] * sum(text[:2] == pair for text in texts)
    for text in texts:
        counts[text[2]] += 1
    value, freedom = chi_square(counts, expected)
    assert value < freedom + 4 * np.sqrt(2 * freedom)
    assert 0 < drafter.accepted < drafter.drafted


def test_lookup_repeats_what_followed():
    lookup = Lookup()
    lookup.begin(GREEDY)
    text = [1, 2, 3, 4, 5, 9, 1, 2, 3]
    assert [draft.token for draft in lookup.propose(text, 8)] == [4, 5]
    lookup.judged(2, 2)
    assert [draft.token for draft in lookup.propose([*text, 4, 5, 9], 8)] == [1, 2, 3, 4]
    lookup.judged(4, 0)
    assert lookup.propose([*text, 4, 5, 9, 1], 8) == []  # a pause after a failure
    assert lookup.propose([1, 2, 3, 1, 2, 3], 8) == []
    assert [draft.token for draft in lookup.propose([7, 7, 7, 7], 8)] == [7, 7]


def test_a_draft_model_may_put_a_space_before_its_texts(small, other):
    config = other.folder / "tokenizer_config.json"
    config.write_text('{"add_prefix_space": true}')
    spaced = replace(other, tokenizer=Tokenizer(other.folder))
    assert spaced.tokenizer.encode("cat") != small.tokenizer.encode("cat")
    text = ids_of(generate(small, PROMPT, sampling=GREEDY, max_tokens=20))
    assert ids_of(generate(small, PROMPT, sampling=GREEDY, max_tokens=20, drafter=DraftModel(spaced, small))) == text


def test_other_vocabularies_and_several_texts_are_refused(small, tmp_path):
    tiny = load("tiny")
    with pytest.raises(UsageError, match="different vocabularies"):
        DraftModel(tiny, small)
    with pytest.raises(UsageError, match="single text"):
        generate(small, PROMPT, samples=2, drafter=Lookup())


def test_the_command_line(run, checkpoint):
    argv = ("generate", "-m", checkpoint, "--precision", "fp32", "--greedy", "-n", 40, "--ignore-eos", "-q", "The cat")
    plain = run(*argv, "--no-lookup")
    assert run(*argv).stdout == plain.stdout
    assert run(*argv, "--draft-model", checkpoint).stdout == plain.stdout
    assert "drafts taken" in run(*argv, "--stats").stderr
    assert "drafts taken" not in run(*argv, "--stats", "--no-lookup").stderr
    for wrong in (("-t", 1, "--lookup"), ("--greedy", "--lookup", "--draft-model", "tiny")):
        assert run("generate", "-m", checkpoint, "x", *wrong).code == 2
    assert run("generate", "-m", checkpoint, "x", "--draft-model", "tiny").code == 2
