"""What a request gets: the text that `gpt2 generate` makes, the log-probabilities that `gpt2 score` counts,
whoever else asks."""

import json
import re
import threading
import time

import numpy as np
import pytest
from checkpoints import SMALL, random_tensors
from oracle import forward
from servers import merged
from texts import collect, generate, ids_of

from gpt2cli.analysis import scoring
from gpt2cli.generation.parameters import Limits, Sampling
from gpt2cli.server.protocol import NEUTRAL

PROMPT = [5, 7, 250, 7, 99, 120, 3, 44]
TEXT = "the old man and the sea"
LONG = (PROMPT * 8)[:60]


def neutral(**changes):
    return Sampling(**{"temperature": 1, "top_k": 0, "top_p": 1} | changes)


def alone_text(model, prompt, count=16, sampling=None, **limits):
    """row -> (text, ids, finish), of a model that does nothing else."""
    return collect(generate(model, prompt, sampling=sampling or neutral(seed=1), max_tokens=count, **limits))


def texts(found):
    return [choice["text"] for choice in found["choices"]]


# The same text as the command's


@pytest.mark.parametrize(
    "argv",
    [
        ("--seed", 3),
        ("--seed", 4, "-t", 0.7, "--top-k", 20, "--top-p", 0.9, "--min-p", 0.02),
        ("--seed", 5, "-t", 1.2, "--repeat-penalty", 1.3, "--repeat-last-n", 20, "--presence-penalty", 0.5),
        ("--seed", 6, "--typical", 0.6, "--no-repeat-ngram", 2, "--frequency-penalty", 0.2, "--stop", " the"),
        ("-t", 0, "--min-tokens", 10, "--logit-bias", "11=-3"),
    ],
    ids=str,
)
def test_the_same_seed_gives_the_command_s_text(words, run, argv):
    made = json.loads(run("generate", "-n", 24, "--json", *argv, "The old man").stdout)
    found = words.complete(prompt="The old man", seed=made["seed"], **made["settings"])
    assert texts(found) == [one["text"] for one in made["samples"]]


def test_samples_are_the_command_s(words, run):
    made = json.loads(run("generate", "-N", 5, "-n", 12, "--seed", 8, "--json", "The old man").stdout)
    found = words.complete(prompt="The old man", n=5, seed=8, **made["settings"])
    assert texts(found) == [one["text"] for one in made["samples"]]


def test_streamed_is_whole(words):
    fields = {"prompt": "Once upon a time", "n": 3, "seed": 5, "max_tokens": 40}
    assert [choice["text"] for choice in merged(words.events(**fields))] == texts(words.complete(**fields))


def test_nothing_sent_is_the_model_itself(client, alone):
    assert texts(client.complete(prompt=TEXT, seed=2)) == [alone_text(alone, TEXT, 16, neutral(seed=2))[0][0]]
    assert neutral() == NEUTRAL


@pytest.mark.parametrize("prompt", [None, "", [[]]])
def test_without_a_prompt_a_document_begins(client, alone, prompt):
    found = client.complete(prompt=prompt, seed=2)
    assert texts(found) == [alone_text(alone, "", 16, neutral(seed=2))[0][0]]
    assert found["usage"]["prompt_tokens"] == 1


# Several


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("logprobs", [None, 1])
def test_more_samples_than_rows(client, alone, echo, logprobs):
    found = client.complete(prompt=LONG[:40], n=11, seed=7, max_tokens=12, echo=echo, logprobs=logprobs)
    rows = alone_text(alone, LONG[:40], 12, neutral(seed=7), samples=11)
    before = alone.tokenizer.decode(LONG[:40]) if echo else ""
    assert texts(found) == [before + rows[number][0] for number in range(11)]
    assert [choice["index"] for choice in found["choices"]] == list(range(11))


def test_several_prompts_come_prompt_by_prompt(client, alone):
    prompts = ["the cat", "the dog and", TEXT]
    found = client.complete(prompt=prompts, n=2, seed=3)
    expected = [alone_text(alone, prompt, 16, neutral(seed=3), samples=2) for prompt in prompts]
    assert texts(found) == [rows[number][0] for rows in expected for number in range(2)]
    assert [choice["index"] for choice in found["choices"]] == list(range(6))
    assert found["usage"]["prompt_tokens"] == sum(len(alone.tokenizer.encode(prompt)) for prompt in prompts)


