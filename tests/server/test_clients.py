"""What real clients send, and what they read of the answers."""

import pytest
from servers import live

PROMPT = "The old man"


@pytest.fixture(scope="module")
def openai():
    return pytest.importorskip("openai")  # here, for it takes a second


@pytest.fixture
def sdk(openai, words):
    with openai.OpenAI(base_url=f"{words.url}/v1", api_key="none", max_retries=0, timeout=60) as found:
        yield found


def test_openai_whole(sdk, words):
    found = sdk.completions.create(model="tiny", prompt=PROMPT, max_tokens=8, seed=1, n=2)
    assert [choice.text for choice in found.choices] == [
        choice["text"] for choice in words.complete(prompt=PROMPT, max_tokens=8, seed=1, n=2)["choices"]
    ]
    assert found.object == "text_completion"
    assert found.usage.prompt_tokens == 3
    assert found.usage.prompt_tokens_details.cached_tokens == 0
    assert {choice.finish_reason for choice in found.choices} == {"length"}


def test_openai_stream(sdk, words):
    with sdk.completions.create(
        model="tiny", prompt=PROMPT, max_tokens=8, seed=1, stream=True, stream_options={"include_usage": True}
    ) as stream:
        *chunks, last = stream
    assert "".join(chunk.choices[0].text for chunk in chunks) == words.text(prompt=PROMPT, max_tokens=8, seed=1)
    assert (last.choices, last.usage.completion_tokens) == ([], 8)


def test_openai_log_probabilities(sdk):
    (choice,) = sdk.completions.create(model="tiny", prompt=PROMPT, max_tokens=2, seed=1, logprobs=2, echo=True).choices
    found = choice.logprobs
    assert len(found.tokens) == len(found.token_logprobs) == len(found.top_logprobs) == len(found.text_offset) == 5
    assert found.token_logprobs[0] is None
    assert [choice.text[place:][: len(name)] for place, name in zip(found.text_offset, found.tokens, strict=True)] == (
        found.tokens
    )


def test_openai_models(sdk):
    assert [model.id for model in sdk.models.list()] == ["tiny"]
    assert sdk.models.retrieve("tiny").owned_by == "gpt2cli"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("BadRequestError", {"temperature": -1}),
        ("BadRequestError", {"suffix": "x"}),
        ("BadRequestError", {"prompt": [0] * 2000}),
        ("NotFoundError", {"model": "gpt5"}),
    ],
)
def test_openai_errors(openai, sdk, kind, fields):
    with pytest.raises(getattr(openai, kind)) as caught:
        sdk.completions.create(**{"model": "tiny", "prompt": PROMPT} | fields)
    assert caught.value.param in {"model", *fields}
    assert caught.value.request_id.startswith("req-")


def test_openai_key(openai, small_model):
    from gpt2cli.server.gate import Rules

    with live(small_model, rules=Rules(("right",)), aliases=("small",)) as (_, client):
        for key in "right", "wrong":
            with openai.OpenAI(base_url=f"{client.url}/v1", api_key=key, max_retries=0) as sdk:
                if key == "right":
                    assert sdk.completions.create(model="small", prompt="a", max_tokens=1).choices
                    continue
                with pytest.raises(openai.AuthenticationError):
                    sdk.completions.create(model="small", prompt="a", max_tokens=1)


def test_openai_comes_again_when_the_queue_was_full(openai, small_model, monkeypatch):
    with live(small_model, rows=1, waiting=0, aliases=("small",)) as (_, client):
        running = client.stream(prompt="the", slide=True, max_tokens=-1, ignore_eos=True)
        next(running)
        waits = []

        def wait(seconds):
            waits.append(seconds)
            running.close()
            while client.metrics()["gpt2_requests_running"]:
                pass

        with openai.OpenAI(base_url=f"{client.url}/v1", api_key="x", max_retries=2) as sdk:
            monkeypatch.setattr("openai._base_client.time.sleep", wait)
            assert sdk.completions.create(model="small", prompt="a", max_tokens=1).choices
        assert waits == [1.0]
        assert client.metrics()["gpt2_refused_total"] == 1


def test_openai_error_amid_a_stream(openai, small_model):
    extra = {"slide": True, "ignore_eos": True}
    with (
        live(small_model, seconds=0.3, aliases=("small",)) as (_, client),
        openai.OpenAI(base_url=f"{client.url}/v1", api_key="x", max_retries=0) as sdk,
        sdk.completions.create(model="small", prompt="a", max_tokens=-1, stream=True, extra_body=extra) as stream,
        pytest.raises(openai.APIError, match="took too long"),
    ):
        list(stream)


# Requests by shape, as others send them


