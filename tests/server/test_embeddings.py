"""POST /v1/embeddings: what a request may say, and vectors that are those of `gpt2 embed`."""

import base64
import itertools
import json
import threading

import numpy as np
import pytest
from servers import JSON, Connection, awaited, idle, live

from gpt2cli import embed
from gpt2cli.engine import inspection
from gpt2cli.server.worker import Worker

TEXTS = ["the cat sat down", "a", "the old man went to the sea"]


@pytest.fixture
def ask(client):
    """ask(**fields) -> the vectors of an answer that must be fine."""

    def call(**fields):
        found = client.ask("/v1/embeddings", fields)
        assert found.status == 200, found.raw
        body = found.json
        assert list(body) == ["object", "data", "model", "usage"]
        assert body["object"] == "list"
        assert [one["index"] for one in body["data"]] == list(range(len(body["data"])))
        assert {one["object"] for one in body["data"]} == {"embedding"}
        return [one["embedding"] for one in body["data"]]

    return call


def test_the_vectors_are_those_of_the_library(ask, alone):
    expected = embed(alone, TEXTS)
    np.testing.assert_allclose(ask(input=TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(ask(input=TEXTS[0]), expected[:1], atol=1e-5)
    ids = [alone.tokenizer.encode(text) for text in TEXTS]
    np.testing.assert_allclose(ask(input=ids), expected, atol=1e-5)
    np.testing.assert_allclose(ask(input=ids[2]), expected[2:], atol=1e-5)
    for options in ({"pooling": "last"}, {"pooling": "weighted", "normalize": True}):
        np.testing.assert_allclose(ask(input=TEXTS, **options), embed(alone, TEXTS, **options), atol=1e-5)


def test_a_text_longer_than_the_window(ask, alone):
    text = "the old man went to the sea " * 60
    np.testing.assert_allclose(ask(input=[text, "a"]), embed(alone, [text, "a"]), atol=1e-5)


def test_base64_is_little_endian_float32(ask):
    plain, packed = ask(input=TEXTS, encoding_format="float"), ask(input=TEXTS, encoding_format="base64")
    for numbers, text in zip(plain, packed, strict=True):
        np.testing.assert_array_equal(np.frombuffer(base64.b64decode(text), "<f4"), np.array(numbers, np.float32))


def test_usage_model_and_dimensions(client, alone):
    body = client.ask("/v1/embeddings", {"input": TEXTS, "model": "small", "dimensions": 32, "user": "me"}).json
    tokens = sum(len(alone.tokenizer.encode(text)) for text in TEXTS)
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert body["model"] == "small"


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({}, "input", ["input is missing"]),
        ({"input": []}, "input", ["a text, a list of texts"]),
        ({"input": 5}, "input", ["input is 5"]),
        ({"input": ["a", 5]}, "input", ["a list of such lists"]),
        ({"input": [True]}, "input", ["a list of token ids"]),
        ({"input": ["a", ""]}, "input", ["text 2 of input is empty"]),
        ({"input": ""}, "input", ["text 1 of input is empty"]),
        ({"input": [[1], []]}, "input", ["text 2 of input is empty"]),
        ({"input": ["a"] * 2049}, "input", ["2049", "2048"]),
        ({"input": [100257]}, "input", ["100257", "0 to 299", "check_embedding_ctx_length=False"]),
        ({"input": [-1]}, "input", ["-1"]),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", ["'float' or 'base64'"]),
        ({"input": "a", "dimensions": 16}, "dimensions", ["dimensions is 16", "32 numbers"]),
        ({"input": "a", "dimensions": 0}, "dimensions", ["dimensions is 0"]),
        ({"input": "a", "pooling": "none"}, "pooling", ["'mean' or 'last' or 'weighted'"]),
        ({"input": "a", "normalize": 1}, "normalize", ["true or false"]),
    ],
)
def test_what_is_refused(client, fields, param, words):
    found = client.ask("/v1/embeddings", fields)
    assert found.status == 400
    assert found.problem["param"] == param
    for word in words:
        assert word in found.problem["message"]


def test_other_models_and_unknown_fields(client):
    assert client.ask("/v1/embeddings", {"input": "a", "model": "text-embedding-3-small"}).status == 404
    found = client.ask("/v1/embeddings", {"input": "a", "truncation": True})
    assert found.headers["x-gpt2-ignored-fields"] == "truncation"
    assert client.ask("/v1/embeddings", [1]).status == 400
    assert client.ask("/v1/embeddings", method="GET").status == 405


def test_the_real_client(served, alone):
    """Which asks for base64 where nothing is said, and unpacks it."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{served[1].url}/v1", api_key="-") as client:
        found = client.embeddings.create(model="small", input=TEXTS)
    np.testing.assert_allclose([one.embedding for one in found.data], embed(alone, TEXTS), atol=1e-5)
    assert found.usage.total_tokens == found.usage.prompt_tokens > 0


def test_a_long_text_lets_others_go_on_after_each_chunk(small_model, monkeypatch):
    """Between two steps of a stream there is one call for embeddings at most, of at most a chunk of tokens."""
    happened = []
    run, step = inspection.Inspection._run, Worker._step

    def counted(self, names, ids, held):
        happened.append(ids.size)
        return run(self, names, ids, held)

    def stepped(self, able):
        happened.append("step")
        return step(self, able)

    monkeypatch.setattr(inspection.Inspection, "_run", counted)
    monkeypatch.setattr(Worker, "_step", stepped)
    with live(small_model) as (_, client):
        stream = client.stream(prompt="the cat", max_tokens=60, ignore_eos=True, seed=1)
        next(stream)
        texts = ["the old man went to the sea " * 99, *["a b c d e f g h"] * 50]
        thread = threading.Thread(target=client.ask, args=("/v1/embeddings", {"input": texts}))
        thread.start()
        assert len(list(stream)) > 50
        thread.join()
    calls = [len([*group]) for kind, group in itertools.groupby(happened, key=lambda one: one == "step") if not kind]
    assert len(calls) > 20
    assert set(calls) == {1}
    assert max(one for one in happened if one != "step") <= 128


@pytest.mark.long
def test_who_hangs_up_is_not_computed_for(small_model):
    with live(small_model) as (server, client):
        body = {"input": ["the old man went to the sea " * 2000] * 20}
        connection = Connection(client.address, 60)
        connection.request("POST", "/v1/embeddings", json.dumps(body), JSON)
        awaited(lambda: server.metrics.running)
        connection.close()
        awaited(lambda: idle(client))
        assert server.metrics.cancelled == 1
        assert client.ask("/v1/embeddings", {"input": "a"}).status == 200


@pytest.mark.long
def test_a_deadline(small_model):
    with live(small_model, seconds=0.5) as (_, client):
        found = client.ask("/v1/embeddings", {"input": ["the old man went to the sea " * 2000] * 40})
        assert (found.status, found.problem["code"]) == (408, "timeout")
        awaited(lambda: idle(client))
