"""The loop: what is generated equals a plain loop over the oracle; rows, stops, limits, the window, beams."""

import itertools
import json
from dataclasses import replace

import numpy as np
import oracle
import pytest
from checkpoints import SMALL, make_checkpoint, random_tensors, small_tokenizer
from conftest import assert_error
from foreign import make_foreign
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from texts import collect, generate, ids_of

from gpt2cli import Sampling, load
from gpt2cli.errors import CannotMeet, CorruptFile, UsageError
from gpt2cli.generation.parameters import Limits
from gpt2cli.generation.requests import Piece, Request
from gpt2cli.generation.sampling import log_softmax
from gpt2cli.generation.speculation import DraftModel, Lookup
from gpt2cli.generation.stops import StopStrings
from gpt2cli.generation.texts import fit, stream

GREEDY = Sampling(temperature=0)
PROMPT = [260, 280, 270]


@pytest.fixture(scope="module")
def weights(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    return load_file(checkpoint / "model.safetensors"), config


def test_greedy_equals_the_oracle(small, weights):
    assert ids_of(generate(small, PROMPT, sampling=GREEDY, max_tokens=50, ignore_eos=True)) == oracle.greedy(
        *weights, PROMPT, 50
    )


def test_same_seed_same_text(small):
    first, second, other = (
        ids_of(generate(small, PROMPT, sampling=Sampling(seed=seed), max_tokens=40)) for seed in (5, 5, 6)
    )
    assert first == second
    assert first != other


def test_row_3_of_8_equals_row_3_of_4(small):
    eight = collect(generate(small, PROMPT, sampling=Sampling(seed=1), samples=8, max_tokens=30))
    four = collect(generate(small, PROMPT, sampling=Sampling(seed=1), samples=4, max_tokens=30))
    one = collect(generate(small, PROMPT, sampling=Sampling(seed=1), samples=1, max_tokens=30))
    assert {row: eight[row] for row in four} == four
    assert one[0] == eight[0]
    assert len({tuple(ids) for _, ids, _ in eight.values()}) == 8


def test_a_row_that_ends_does_not_disturb_the_others(small):
    """With a stop string rows end at different times; each is a prefix of what it would have been."""
    free = collect(generate(small, PROMPT, sampling=Sampling(seed=2), samples=6, max_tokens=60))
    late = [free[0][0][20], free[1][0][30], free[2][0][40]]
    stopped = collect(generate(small, PROMPT, sampling=Sampling(seed=2), samples=6, max_tokens=60, stop=late))
    assert len({len(ids) for _, ids, _ in stopped.values()}) > 2
    for row, (text, ids, finish) in stopped.items():
        assert free[row][1][: len(ids)] == ids
        if finish == "stop":
            assert text == min((free[row][0].partition(stop)[0] for stop in late), key=len)


def test_the_engine_can_be_used_again(small):
    first = collect(generate(small, PROMPT, sampling=GREEDY, samples=3, max_tokens=20))
    again = collect(generate(small, PROMPT, sampling=GREEDY, samples=1, max_tokens=20))
    assert again[0] == first[0]


def test_joined_pieces_are_the_decoded_ids(small):
    for row, (text, ids, _) in collect(generate(small, PROMPT, sampling=Sampling(seed=0), samples=4)).items():
        assert text == small.tokenizer.decode(ids), row


def test_closing_the_generator_is_cancellation(small):
    pieces = generate(small, PROMPT, max_tokens=None)
    assert len(list(itertools.islice(pieces, 5))) == 5
    pieces.close()
    assert ids_of(generate(small, PROMPT, sampling=GREEDY, max_tokens=3))


def test_finish_reasons(small):
    (end,) = small.ends
    bias = Sampling(temperature=0, logit_bias={end: 1e4})
    assert list(generate(small, PROMPT, sampling=bias)) == [Piece(0, "", finish="end", end=end)]
    assert collect(generate(small, PROMPT, sampling=GREEDY, max_tokens=5))[0][2] == "length"
    assert list(generate(small, PROMPT, max_tokens=0, samples=2)) == [
        Piece(0, "", finish="length"),
        Piece(1, "", finish="length"),
    ]


def test_min_tokens_and_ignore_eos_ban_the_end(small):
    bias = Sampling(temperature=0, logit_bias=dict.fromkeys(small.ends, 1e4))
    _, ids, finish = collect(generate(small, PROMPT, sampling=bias, min_tokens=7))[0]
    assert (len(ids), finish) == (7, "end")
    _, ids, finish = collect(generate(small, PROMPT, sampling=bias, ignore_eos=True, max_tokens=20))[0]
    assert (len(ids), finish) == (20, "length")
    assert 299 not in ids


def test_max_length_counts_the_prompt(small):
    assert len(ids_of(generate(small, PROMPT, max_tokens=None, max_length=10, ignore_eos=True))) == 7
    assert len(ids_of(generate(small, PROMPT, max_tokens=4, max_length=10, ignore_eos=True))) == 4
    with pytest.raises(CannotMeet, match="3 tokens already"):
        generate(small, PROMPT, max_length=3)


def test_an_empty_prompt_starts_from_the_end_token(small):
    assert fit(small, "").ids == [small.start]
    assert collect(generate(small, "", sampling=GREEDY)) == collect(generate(small, [small.start], sampling=GREEDY))


def test_text_and_ids_are_the_same_prompt(small):
    text = "The old man"
    assert collect(generate(small, text, sampling=GREEDY)) == collect(
        generate(small, small.tokenizer.encode(text), sampling=GREEDY)
    )


# The window


def slow_greedy(weights, prompt, count, keep, window=64):
    """Past the window go on from the first `keep` and the recent half, always from scratch."""
    said, context = list(prompt), list(prompt)
    for _ in range(count):
        said.append(int(oracle.forward(*weights, context)[-1].argmax()))
        context.append(said[-1])
        if len(context) > window:
            context = said[:keep] + said[len(said) - max(1, (window - keep) // 2) :]
    return said[len(prompt) :]


@pytest.mark.parametrize("keep", [0, 1, 5, 32])
@pytest.mark.long
def test_window_slide_equals_fresh_prefill(small, weights, keep):
    expected = slow_greedy(weights, PROMPT, 200, keep)
    assert 299 not in expected
    assert ids_of(generate(small, PROMPT, sampling=GREEDY, max_tokens=200, keep=keep)) == expected


def test_keep_minus_1_keeps_the_prompt(small):
    def text(keep):
        return ids_of(generate(small, PROMPT, sampling=GREEDY, max_tokens=200, keep=keep))

    assert text(-1) == text(3)


def test_several_rows_slide_together(small):
    four = collect(generate(small, PROMPT, sampling=Sampling(seed=4), samples=4, max_tokens=150, ignore_eos=True))
    one = collect(generate(small, PROMPT, sampling=Sampling(seed=4), samples=1, max_tokens=150, ignore_eos=True))
    assert four[0] == one[0]
    assert all(len(ids) == 150 for _, ids, _ in four.values())


@pytest.mark.long
def test_endless_text_needs_constant_memory(small):
    import tracemalloc

    pieces = generate(small, PROMPT, sampling=Sampling(seed=1), max_tokens=None, ignore_eos=True)
    for _ in itertools.islice(pieces, 200):
        pass
    tracemalloc.start()
    for _ in itertools.islice(pieces, 600):
        pass
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert current < 200_000


def test_a_prompt_of_the_whole_window_works(small):
    ids = list(np.random.default_rng(0).integers(0, 299, 64))
    assert len(ids_of(generate(small, [int(i) for i in ids], max_tokens=3, ignore_eos=True))) == 3


def test_longer_prompts_are_cut_from_the_left(small):
    text = "the cat and the dog " * 30
    whole = small.tokenizer.encode(text)
    assert fit(small, text).ids == whole[-64:]
    assert fit(small, text, keep=4).ids == whole[:4] + whole[-60:]
    with pytest.raises(CannotMeet, match="longer than the model's window of 64 tokens"):
        fit(small, text, strict=True)
    with pytest.raises(CannotMeet, match="leaves too little"):
        generate(small, PROMPT, keep=33)
    assert ids_of(generate(small, PROMPT * 12, sampling=GREEDY, keep=-1, max_tokens=5))


# Stop strings


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_stop_strings_are_found_however_the_text_is_cut(text, stops, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    scanner = StopStrings(stops)
    out = ""
    for part in parts:
        out += scanner.push(part)
        if scanner.found:
            break
        assert not any(stop in out for stop in stops)
    out += scanner.finish()
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert out == (text[: min(ends)[1]] if ends else text)
    assert scanner.found == bool(ends)


def test_stop_strings_cross_token_boundaries(small):
    text, ids, _ = collect(generate(small, PROMPT, sampling=Sampling(seed=3), max_tokens=60))[0]
    pieces = [small.tokenizer.decode([token]) for token in ids]
    place = next(n for n in range(5, 50) if (pieces[n] + pieces[n + 1]).isascii())
    stop = pieces[place][-1] + pieces[place + 1][:1]
    shorter, _, finish = collect(generate(small, PROMPT, sampling=Sampling(seed=3), max_tokens=60, stop=[stop]))[0]
    assert finish == "stop"
    assert shorter == text.partition(stop)[0]


def test_tokens_that_end_a_text_as_an_end_token_does(small):
    whole = ids_of(generate(small, PROMPT, sampling=GREEDY, max_tokens=8))
    asked = Request(PROMPT, GREEDY, Limits(max_tokens=8), logprobs=0, stop_tokens=(whole[3],))
    pieces = list(stream(small, asked))
    count = whole.index(whole[3])
    assert [piece.token for piece in pieces] == [*whole[:count], None]
    assert (pieces[-1].end, pieces[-1].finish) == (whole[3], "end")
    assert pieces[-1].logprob is not None
    later = replace(asked, limits=Limits(max_tokens=8, min_tokens=count + 1))
    assert next(itertools.islice(stream(small, later), count, None)).token not in (None, whole[3])


def test_samples_by_number_are_those_of_the_batch(small):
    def rows(**numbers):
        request = Request(PROMPT, Sampling(seed=3), Limits(max_tokens=12), **numbers)
        return collect(stream(small, request))

    assert rows(samples=5) == rows(samples=3) | rows(samples=2, first=3)


# Log-probabilities


def test_logprobs_are_the_raw_distribution(small, weights):
    """Before temperature, filters and penalties, in natural logarithms."""
    wild = Sampling(temperature=2.0, top_k=3, repeat_penalty=3.0, seed=1)
    pieces = list(generate(small, PROMPT, sampling=wild, max_tokens=10, logprobs=5))
    context = list(PROMPT)
    for piece in pieces:
        expected = log_softmax(oracle.forward(*weights, context)[-1])
        assert piece.logprob.logprob == pytest.approx(expected[piece.token], abs=1e-4)
        best = np.argsort(-expected)[:5]
        assert [token for token, _ in piece.logprob.top] == best.tolist()
        assert np.argsort(-expected)[piece.logprob.rank - 1] == piece.token
        assert [value for _, value in piece.logprob.top] == pytest.approx(expected[best], abs=1e-4)
        context.append(piece.token)


# Beams


def best_by_enumeration(weights, prompt, length, vocabulary):
    """The likeliest continuation of `length` tokens, by trying all."""
    scores = {}
    for ids in itertools.product(range(vocabulary), repeat=length):
        steps = log_softmax(oracle.forward(*weights, [*prompt, *ids]))[len(prompt) - 1 : -1]
        scores[ids] = sum(step[token] for step, token in zip(steps, ids, strict=True))
    return max(scores, key=scores.get)


def test_beams_as_wide_as_the_tree_find_the_best(tmp_path):
    config, tensors = make_checkpoint(
        tmp_path, vocab_size=6, eos_token_id=None, bos_token_id=None, n_layer=1, tokenizer=False
    )
    small_tokenizer().save(str(tmp_path / "tokenizer.json"))
    model = load(str(tmp_path), precision="fp32")
    best = best_by_enumeration((tensors, config), [1, 2], 3, 6)
    assert tuple(ids_of(generate(model, [1, 2], beams=36, max_tokens=3, ignore_eos=True))) == best


def test_one_beam_is_greedy_and_more_are_no_worse(small, weights):
    def score(ids):
        steps = log_softmax(oracle.forward(*weights, [*PROMPT, *ids]))[len(PROMPT) - 1 : -1]
        return sum(step[token] for step, token in zip(steps, ids, strict=True)) / len(ids)

    greedy = ids_of(generate(small, PROMPT, sampling=GREEDY, max_tokens=12, ignore_eos=True))
    found = collect(generate(small, PROMPT, beams=6, samples=3, max_tokens=12, ignore_eos=True))
    scores = [score(found[row][1]) for row in range(3)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] >= score(greedy) - 1e-6
    assert len({tuple(ids) for _, ids, _ in found.values()}) == 3


def test_beams_obey_ngram_rules_and_stops(small):
    rules = Sampling(no_repeat_ngram=2)
    text, ids, _ = collect(generate(small, PROMPT, sampling=rules, beams=4, max_tokens=40, ignore_eos=True))[0]
    pairs = list(itertools.pairwise([*PROMPT, *ids]))
    assert len(set(pairs)) == len(pairs)
    stop = text[10]
    cut, _, finish = collect(
        generate(small, PROMPT, sampling=rules, beams=4, max_tokens=40, ignore_eos=True, stop=[stop])
    )[0]
    assert (cut, finish) == (text.partition(stop)[0], "stop")


def test_beams_do_not_go_beyond_the_window(small):
    with pytest.raises(CannotMeet, match="window"):
        generate(small, PROMPT, beams=2, max_tokens=100)
    assert len(ids_of(generate(small, PROMPT, beams=2, max_tokens=62, ignore_eos=True))) == 62


# What cannot be


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 0},
        {"beams": 0},
        {"max_tokens": -5},
        {"min_tokens": -1},
        {"min_tokens": 10, "max_tokens": 5},
        {"stop": [""]},
        {"logprobs": -1},
        {"beams": 2, "samples": 3},
    ],
)
def test_impossible_requests_are_refused_when_called(small, changes):
    with pytest.raises(UsageError):
        generate(small, PROMPT, **changes)


# what begins and ends a text


def with_ends(folder, config=None, generation=None, **options):
    """A small model, its end tokens as config.json and generation_config.json give them."""
    make_checkpoint(folder, **(config or {}), **options)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return load(str(folder), precision="fp32")


@pytest.mark.parametrize(
    ("config", "generation", "ends", "start"),
    [
        ({"eos_token_id": [0, 66]}, None, (0, 66), 299),
        ({"eos_token_id": None}, {"eos_token_id": [0, 66]}, (0, 66), 299),
        ({"eos_token_id": 5}, {"eos_token_id": 66}, (66,), 299),
        ({"eos_token_id": 5}, {"eos_token_id": None, "do_sample": True}, (5,), 299),
        ({"eos_token_id": [66, 50256, 66, -1]}, None, (66,), 299),
        ({"eos_token_id": []}, None, (299,), 299),
        ({"eos_token_id": None, "bos_token_id": None}, None, (299,), 299),
        ({"eos_token_id": 66, "bos_token_id": 7}, None, (66,), 7),
        ({"eos_token_id": 66, "bos_token_id": 7}, {"bos_token_id": 8}, (66,), 8),
        ({"eos_token_id": [66, 5], "bos_token_id": 50256}, None, (66, 5), 66),
    ],
)
def test_every_named_end_token_ends_a_text(config, generation, ends, start, tmp_path):
    model = with_ends(tmp_path, config, generation)
    assert (model.ends, model.start) == (ends, start)
    assert fit(model, "").ids == [start]
    twin = load(str(tmp_path), precision="fp32")
    for end in ends:
        bias = Sampling(temperature=0, logit_bias={end: 1e4})
        for options in ({}, {"samples": 2}, {"beams": 2}, {"drafter": Lookup()}, {"drafter": DraftModel(twin, model)}):
            found = collect(generate(model, PROMPT, sampling=bias, max_tokens=9, **options))
            assert found[0][1:] == ([], "end")
            found = collect(generate(model, PROMPT, sampling=bias, max_tokens=9, ignore_eos=True, **options))
            assert (len(found[0][1]), found[0][2]) == (9, "length")
            assert not set(found[0][1]) & set(ends)
        found = collect(generate(model, PROMPT, sampling=bias, min_tokens=3))
        assert (len(found[0][1]), found[0][2]) == (3, "end")
        assert not set(found[0][1]) & set(ends)


def test_beams_with_several_end_tokens_are_transformers(tmp_path):
    """Computed with transformers 5 on the same weights."""
    model = with_ends(tmp_path, {"eos_token_id": [80, 202, 40]})
    found = collect(generate(model, PROMPT, beams=3, samples=3, max_tokens=12))
    begin = [267, 204, 204, 204, 89, 89, 89]
    assert [ids for _, ids, _ in found.values()] == [
        [*begin, 19, 19, 19, 19, 19],
        [*begin, 89, 19, 19, 19, 19],
        [*begin, 19, 19, 19, 19, 89],
    ]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"eos_token_id": "66"}', '{"eos_token_id": [1.5]}', '{"bos_token_id": true}']
)
def test_a_broken_generation_config_is_an_error_with_its_name(content, tmp_path, run):
    make_checkpoint(tmp_path)
    (tmp_path / "generation_config.json").write_text(content)
    assert_error(run("generate", "-q", "-m", tmp_path, "x"), 5, "generation_config.json")


