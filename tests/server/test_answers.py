"""The JSON of an answer: its shape, which is frozen, names of tokens, offsets, log-probabilities."""

import pytest
from checkpoints import make_checkpoint
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from servers import live, merged

from gpt2cli.generation.requests import Logprob, Piece
from gpt2cli.generation.rows import Row
from gpt2cli.model import load
from gpt2cli.server.answers import Choice, token_name
from gpt2cli.server.protocol import completions

PROMPT = [72, 288, 271]  # "i", " we", " c"
GREEDY = {"temperature": 0, "seed": 1}

# An echo with log-probabilities, as capabilities of clients (lm-evaluation-harness, looms) read it.
GOLDEN = {
    "object": "text_completion",
    "model": "small",
    "seed": 1,
    "choices": [
        {
            "index": 0,
            "text": "i we cE",
            "logprobs": {
                "tokens": ["i", " we", " c", "E"],
                "token_logprobs": [None, -12.18488, -14.95929, -1.87251],
                "top_logprobs": [
                    None,
                    {"K": -0.96903, " we": -12.18488},
                    {"bytes:\\xa9": -0.45485, " c": -14.95929},
                    {"E": -1.87251},
                ],
                "text_offset": [0, 1, 4, 6],
            },
            "finish_reason": "length",
        }
    ],
    "usage": {
        "prompt_tokens": 3,
        "completion_tokens": 1,
        "total_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 0},
    },
}


def near(value):
    """The same, with numbers that need only be close."""
    if isinstance(value, dict):
        return {name: near(one) for name, one in value.items()}
    if isinstance(value, list):
        return [near(one) for one in value]
    return pytest.approx(value, abs=1e-3) if isinstance(value, float) else value


def test_the_shape_is_frozen(client):
    found = client.complete(model="small", prompt=[PROMPT], max_tokens=1, logprobs=1, echo=True, **GREEDY)
    assert found.pop("id").startswith("cmpl-")
    assert isinstance(found.pop("created"), int)
    assert found.pop("system_fingerprint").endswith(" fp32 cpu")
    assert found == near(GOLDEN)
    assert list(found) == list(GOLDEN)
    assert list(found["choices"][0]["logprobs"]) == list(GOLDEN["choices"][0]["logprobs"])


def test_the_shape_of_a_stream_is_frozen(client):
    events = client.events(
        prompt=PROMPT, max_tokens=1, logprobs=1, echo=True, stream_options={"include_usage": True}, **GREEDY
    )
    heads = [[event.pop(name) for name in ("id", "created", "system_fingerprint")] for event in events]
    assert all(head == heads[0] for head in heads)
    whole = GOLDEN["choices"][0]
    parts = [
        {name: values[place] for name, values in whole["logprobs"].items()} for place in (slice(3), slice(3, None))
    ]
    head = {"object": "text_completion", "model": "small", "seed": 1}
    assert events == near(
        [
            head
            | {"choices": [{"index": 0, "text": "i we c", "logprobs": parts[0], "finish_reason": None}], "usage": None},
            head
            | {"choices": [{"index": 0, "text": "E", "logprobs": parts[1], "finish_reason": "length"}], "usage": None},
            head | {"choices": [], "usage": GOLDEN["usage"]},
        ]
    )


def test_without_log_probabilities_there_are_none(client):
    (choice,) = client.complete(prompt=PROMPT, max_tokens=1, **GREEDY)["choices"]
    assert choice == {"index": 0, "text": "E", "logprobs": None, "finish_reason": "length"}


def test_zero_log_probabilities_are_those_of_the_chosen(client):
    (choice,) = client.complete(prompt=PROMPT, max_tokens=3, logprobs=0, echo=True, **GREEDY)["choices"]
    found = choice["logprobs"]
    assert found["top_logprobs"][0] is None
    for name, value, top in list(zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True))[1:]:
        assert top == {name: value}