def test_ids_are_as_good_as_text(client, alone):
    ids = alone.tokenizer.encode(TEXT)
    assert texts(client.complete(prompt=TEXT, seed=3)) == texts(client.complete(prompt=ids, seed=3))
    assert texts(client.complete(prompt=[ids, ids], seed=3)) == 2 * texts(client.complete(prompt=[TEXT], seed=3))


@pytest.mark.parametrize("prompts", [["the cat"], ["the cat", "a dog", TEXT]])
@pytest.mark.parametrize("echo", [False, True])
def test_the_best_are_the_likeliest_by_token(client, prompts, echo):
    every = client.complete(prompt=prompts, n=6, seed=3, max_tokens=9, logprobs=0)["choices"]
    found = client.complete(prompt=prompts, n=2, best_of=6, seed=3, max_tokens=9, echo=echo)

    def mean(choice):
        return np.mean(choice["logprobs"]["token_logprobs"])

    expected = []
    for place, prompt in enumerate(prompts):
        best = sorted(every[6 * place : 6 * place + 6], key=mean, reverse=True)[:2]
        expected += [(prompt if echo else "") + choice["text"] for choice in best]
    assert texts(found) == expected
    assert [choice["index"] for choice in found["choices"]] == list(range(2 * len(prompts)))
    assert all(choice["logprobs"] is None for choice in found["choices"])
    generated = sum(len(choice["logprobs"]["tokens"]) for choice in every)
    assert found["usage"]["completion_tokens"] == generated


# Where a text ends


def test_many_stops(client, alone):
    whole = alone_text(alone, TEXT, 44, neutral(seed=4))[0][0]
    stops = [chr(code) * 3 for code in range(200, 400)] + [whole[20:22]]
    found = client.complete(prompt=TEXT, seed=4, max_tokens=60 - 16, stop=stops)
    text, _, finish = alone_text(alone, TEXT, 44, neutral(seed=4), stop=stops)[0]
    assert (texts(found), finish) == ([text], "stop")
    assert found["choices"][0]["finish_reason"] == "stop"
    assert text == whole[: whole.index(whole[20:22])]


def test_stop_tokens(client, alone):
    ids = ids_of(generate(alone, TEXT, sampling=neutral(seed=4), max_tokens=30, ignore_eos=True))
    last = next(place for place, token in enumerate(ids) if place > 4 and token not in ids[:place])
    fields = {"prompt": TEXT, "seed": 4, "max_tokens": 30, "return_token_ids": True, "logprobs": 0}
    found = client.complete(stop_token_ids=[ids[last]], **fields)["choices"][0]
    assert found["token_ids"] == ids[: last + 1]
    assert (found["finish_reason"], found["stop_reason"]) == ("stop", ids[last])
    assert len(found["logprobs"]["tokens"]) == last + 1
    assert found["text"] == alone.tokenizer.decode(ids[:last])
    later = client.complete(stop_token_ids=[ids[last]], min_tokens=last + 3, **fields)["choices"][0]
    assert len(later["token_ids"]) >= last + 3
    assert ids[last] not in later["token_ids"][: last + 3]
    assert client.post(prompt=TEXT, stop_token_ids=[300]).status == 400


def test_the_end_token(client):
    fields = {"prompt": TEXT, "max_tokens": 5, "seed": 1, "logit_bias": {"299": 100}}
    (found,) = client.complete(return_token_ids=True, **fields)["choices"]
    assert (found["text"], found["finish_reason"], found["token_ids"]) == ("", "stop", [299])
    assert "stop_reason" not in found
    (found,) = client.complete(ignore_eos=True, **fields)["choices"]
    assert (len(found["text"]) > 0, found["finish_reason"]) == (True, "length")
    usage = client.complete(min_tokens=3, **fields)["usage"]
    assert usage["completion_tokens"] == 4


def test_usage_of_a_stream(client, alone):
    fields = {"prompt": [TEXT, "a"], "n": 2, "seed": 4, "max_tokens": 7}
    whole = client.complete(**fields)["usage"]
    *others, last = client.events(stream_options={"include_usage": True}, **fields)
    assert last["choices"] == []
    assert {name: whole[name] for name in whole if "details" not in name} == {
        name: last["usage"][name] for name in whole if "details" not in name
    }
    assert {event["usage"] for event in others} == {None}
    assert all("usage" not in event for event in client.events(**fields))
    assert all("usage" not in event for event in client.events(stream_options={"include_usage": False}, **fields))