def test_a_ready_made_graph_knows_its_end_tokens(tmp_path):
    make_foreign(tmp_path, eos_token_id=5)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [0, 66], "bos_token_id": 7}')
    model = load(str(tmp_path))
    assert (model.ends, model.start) == ((0, 66), 7)


def test_an_empty_prompt_without_an_end_token(tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    make_checkpoint(tmp_path, eos_token_id=None, bos_token_id=None)
    raw = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    raw.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CannotMeet, match="empty"):
        generate(load(str(tmp_path)), "")


def test_nan_logits_are_an_error(tmp_path):
    tensors = random_tensors(SMALL)
    tensors["h.0.mlp.c_proj.weight"][:] = 3e38  # finite, but its products are not
    tensors["h.1.mlp.c_proj.weight"][:] = -3e38
    make_checkpoint(tmp_path, tensors=tensors)
    with pytest.raises(CorruptFile, match="NaN"):
        list(generate(load(str(tmp_path), precision="fp32"), PROMPT))


@pytest.mark.parametrize("positions", [1, 2, 3])
def test_the_smallest_windows_slide(positions, tmp_path):
    config, tensors = make_checkpoint(tmp_path, n_positions=positions)
    model = load(str(tmp_path), precision="fp32")
    expected = slow_greedy((tensors, config), [5], 9, 0, window=positions)
    assert 299 not in expected
    assert ids_of(generate(model, [5], sampling=GREEDY, max_tokens=9)) == expected


