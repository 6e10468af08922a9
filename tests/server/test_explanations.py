"""POST /explain: the explanation of `gpt2 explain --json`, beside other people's texts."""

import itertools
import json
import threading

import pytest
from servers import JSON, Connection, awaited, idle, live

from gpt2cli import Question, explain
from gpt2cli.engine.inspection import Insides
from gpt2cli.server.worker import Worker

TEXT = "the old man went to the sea"


@pytest.fixture
def ask(client):
    """ask(**fields) -> an answer that must be fine."""

    def call(**fields):
        found = client.ask("/explain", fields)
        assert found.status == 200, found.raw
        return found.json

    return call


def close(found, expected):
    """The same JSON but for last digits, and the name by which the model was asked for."""
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert list(found) == list(expected)
        for name in found:
            if name != "model":
                close(found[name], expected[name])
    elif isinstance(found, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            close(one, other)
    else:
        assert found == (pytest.approx(expected, abs=2e-4) if isinstance(found, float) else expected)


def test_the_answer_is_that_of_the_library(ask, alone):
    close(ask(prompt=TEXT), explain(alone, TEXT).plain())
    ids = alone.tokenizer.encode(TEXT)
    options = {"token": 3, "instead": " sea", "start": False, "top": 2, "layers": [1], "heads": [0, 2]}
    close(ask(prompt=ids, **options), explain(alone, ids, Question(**options)).plain())
    close(ask(prompt=TEXT, parts=["lens"]), explain(alone, TEXT, Question(parts=["lens"])).plain())
    close(
        ask(prompt=TEXT, parts=["influence"], instead=7),
        explain(alone, TEXT, Question(parts=["influence"], instead=7)).plain(),
    )


def test_the_model_and_unknown_fields(client):
    found = client.ask("/explain", {"prompt": "a b", "model": "small", "colour": "red"})
    assert found.json["model"] == "small"
    assert found.headers["x-gpt2-ignored-fields"] == "colour"
    assert client.ask("/explain", {"prompt": "a b", "model": "davinci"}).status == 404
    assert client.ask("/explain", method="GET").status == 405
    special = client.ask("/explain", {"prompt": "a<|endoftext|>", "special": True, "parts": []}).json
    assert special["tokens"][-1]["id"] == 299


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({}, "prompt", ["prompt is missing"]),
        ({"prompt": ["a"]}, "prompt", ["a text, or a list of token ids"]),
        ({"prompt": ""}, "prompt", ["the text is empty"]),
        ({"prompt": [300]}, "prompt", ["300"]),
        ({"prompt": [1], "start": False}, "prompt", ["one token"]),
        ({"prompt": "a b " * 40}, "prompt", ["window holds 63"]),
        ({"prompt": "a b", "token": 99}, "token", ["`token` is 99"]),
        ({"prompt": "a b", "token": 1.5}, "token", ["token is 1.5"]),
        ({"prompt": "a b", "token": 10**99}, "token", ["token is 1"]),
        ({"prompt": "a b", "layers": [2]}, "layers", ["`layers` has 2", "0 to 1"]),
        ({"prompt": "a b", "layers": 1}, "layers", ["a list of whole numbers"]),
        ({"prompt": "a b", "heads": [-1]}, "heads", ["`heads` has -1"]),
        ({"prompt": "a b", "instead": ["a"]}, "instead", ["a token's text or id"]),
        ({"prompt": "a b", "instead": " the old man"}, "instead", ["give one token"]),
        ({"prompt": "a b", "parts": ["lenses"]}, "parts", ["lens, attention"]),
        ({"prompt": "a b", "parts": [[]]}, "parts", ["lens, attention"]),
        ({"prompt": "a b", "start": 1}, "start", ["true or false"]),
        ({"prompt": "a b", "top": 0}, "top", ["top is 0"]),
        ({"prompt": "a b", "top": 101}, "top", ["from 1 to 100"]),
    ],
)
def test_what_is_refused(client, fields, param, words):
    found = client.ask("/explain", fields)
    assert found.status == 400
    assert found.problem["param"] == param
    for word in words:
        assert word in found.problem["message"]


def test_attention_that_is_too_large_is_left_out_or_refused(ask, client, monkeypatch):
    monkeypatch.setattr("gpt2cli.server.explanations._MOST_WEIGHTS", 500)
    assert ask(prompt=TEXT)["attention"]["positions"] == [ask(prompt=TEXT)["target"] - 1]
    found = client.ask("/explain", {"prompt": TEXT, "layers": [0, 1]})
    assert (found.status, found.problem["param"]) == (400, "layers")


def test_a_stream_goes_on_meanwhile(small_model, monkeypatch):
    """Between two steps of a stream there is one look inside at most, of at most a chunk of tokens."""
    happened = []
    run, step = Insides._run, Worker._step

    def counted(self, names, ids, held):
        happened.append(ids.size)
        return run(self, names, ids, held)

    def stepped(self, able):
        happened.append("step")
        return step(self, able)

    monkeypatch.setattr(Insides, "_run", counted)
    monkeypatch.setattr(Worker, "_step", stepped)
    with live(small_model) as (_, client):
        expected = client.stream(prompt="the cat", max_tokens=40, ignore_eos=True, seed=1)
        alone = list(expected)
        stream = client.stream(prompt="the cat", max_tokens=40, ignore_eos=True, seed=1)
        next(stream)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(client.ask("/explain", {"prompt": [5] * 60})))
        thread.start()
        assert len(list(stream)) + 1 == len(alone)
        thread.join()
        assert answers[0].status == 200
    looks = [len([*group]) for kind, group in itertools.groupby(happened, key=lambda one: one == "step") if not kind]
    assert looks == [1] * 4
    assert max(one for one in happened if one != "step") <= 17


def test_who_hangs_up_is_not_computed_for(small_model):
    with live(small_model) as (server, client):
        connection = Connection(client.address, 60)
        connection.request("POST", "/explain", json.dumps({"prompt": [5] * 60}), JSON)
        awaited(lambda: server.metrics.running)
        connection.close()
        awaited(lambda: idle(client))
        assert client.ask("/explain", {"prompt": "a b"}).status == 200