@pytest.mark.parametrize("count", [-1, 300, 10**9])
def test_the_whole_vocabulary(client, count):
    (choice,) = client.complete(prompt=PROMPT, max_tokens=2, logprobs=count, echo=True, **GREEDY)["choices"]
    for top in choice["logprobs"]["top_logprobs"][1:]:
        assert len(top) == 300  # no two tokens have one name
        assert list(top.values()) == sorted(top.values(), reverse=True)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("text", ["a 🙂 b", "naïve 👩‍🚀!", "日本", "x"])
def test_the_likeliest_and_the_actual_token_are_one_float(client, count, text):
    (choice,) = client.complete(prompt=text, max_tokens=9, logprobs=count, echo=True, seed=3)["choices"]
    found = choice["logprobs"]
    assert found["token_logprobs"][0] is None is found["top_logprobs"][0]
    for name, value, top in list(zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True))[1:]:
        assert top[name] == value
        assert count <= len(top) <= count + 1
        assert value >= min(top.values())


# Offsets: characters before a token that are whole


def offsets(tokenizer, ids, before=""):
    """As OpenAI counts, by the definition: what of the bytes so far makes whole characters."""
    found = []
    for place in range(len(ids)):
        raw = b"".join(map(tokenizer.bytes_of, ids[:place]))
        for cut in range(4):  # of a character that is under way nothing counts
            try:
                text = raw[: len(raw) - cut].decode()
                break
            except UnicodeDecodeError:
                continue
        found.append(len(before) + len(text))
    return found


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10))
@example("🙂🙂")
@example("👩‍👩‍👧")
@example("e\u0301 é ñ")
def test_offsets_of_a_prompt_count_characters(served, small_model, text):
    ids = small_model.tokenizer.encode(text)
    (choice,) = served[1].complete(prompt=text, max_tokens=0, logprobs=0, echo=True)["choices"]
    assert choice["text"] == text
    found = choice["logprobs"]
    assert found["text_offset"] == offsets(small_model.tokenizer, ids)
    assert found["tokens"] == [token_name(small_model.tokenizer, token) for token in ids]


def test_parts_of_a_character_are_named_by_their_bytes(client):
    (choice,) = client.complete(prompt="a 🙂 b", max_tokens=0, logprobs=0, echo=True)["choices"]
    names = ["a", " ", "bytes:\\xf0", "bytes:\\x9f", "bytes:\\x99", "bytes:\\x82", " ", "b"]
    assert choice["logprobs"]["tokens"] == names
    assert choice["logprobs"]["text_offset"] == [0, 1, 2, 2, 2, 2, 3, 4]


@pytest.fixture
def grown(small_model):
    """grown(ids, **fields) -> the deltas of a choice whose model says these ids."""

    def grow(ids, **fields):
        asked = completions({"logprobs": 1, "seed": 1} | fields)
        choice = Choice(0, asked, small_model.tokenizer, "ab", [1, 2])
        row = Row(0, small_model.tokenizer, (299,), asked.limits, asked.limits.max_tokens)
        return [choice.push(row.push(token, Logprob(-1.0, ((token, -1.0),), 1))) for token in ids]

    return grow


def test_offsets_of_a_text_go_on_from_the_prompt(small_model, grown):
    ids = small_model.tokenizer.encode("x 🙂🙂 the man")
    deltas = grown(ids)
    assert [delta.text_offset for delta in deltas] == [[one] for one in offsets(small_model.tokenizer, ids, "ab")]
    assert "".join(delta.text for delta in deltas) == "x 🙂🙂 the man"


def test_what_waits_for_a_stop_string_counts(small_model, grown):
    ids = small_model.tokenizer.encode("and so and")
    deltas = grown(ids, stop=["and sea"], max_tokens=len(ids))
    assert deltas[0].text == ""
    assert "".join(delta.text for delta in deltas) == "and so and"
    assert [delta.text_offset for delta in deltas] == [[one] for one in offsets(small_model.tokenizer, ids, "ab")]