def test_held_text_completes_what_has_come(small):
    """At every moment pieces so far and what the last one holds are the text of the ids so far."""
    for stop in ([], ["ab", "the cat sat on", "x\n"]):
        text, ids = "", []
        for piece in generate(small, PROMPT, sampling=Sampling(seed=3, temperature=3), max_tokens=60, stop=stop):
            if piece.finish:
                break
            text, ids = text + piece.text, [*ids, piece.token]
            assert text + piece.held == small.tokenizer.decode(ids)
        assert len(ids) > 5


@pytest.mark.parametrize(
    "extremes",
    [
        {"temperature": 1e-320},
        {"temperature": 1e308},
        {"logit_bias": {5: 1e9, 6: -1e9}, "repeat_penalty": 1e9, "presence_penalty": 1e9},
        {"repeat_penalty": 1e-9, "frequency_penalty": -1e9},
        {"repeat_last_n": 10**20, "repeat_penalty": 1.1, "top_k": 10**20, "no_repeat_ngram": 10**20},
        {"top_p": 1e-300, "min_p": 1.0, "typical": 1e-300},
    ],
)
def test_extreme_values_are_no_numerical_accident(small, extremes):
    assert (
        len(ids_of(generate(small, PROMPT, sampling=Sampling(seed=1, **extremes), max_tokens=8, ignore_eos=True))) == 8
    )