def test_token_ids(client, alone):
    (found,) = client.complete(prompt=TEXT, seed=4, return_token_ids=True, max_tokens=9)["choices"]
    assert found["prompt_token_ids"] == alone.tokenizer.encode(TEXT)
    assert found["token_ids"] == alone_text(alone, TEXT, 9, neutral(seed=4))[0][1]


# The window's edge: 64 positions


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("logprobs", [None, 1])
def test_a_prompt_that_fills_the_window_has_a_next_token(client, alone, echo, logprobs):
    full = (PROMPT * 8)[:64]
    found = client.complete(prompt=[full], max_tokens=1, temperature=0, echo=echo, logprobs=logprobs)
    expected = alone_text(alone, full, 1, neutral(temperature=0))[0][0]
    assert found["choices"][0]["text"].endswith(expected)
    if logprobs:
        assert len(found["choices"][0]["logprobs"]["tokens"]) == (65 if echo else 1)
    assert client.post(prompt=[full], max_tokens=0, echo=True, logprobs=1).status == 200


@pytest.mark.parametrize("fields", [{"prompt": [[7] * 65], "max_tokens": 1}, {"prompt": [7] * 64, "max_tokens": 2}])
def test_one_more_is_refused_with_both_numbers(client, fields):
    for echo in (False, True):
        found = client.post(echo=echo, logprobs=1, **fields)
        assert found.status == 400
        problem = found.problem
        assert (problem["code"], problem["param"]) == ("context_length_exceeded", "prompt")
        for words in ("max_length=64", "64 tokens", f"max_tokens is {fields['max_tokens']}"):
            assert words in problem["message"]


@pytest.mark.long
def test_a_prompt_of_megabytes(client, alone):
    text = "the old man and the sea " * 20_000
    found = client.post(prompt=text)
    assert (found.status, found.problem["param"]) == (400, "prompt")
    assert "the prompt has more than 129" in found.problem["message"]
    ids = alone.tokenizer.encode(text)
    assert client.ask("/tokenize", {"prompt": text}).json["tokens"] == ids
    (choice,) = client.complete(prompt=text, truncate_prompt_tokens=20, return_token_ids=True)["choices"]
    assert choice["prompt_token_ids"] == ids[-20:]
    (choice,) = client.complete(prompt=text, slide=True, keep=5, seed=3, return_token_ids=True)["choices"]
    assert choice["prompt_token_ids"] == ids[:5] + ids[-59:]
    assert choice["text"] == alone_text(alone, text, 16, neutral(seed=3), keep=5)[0][0]


def test_sliding_goes_on_as_the_command_does(client, alone):
    prompt = PROMPT * 10
    found = client.complete(prompt=prompt, slide=True, max_tokens=90, seed=3, keep=4)
    assert texts(found) == [alone_text(alone, prompt, 90, neutral(seed=3), keep=4)[0][0]]
    assert found["usage"]["prompt_tokens"] == 64


def test_truncation_keeps_the_end(client, alone):
    prompt = PROMPT * 10
    for count, kept in ((20, prompt[-20:]), (-1, prompt[-49:]), (100, None)):
        fields = {"prompt": prompt, "max_tokens": 16, "seed": 3, "return_token_ids": True}
        if kept is None:
            assert client.post(truncate_prompt_tokens=count, **fields).status == 400
            continue
        (choice,) = client.complete(truncate_prompt_tokens=count, **fields)["choices"]
        assert choice["prompt_token_ids"] == kept
        assert choice["text"] == alone_text(alone, kept, 16, neutral(seed=3))[0][0]


def test_prompt_and_text_together_have_a_limit(client):
    assert client.complete(prompt=PROMPT, max_length=10, max_tokens=30)["usage"]["total_tokens"] <= 10
    assert client.complete(prompt=[7] * 60, max_length=62, ignore_eos=True)["usage"]["total_tokens"] == 62
    assert client.post(prompt=PROMPT, max_length=8).problem["param"] == "max_length"


# Log-probabilities


def prompt_logprobs(client, ids, **fields):
    (choice,) = client.complete(prompt=[list(ids)], max_tokens=0, logprobs=3, echo=True, **fields)["choices"]
    return choice["logprobs"]