def test_mikupad(words):
    """Finds the chosen token in the first chunk's dictionary by the chunk's text."""
    sent = {
        "prompt": "Once upon a time",
        "stream": True,
        "logprobs": 10,
        "max_tokens": 12,
        "max_context_length": 8192,
        "temperature": 0.7,
        "dynatemp_range": 0,
        "repetition_penalty": 1.1,
        "repetition_penalty_range": 0,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "top_k": 40,
        "top_p": 0.95,
        "typical_p": 1,
        "tfs": 1,
        "min_p": 0,
        "mirostat_mode": 0,
        "mirostat_tau": 5,
        "mirostat_eta": 0.1,
        "xtc_threshold": 0.1,
        "dry_multiplier": 0,
        "dry_sequence_breakers": ["\n"],
        "penalize_nl": False,
        "ban_eos_token": False,
        "grammar_string": "",
        "stop": ["</s>"],
        "seed": -1,
    }
    stream = words.stream(**sent)
    assert "mirostat_tau" in stream.headers["x-gpt2-ignored-fields"]
    events = list(stream)
    assert len(events) <= 12
    for event in events:
        (choice,) = event["choices"]
        (top,) = choice["logprobs"]["top_logprobs"]
        if choice["text"]:
            assert top[choice["text"]] == choice["logprobs"]["token_logprobs"][0]
    greedy = words.complete(**sent | {"stream": False, "temperature": 0, "do_sample": False, "max_tokens": 3})
    assert greedy["choices"][0]["text"]
    assert [model["id"] for model in words.ask("/v1/models").json["data"]] == ["tiny"]


def test_loomsidian(words):
    sent = {
        "model": "tiny",
        "prompt": "Once upon a time",
        "max_tokens": 9,
        "n": 5,
        "temperature": 1,
        "top_p": 1,
        "best_of": 6,
        "frequency_penalty": 0,
        "presence_penalty": 0,
    }
    assert len({choice["text"] for choice in words.complete(**sent)["choices"]}) > 1
    assert words.post(**sent | {"n": 129}).json["error"]["message"]


def test_loom_splits_by_usage_and_offset(words):
    prompt = "Once upon a time, there was"
    sent = {"prompt": prompt, "temperature": 0.9, "max_tokens": 8, "top_p": 1, "echo": True, "logprobs": 10}
    found = words.complete(engine="tiny", logit_bias={}, n=3, stop=None, **sent)
    for choice in found["choices"]:
        logprobs, count = choice["logprobs"], found["usage"]["prompt_tokens"]
        assert logprobs["text_offset"].index(len(prompt)) == count
        assert "".join(logprobs["tokens"][:count]) == prompt
        assert "".join(logprobs["tokens"][count:]) == choice["text"][len(prompt) :]
    scored = words.complete(prompt=prompt, max_tokens=0, logprobs=0, echo=True)["choices"][0]
    assert scored["text"] == prompt
    assert len(scored["logprobs"]["tokens"]) == count


def test_langchain(words):
    prompts = ["Once upon a time", "The old man"] * 10
    sent = {"temperature": 0.7, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0, "n": 1, "logit_bias": {}}
    found = words.complete(model="tiny", prompt=prompts, max_tokens=3, seed=None, logprobs=None, **sent)
    assert [choice["index"] for choice in found["choices"]] == list(range(20))
    assert set(found["usage"]) >= {"prompt_tokens", "completion_tokens", "total_tokens"}
    events = words.events(model="tiny", prompt=prompts[0], max_tokens=3, **sent)
    assert "".join(event["choices"][0]["text"] for event in events if event["choices"])


def test_llamaindex(words):
    found = words.complete(model="tiny", prompt="Once upon a time", temperature=0.1)
    assert found["usage"]["completion_tokens"] <= 16
    assert found["choices"][0]["text"]


def test_lm_eval_s_requests(words):
    """As its `local-completions` sends and reads them, greedy where every token is the likeliest."""
    info = words.ask("/tokenizer_info").json
    assert info["eos_token"]
    (end,) = words.ask("/tokenize", {"prompt": info["eos_token"], "add_special_tokens": False}).json["tokens"]
    ids = words.ask("/tokenize", {"prompt": PROMPT, "add_special_tokens": False}).json["tokens"]
    fields = {"temperature": 0, "max_tokens": 4, "return_token_ids": True}
    greedy = words.complete(prompt=[end, *ids], **fields)["choices"][0]["token_ids"]
    contexts = [[end, *ids, *greedy], [end, *ids, *greedy[:3], ids[0]]]
    sent = {"model": "tiny", "prompt": contexts, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234}
    found = words.complete(echo=True, **sent)["choices"]
    for choice, context in zip(found, contexts, strict=True):
        logprobs = choice["logprobs"]
        assert len(logprobs["tokens"]) == len(context) + 1
        tops = logprobs["top_logprobs"][len(ids) + 1 : -1]
        chosen = logprobs["token_logprobs"][len(ids) + 1 : -1]
        likeliest = [value == max(top.values()) for value, top in zip(chosen, tops, strict=True)]
        assert likeliest[:3] == [True] * 3
        assert likeliest[3] == (context == contexts[0])
    made = {"max_tokens": 5, "temperature": 0, "seed": 1234, "stop": ["\n\n", "Q:", "</s>", ".", "!", "<|endoftext|>"]}
    assert words.complete(model="tiny", prompt=[ids], **made)["choices"][0]["text"]