def test_an_end_token_has_an_entry_but_no_text(grown):
    *_, last = grown([72, 299])
    assert (last.text, last.finish) == ("", "stop")
    assert last.tokens == ["<|endoftext|>"]
    assert last.top_logprobs == [{"<|endoftext|>": -1.0}]
    assert last.text_offset == [3]
    assert last.token_logprobs == [-1.0]


def test_arrays_are_a_prompt_and_one_also_where_that_ends_the_text(client):
    for token in (299, 72):
        fields = {"prompt": [PROMPT], "max_tokens": 1, "logprobs": 1, "echo": True, "logit_bias": {str(token): 100}}
        (choice,) = client.complete(**fields, **GREEDY)["choices"]
        assert {len(values) for values in choice["logprobs"].values()} == {4}
        assert choice["text"] == ("i we c" if token == 299 else "i we ci")
        assert choice["finish_reason"] == ("stop" if token == 299 else "length")


def test_minus_infinity_is_a_number(small_model):
    choice = Choice(0, completions({"logprobs": 1}), small_model.tokenizer, "", [])
    delta = choice.push(Piece(0, "i", token=72, logprob=Logprob(float("-inf"), ((72, float("-inf")),), 1)))
    assert delta.token_logprobs == [-9999.0]
    assert delta.top_logprobs == [{"i": -9999.0}]


def test_ids_of_a_padded_vocabulary_have_names(tmp_path):
    make_checkpoint(tmp_path / "padded", vocab_size=310)
    (tmp_path / "words").mkdir()
    make_checkpoint(tmp_path / "words")
    (tmp_path / "words/tokenizer.json").replace(tmp_path / "padded/tokenizer.json")
    with live(load(str(tmp_path / "padded"), precision="fp32")) as (_, client):
        found = client.complete(prompt=[[*PROMPT, 305]], max_tokens=1, logprobs=-1, echo=True, **GREEDY)
    for top in found["choices"][0]["logprobs"]["top_logprobs"][1:]:
        assert len(top) == 310
    assert found["choices"][0]["logprobs"]["tokens"][3] == "token_id:305"


# Streams


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 3},
        {"n": 2, "logprobs": 2},
        {"n": 2, "logprobs": 1, "echo": True},
        {"echo": True},
        {"n": 6, "echo": True, "logprobs": 0, "return_token_ids": True},
        {"max_tokens": 0, "echo": True},
        {"max_tokens": 0, "echo": True, "logprobs": 0, "n": 6},
        {"max_tokens": 0},
        {"stop": ["e", "th"]},
        {"return_token_ids": True, "stop_token_ids": list(range(100, 200))},
    ],
    ids=str,
)
def test_a_stream_adds_up_to_the_whole(client, fields):
    fields = {"prompt": ["a 🙂 b", "the man"], "seed": 5, "max_tokens": 20, "return_token_ids": False} | fields
    whole = client.complete(**fields)["choices"]
    events = client.events(**fields)
    parts = merged(events)
    once = ("index", "prompt_token_ids")
    for choice, part in zip(whole, parts, strict=True):
        assert {"token_ids": []} | {name: value for name, value in choice.items() if name not in once} == part
    assert [choice["index"] for choice in whole] == list(range(len(whole)))
    if fields["return_token_ids"]:
        firsts = {delta["index"]: delta for event in reversed(events) for delta in event["choices"]}
        assert all(firsts[one["index"]]["prompt_token_ids"] == one["prompt_token_ids"] for one in whole)


def test_a_token_is_a_chunk(client):
    """As mikupad reads it: the chosen token is found by the chunk's text."""
    events = client.events(prompt="the man", logprobs=10, max_tokens=20, seed=2)
    for event in events:
        (choice,) = event["choices"]
        found = choice["logprobs"]
        assert len(found["tokens"]) == len(found["top_logprobs"]) == 1
        if not found["tokens"][0].startswith("bytes:") and "�" not in choice["text"]:
            assert choice["text"] == found["tokens"][0] or choice["text"] in ("", "�" + found["tokens"][0])