@pytest.mark.parametrize("length", [1, 2, 17, 18, 19, 35, 60, 64])
def test_log_probabilities_are_those_of_score_and_of_the_papers(client, alone, length):
    ids = (PROMPT * 8)[:length]
    found = prompt_logprobs(client, ids)["token_logprobs"]
    assert found[0] is None
    scored = [one.logprob for one in scoring.score(alone, ids, start=False).each]
    assert found[1:] == pytest.approx(scored[1:], abs=1e-4)
    logits = forward(random_tensors(SMALL), SMALL, ids)
    exact = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    assert found[1:] == pytest.approx([exact[place, token] for place, token in enumerate(ids[1:])], abs=1e-4)


def test_score_s_command_says_the_same(words, run):
    text = "It was the best of times, it was the worst of times."
    (choice,) = words.complete(prompt=text, max_tokens=0, logprobs=1, echo=True)["choices"]
    (told,) = json.loads(run("score", "--json", "--no-start", "-", stdin=text).stdout)["texts"]
    mine = choice["logprobs"]["token_logprobs"]
    assert len(mine) == told["tokens"] + 1
    assert sum(mine[1:]) == pytest.approx(told["logprob"], abs=1e-4 * len(mine))


@pytest.mark.parametrize("length", [1, 8, 17, 18, 40])
def test_a_text_is_the_same_with_echo_and_without(client, length):
    fields = {"prompt": [LONG[:length]], "n": 3, "seed": 6, "max_tokens": 20}
    plain = client.complete(logprobs=2, **fields)["choices"]
    echoed = client.complete(logprobs=2, echo=True, **fields)["choices"]
    for one, other in zip(plain, echoed, strict=True):
        for name, values in one["logprobs"].items():
            assert other["logprobs"][name][length:] == values  # bit for bit
        assert other["text"].endswith(one["text"])


def test_generated_log_probabilities_are_those_of_the_text_scored(client):
    (made,) = client.complete(prompt=PROMPT, seed=6, max_tokens=30, logprobs=1, return_token_ids=True)["choices"]
    again = prompt_logprobs(client, PROMPT + made["token_ids"])
    count = len(made["token_ids"])
    assert made["logprobs"]["token_logprobs"] == pytest.approx(again["token_logprobs"][-count:], abs=1e-4)


def test_log_probabilities_are_the_model_s_whatever_the_sampling(client):
    changed = {"temperature": 0.5, "top_k": 3, "repeat_penalty": 1.5, "logit_bias": {"44": 50}, "seed": 1}
    (made,) = client.complete(prompt=PROMPT, max_tokens=4, logprobs=1, return_token_ids=True, **changed)["choices"]
    again = prompt_logprobs(client, PROMPT + made["token_ids"])
    assert made["logprobs"]["token_logprobs"] == pytest.approx(again["token_logprobs"][8:], abs=1e-4)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ["a"] * 600, "max_tokens": 30, "logprobs": -1},
        {"prompt": ["a"] * 128, "max_tokens": 30, "logprobs": -1, "best_of": 16},
        {"prompt": [[5] * 60] * 2048, "echo": True, "max_tokens": 1, "logprobs": 5, "best_of": 2},
    ],
    ids=["vocabulary", "best", "prompts"],
)
def test_an_answer_has_a_limit(client, fields):
    found = client.post(**fields)
    assert (found.status, found.problem["param"]) == (400, "logprobs")


@pytest.mark.long
@pytest.mark.parametrize("stream", [False, True])
def test_a_large_answer_holds_nobody_up(client, stream):
    """300,000 numbers: written in the event loop they would take seconds in which nobody else is answered."""
    asked = {"prompt": [[5] * 60] * 16, "echo": True, "max_tokens": 1, "logprobs": -1, "stream": stream}
    longest, done = 0.0, threading.Event()
    thread = threading.Thread(target=lambda: (client.ask("/v1/completions", asked), done.set()))
    thread.start()
    while not done.is_set():
        began = time.monotonic()
        assert client.ask("/health").status == 200
        longest = max(longest, time.monotonic() - began)
    thread.join()
    assert longest < 0.5