def test_two_texts_on_one_model_take_turns(small):
    alone = [list(generate(small, prompt, sampling=Sampling(seed=3), max_tokens=20)) for prompt in (PROMPT, [7, 8])]
    first = generate(small, PROMPT, sampling=Sampling(seed=3), max_tokens=20)
    begun = [next(first), next(first)]
    second = list(generate(small, [7, 8], sampling=Sampling(seed=3), max_tokens=20))
    assert [[*begun, *first], second] == alone


@pytest.mark.parametrize("ids", [[300], [-1], [5, 1 << 40]])
def test_ids_outside_the_vocabulary_are_refused_when_called(small, ids):
    with pytest.raises(UsageError, match=f"token id {ids[-1]} lies outside"):
        generate(small, ids)
    with pytest.raises(UsageError, match=f"token id {ids[-1]} lies outside"):
        generate(small, PROMPT, sampling=Sampling(logit_bias={ids[-1]: 1.0}))


def test_more_rows_than_memory_are_refused_when_called(small):
    with pytest.raises(CannotMeet, match=r"rows of 13 tokens need .* GB"):
        generate(small, PROMPT, max_tokens=10, samples=10**9)


def test_beams_where_everything_is_banned(small):
    banned = dict.fromkeys(range(300), -np.inf)
    with pytest.raises(CannotMeet, match="every token is banned"):
        list(generate(small, PROMPT, sampling=Sampling(logit_bias=banned), beams=3, max_tokens=4))


def test_beams_where_bans_leave_fewer_texts_than_asked_for(small):
    banned = {token: -np.inf for token in range(300) if token != 7}
    pieces = generate(small, PROMPT, sampling=Sampling(logit_bias=banned), beams=3, max_tokens=4)
    assert ids_of(pieces) == [7] * 4
    with pytest.raises(CannotMeet, match="only 1 of 2 texts"):
        list(generate(small, PROMPT, sampling=Sampling(logit_bias=banned), beams=3, max_tokens=4, samples=2))


def test_min_tokens_and_max_length_together(small):
    with pytest.raises(UsageError, match="`min_tokens` 50"):
        generate(small, PROMPT, max_tokens=None, max_length=10, min_tokens=50)