@pytest.mark.long
def test_a_large_answer_is_as_a_small_one(client):
    """Which is written at once, not by pieces."""
    asked = {"echo": True, "max_tokens": 2, "logprobs": -1, "return_token_ids": True, "seed": 1}
    (small,) = client.complete(prompt=[5, 6], **asked)["choices"]
    large = client.complete(prompt=[[5, 6]] * 30, **asked)["choices"]
    assert len(large) == 30
    assert all(choice | {"index": 0} == small for choice in large)


# Whoever else asks


@pytest.mark.long
def test_among_others_is_alone(client, alone):
    asked = [
        {"prompt": LONG[: 7 * number % 50 + 1], "n": number % 3 + 1, "seed": number, "max_tokens": 12}
        | ({"echo": True, "logprobs": 2} if number % 2 else {})
        for number in range(24)
    ]
    found = [None] * len(asked)

    def work(first):
        for number in range(first, len(asked), 8):
            found[number] = client.complete(**asked[number])["choices"]

    threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for fields, choices in zip(asked, found, strict=True):
        rows = alone_text(alone, fields["prompt"], 12, neutral(seed=fields["seed"]), samples=fields["n"])
        before = alone.tokenizer.decode(fields["prompt"]) if fields.get("echo") else ""
        assert [choice["text"] for choice in choices] == [before + rows[row][0] for row in range(fields["n"])]
        again = client.complete(**fields)["choices"]
        assert again == choices


def test_a_beginning_that_was_computed_is_counted(client):
    prompt = [[9, 8, 7, 6] * 12]
    assert client.complete(prompt=prompt, seed=1, max_tokens=1)["usage"]["prompt_tokens_details"] == {
        "cached_tokens": 0
    }
    before = client.metrics()["gpt2_cached_tokens_total"]
    found = client.complete(prompt=prompt, seed=1, max_tokens=1)
    assert found["usage"]["prompt_tokens_details"] == {"cached_tokens": 34}  # two chunks; the last gives the logits
    assert client.metrics()["gpt2_cached_tokens_total"] == before + 34
    echoed = client.complete(prompt=prompt, seed=1, max_tokens=1, echo=True, logprobs=1)
    assert echoed["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}


# The other routes


def test_models(client, small_model):
    found = client.ask("/v1/models").json
    assert found["object"] == "list"
    assert [one["id"] for one in found["data"]] == ["small", small_model.name]
    for one in found["data"]:
        assert one["object"] == "model"
        assert (one["owned_by"], one["max_model_len"]) == ("gpt2cli", 64)
        assert {"n_vocab": 300, "n_ctx_train": 64, "n_embd": 32, "n_layer": 2}.items() <= one["meta"].items()
        assert client.ask(f"/v1/models/{one['id']}").json == one
    missing = client.ask("/v1/models/gpt5")
    assert (missing.status, missing.problem["code"]) == (404, "model_not_found")


def test_the_model_that_is_asked_for(client, small_model):
    assert client.complete(model="small", prompt="a", max_tokens=1)["model"] == "small"
    assert client.complete(model=small_model.name, prompt="a", max_tokens=1)["model"] == small_model.name
    assert client.complete(prompt="a", max_tokens=1)["model"] == "small"
    missing = client.post(model="gpt5", prompt="a")
    assert (missing.status, missing.problem["code"], missing.problem["param"]) == (404, "model_not_found", "model")
    assert len(client.post(model="x" * 10**5).raw) < 1000
    assert client.post(model=5).problem["param"] == "model"


@pytest.mark.parametrize("text", ["the cat", "", "a 🙂 b", "<|endoftext|>", "x<|endoftext|>y"])
def test_tokenize_and_back(client, small_model, text):
    ids = small_model.tokenizer.encode(text, special=True)
    found = client.ask("/tokenize", {"prompt": text, "add_special_tokens": False}).json
    assert found == {"tokens": ids, "count": len(ids), "max_model_len": 64}
    assert client.ask("/tokenize", {"content": text}).json["tokens"] == ids
    plain = client.ask("/tokenize", {"content": text, "parse_special": False}).json["tokens"]
    assert plain == small_model.tokenizer.encode(text)
    back = client.ask("/detokenize", {"tokens": ids}).json
    assert back == {"prompt": text, "content": text}
    pieces = client.ask("/tokenize", {"content": text, "with_pieces": True}).json["tokens"]
    assert [piece["id"] for piece in pieces] == ids


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": 5}, "prompt"),
        ("/tokenize", {"content": None}, "content"),
        ("/tokenize", {"prompt": "a", "with_pieces": 1}, "with_pieces"),
        ("/tokenize", {"prompt": "a", "parse_special": "no"}, "parse_special"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/detokenize", {"tokens": [300]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/detokenize", {"tokens": [True]}, "tokens"),
        ("/detokenize", {"tokens": [10**30]}, "tokens"),
        ("/tokenize", [], None),
        ("/detokenize", 5, None),
    ],
)
def test_wrong_values_of_the_other_routes(client, route, body, param):
    found = client.ask(route, body)
    assert (found.status, found.problem["param"]) == (400, param)


def test_tokenizer_info(client):
    found = client.ask("/tokenizer_info").json
    assert (found["eos_token"], found["eos_token_ids"]) == ("<|endoftext|>", [299])
    assert (found["vocab_size"], found["model_max_length"]) == (300, 64)


def test_a_stop_token_that_is_none(client):
    found = client.post(prompt="a", stop_token_ids=[300])
    assert (found.status, found.problem["param"]) == (400, "stop_token_ids")


@pytest.mark.parametrize("name", ["none.js", "a" * 300 + ".js", "%00.js", "..%5capp.js", "%2e%2e%2fapp.js", "%ff.css"])
def test_files_that_are_not_the_page_s(client, name):
    assert client.ask("/page/main.js").status == 200
    assert client.ask(f"/page/{name}").status == 404


def test_routes_that_are_not_there(client):
    assert (client.ask("/v1/chat/completions", {}).status, client.ask("/nothing").status) == (404, 404)
    wrong = client.ask("/v1/completions")
    assert wrong.status == 405
    assert wrong.problem["message"]
    assert set(client.ask("/version").json) == {"version"}
    assert client.ask("/health").json == {"status": "ok"}
    assert client.ask("/v1/health").json == {"status": "ok"}


def test_parameters_are_the_command_s(client):
    found = {one["name"]: one for one in client.ask("/parameters").json}
    assert found["temperature"]["flag"] == "--temperature"
    assert found["max_tokens"]["default"] == Limits().max_tokens


# Forms


def test_a_form_is_kept_beside_texts_without_one(client):
    """Each request gets what it gets alone; several prompts and samples too."""
    asks = [
        {"structured_outputs": {"choice": [" the cat", " a"]}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": ["a", "b", True]}}}},
        {"regex": " [a-c]{2}!", "n": 3},
        {},
        {"grammar": 'root ::= " x" root | "."', "prompt": ["the", "a"]},
    ]
    fields = [{"prompt": TEXT, "seed": 3, "max_tokens": 24, "temperature": 0.8} | ask for ask in asks]
    alone = [texts(client.complete(**one)) for one in fields]
    found = [None] * len(fields)

    def ask(number):
        found[number] = texts(client.complete(**fields[number]))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(fields))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone
    assert found[0][0] in (" the cat", " a")
    assert found[1][0] in ('"a"', '"b"', "true")
    assert all(re.fullmatch(" [a-c]{2}!", text) for text in found[2])


def test_a_form_that_cannot_be_is_the_request_s_fault(client):
    for fields, code, words in [
        ({"regex": "(a"}, None, "line 1, column 1: unclosed group"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}}, None, "not"),
        ({"structured_outputs": {"regex": r"[^\s\S]"}}, "cannot_meet", "nothing that this model can say"),
    ]:
        found = client.post(prompt="a", **fields)
        error = found.problem
        assert found.status == 400
        assert words in error["message"]
        assert error["code"] == code
        assert error["param"] in fields


def test_what_does_not_come_to_its_end_says_so(client):
    (choice,) = client.complete(prompt="a", regex="[ab]{50}", max_tokens=3, return_token_ids=True)["choices"]
    assert (choice["finish_reason"], choice["finish"]) == ("length", "incomplete")
    (choice,) = client.complete(prompt="a", regex="[ab]{2}", return_token_ids=True)["choices"]
    assert (choice["finish_reason"], choice["finish"]) == ("stop", "end")


def test_a_number_without_end_is_told_without_pythons_advice(client):
    found = client.ask("/v1/completions", b'{"max_tokens": ' + b"9" * 5000 + b"}")
    assert found.status == 400
    assert found.problem["message"] == "the body is no JSON: it holds a number of too many digits"
