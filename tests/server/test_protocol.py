"""What a request may say, field by field, and the JSON that an answer has."""

import json
import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from servers import checked

from gpt2cli.generation.parameters import Limits, Sampling
from gpt2cli.server.protocol import BadRequest, Completions, completions


def asked(**fields):
    return completions(fields)


def refused(**fields):
    with pytest.raises(BadRequest) as caught:
        completions(fields)
    return caught.value


def test_nothing_asked_is_the_schema_s_defaults():
    found = asked(seed=1)
    assert found.sampling == Sampling(temperature=1, top_k=0, top_p=1, seed=1)
    assert found == Completions(("",), found.sampling, Limits(max_tokens=16))


RIGHT = [
    ("prompt", "a text", "prompts", ("a text",)),
    ("prompt", ["a", "b"], "prompts", ("a", "b")),
    ("prompt", [1, 2], "prompts", ([1, 2],)),
    ("prompt", [[1, 2], [3]], "prompts", ([1, 2], [3])),
    ("prompt", "", "prompts", ("",)),
    ("prompt", [""], "prompts", ("",)),
    ("prompt", [[]], "prompts", ([],)),
    ("n", 3, "n", 3),
    ("n", 3, "best_of", 3),
    ("best_of", 4, "best_of", 4),
    ("echo", True, "echo", True),
    ("logprobs", 0, "logprobs", 0),
    ("logprobs", 5, "logprobs", 5),
    ("logprobs", 10**6, "logprobs", 10**6),
    ("logprobs", -1, "logprobs", -1),
    ("logprobs", True, "logprobs", 0),
    ("logprobs", False, "logprobs", None),
    ("stop_token_ids", [1, 2], "stop_tokens", (1, 2)),
    ("stream", True, "stream", True),
    ("return_token_ids", True, "token_ids", True),
    ("slide", True, "slide", True),
    ("truncate_prompt_tokens", -1, "truncate", -1),
    ("special", True, "special", True),
    ("suffix", "", "unknown", ()),
    ("user", "me", "unknown", ()),
    ("model", "x", "unknown", ()),
    ("mirostat_tau", 5, "unknown", ("mirostat_tau",)),
]
OF_SAMPLING = [
    ("temperature", 0, 0),
    ("temperature", 2, 2),
    ("top_p", 0.5, 0.5),
    ("top_k", 40, 40),
    ("top_k", -1, 0),
    ("min_p", 0.1, 0.1),
    ("typical", 0.5, 0.5),
    ("repeat_penalty", 1.5, 1.5),
    ("repeat_last_n", 10, 10),
    ("presence_penalty", -2, -2),
    ("frequency_penalty", 2, 2),
    ("no_repeat_ngram", 3, 3),
    ("logit_bias", {"5": -100, "7": 1.5}, {5: -100, 7: 1.5}),
    ("seed", 2**53, 0),
    ("seed", -2, 2**53 - 2),
]
OF_LIMITS = [
    ("max_tokens", 0, 0),
    ("max_tokens", 10**9, 10**9),
    ("min_tokens", 5, 5),
    ("max_length", 20, 20),
    ("ignore_eos", True, True),
    ("keep", 3, 3),
    ("stop", "x", ("x",)),
    ("stop", [], ()),
    ("stop", list("abcdefgh"), tuple("abcdefgh")),
]


@pytest.mark.parametrize(("field", "value", "name", "expected"), RIGHT)
def test_right_values(field, value, name, expected):
    assert getattr(asked(**{field: value}), name) == expected


@pytest.mark.parametrize(("name", "value", "expected"), OF_SAMPLING)
def test_right_values_of_sampling(name, value, expected):
    assert getattr(asked(**{name: value}).sampling, name) == expected


@pytest.mark.parametrize(("name", "value", "expected"), OF_LIMITS)
def test_right_values_of_limits(name, value, expected):
    assert getattr(asked(**{name: value}).limits, name) == expected


def test_other_names_of_clients():
    assert asked(typical_p=0.5).sampling.typical == 0.5
    penalised = asked(repetition_penalty=1.2).sampling
    assert (penalised.repeat_penalty, penalised.repeat_last_n) == (1.2, -1)
    assert asked(repetition_penalty=1.2, repeat_last_n=9).sampling.repeat_last_n == 9
    assert refused(repetition_penalty=-1).param == "repetition_penalty"
    assert refused(typical_p=2).param == "typical_p"


def test_a_seed_is_drawn_where_none_is_sent():
    assert 0 <= asked().sampling.seed != asked(seed=-1).sampling.seed != asked().sampling.seed


FIELDS = sorted({field for field, *_ in RIGHT + OF_SAMPLING + OF_LIMITS} | {"stream_options", "typical_p"})


@pytest.mark.parametrize("field", FIELDS)
def test_null_is_as_good_as_absent(field):
    found = asked(**{field: None, "seed": 1} if field != "seed" else {"seed": None})
    unknown = (field,) if field == "mirostat_tau" else ()
    assert found == Completions(("",), found.sampling, Limits(max_tokens=16), unknown=unknown)
    assert field == "seed" or found.sampling == Sampling(temperature=1, top_k=0, top_p=1, seed=1)


NO_SWITCH = [0, 1, "true", [], {}]
NO_COUNT = [1.5, "1", [], {}]
NO_NUMBER = ["1", True, [], {}, math.inf, -math.inf]
LARGE_BIASES = [{"1": 1e10}, {"1": 10**400}]
WRONG = {
    "prompt": [5, 1.5, True, {}, [], ["a", 1], [1, "a"], [None], [1.5], [True], [[1.5]], [[[1]]], [["a"]]],
    "n": [0, -1, 129, True, *NO_COUNT],
    "best_of": [0, -1, 129, True, *NO_COUNT],
    "max_tokens": [-2, True, math.inf, *NO_COUNT],
    "min_tokens": [-1, 17, True, math.inf, *NO_COUNT],
    "max_length": [0, True, *NO_COUNT],
    "keep": [-2, True, *NO_COUNT],
    "logprobs": [-2, *NO_COUNT],
    "truncate_prompt_tokens": [-2, True, *NO_COUNT],
    "seed": [2**64, -(2**63) - 1, True, math.inf, *NO_COUNT],
    "top_k": [-2, True, *NO_COUNT],
    "repeat_last_n": [-2, True, *NO_COUNT],
    "no_repeat_ngram": [-1, True, *NO_COUNT],
    "temperature": [-0.1, *NO_NUMBER],
    "top_p": [-0.1, 0, 1.1, *NO_NUMBER],
    "min_p": [-0.1, 1.1, *NO_NUMBER],
    "typical_p": [0, 1.1, *NO_NUMBER],
    "repetition_penalty": [0, *NO_NUMBER],
    "presence_penalty": [1e10, *NO_NUMBER],
    "frequency_penalty": [-1e10, *NO_NUMBER],
    "logit_bias": [1, "x", [], {"a": 1}, {"-1": 1}, {"1": "2"}, {"1": True}, {"1": None}, {"1" * 10: 1}, *LARGE_BIASES],
    "stop": [1, True, {}, [1], ["a", None], "", ["a", ""]],
    "stop_token_ids": [1, "1", ["1"], [True], [1.5], {}],
    "stream_options": [1, True, [], "include_usage"],
    "suffix": ["end", 1, True],
    **dict.fromkeys(("echo", "stream", "return_token_ids", "slide", "special", "ignore_eos"), NO_SWITCH),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_wrong_value_names_its_field(field, value):
    problem = refused(**{field: value})
    assert problem.status == 400
    error = checked(problem.plain()["error"])
    assert error["param"] == field
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [None, 1, "x", [], [{}]])
def test_a_body_is_an_object(body):
    with pytest.raises(BadRequest, match="must be a JSON object"):
        completions(body)


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("best_of", {"n": 3, "best_of": 2}),
        ("best_of", {"best_of": 2, "stream": True}),
        ("stream_options", {"stream_options": {"include_usage": True}}),
        ("include_usage", {"stream_options": {"include_usage": 1}, "stream": True}),
        ("max_tokens", {"max_tokens": -1}),
        ("max_tokens", {"max_tokens": -1, "stream": True}),
        ("prompt", {"prompt": ["x"] * 2049}),
        ("n", {"prompt": ["x"] * 2048, "n": 128}),
    ],
)
def test_what_does_not_go_together(param, fields):
    assert refused(**fields).param == param


def test_a_large_value_is_told_in_short():
    assert len(refused(n="x" * 10**6).message) < 200
    nested = []
    for _ in range(990):
        nested = [nested]
    assert len(refused(prompt=nested).message) < 200


# Over HTTP

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
LARGE = st.sampled_from([10**30, -(10**30), 10**400, 2**31, 2**63, 2**64, 1e308, -1e308, 1e-320, 5e-324])
GOOD = [(name, value) for name, value, *_ in RIGHT + OF_SAMPLING + OF_LIMITS]
VALUES = {
    **{field: st.sampled_from([value for name, value in GOOD if name == field]) for field, _ in GOOD},
    "n": st.integers(1, 5),
    "model": st.just("small"),
    "max_tokens": st.integers(0, 9),
}
BODIES = st.fixed_dictionaries(
    {}, optional={field: st.one_of(VALUES.get(field, ANY), VALUES.get(field, ANY), LARGE, ANY) for field in FIELDS}
)


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(BODIES | ANY)
@example({"temperature": 10**400})
@example({"temperature": 5e-324})
@example({"presence_penalty": 1e9, "frequency_penalty": 1e9})
@example({"repeat_last_n": 10**30, "repeat_penalty": 1.1})
@example({"no_repeat_ngram": 10**30})
@example({"top_k": 10**30})
@example({"min_tokens": 10**30, "max_tokens": 10**30})
@example({"prompt": [10**30]})
@example({"stop_token_ids": [10**30]})
@example({"stop_token_ids": [-1]})
@example({"prompt": "\x00"})
@example({"model": ["small"]})
@example({"model": {}})
@example({"model": 0})
@example({"model": ""})
@example({"echo": True, "logprobs": -1, "n": 5, "max_tokens": 0, "seed": 1})
@pytest.mark.long
def test_any_json_is_answered_or_refused(served, body):
    _, client = served
    if isinstance(body, dict) and body.get("slide"):  # it would have no end
        body = body | {"max_tokens": 70}
    found = client.ask("/v1/completions", json.dumps(body).encode())
    assert found.status == 200 or 400 <= found.status < 500, found.raw
    if found.status != 200:
        assert found.problem["message"]
    elif not body.get("stream"):
        assert all(choice["finish_reason"] for choice in found.json["choices"])


SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}}


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        ({"response_format": {"type": "text"}}, None, None),
        ({"response_format": {"type": "json_object"}}, "json_schema", {"type": "object"}),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, "json_schema", SCHEMA),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            "json_schema",
            SCHEMA,
        ),
        ({"response_format": {"type": "json_schema", "schema": SCHEMA}}, "json_schema", SCHEMA),
        ({"structured_outputs": {"json": SCHEMA}}, "json_schema", SCHEMA),
        ({"structured_outputs": {"json": json.dumps(SCHEMA)}}, "json_schema", SCHEMA),
        ({"structured_outputs": {"json_object": True}}, "json_schema", {"type": "object"}),
        ({"structured_outputs": {"regex": "a+", "choice": None}}, "regex", "a+"),
        ({"structured_outputs": {"choice": ["a", "b"]}}, "choice", ("a", "b")),
        ({"structured_outputs": {"grammar": "start: A"}}, "grammar", "start: A"),
        ({"guided_choice": ["a", "b"]}, "choice", ("a", "b")),
        ({"guided_json": SCHEMA}, "json_schema", SCHEMA),
        ({"json_schema": SCHEMA}, "json_schema", SCHEMA),
        ({"grammar": 'root ::= "a"', "json_schema": None}, "grammar", 'root ::= "a"'),
        ({"grammar": "", "regex": "a"}, "regex", "a"),
        ({"choice": ["a"]}, "choice", ("a",)),
        ({"constraint": {"kind": "choice", "text": ["a"]}}, "choice", ("a",)),
    ],
    ids=str,
)
def test_forms(fields, kind, text):
    found = asked(**fields)
    assert found.unknown == ()
    if kind is None:
        assert found.constraint is None
    else:
        said = found.constraint.text
        assert found.constraint.kind == kind
        assert (json.loads(said) if kind == "json_schema" else said) == text
        assert found.form in fields


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"structured_outputs": ["a"]}, "structured_outputs"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs"),
        ({"structured_outputs": {"choice": []}}, "choice"),
        ({"structured_outputs": {"json": "{", "regex": "a"}}, "structured_outputs"),
        ({"grammar": 1}, "grammar"),
        ({"regex": "a", "choice": ["b"]}, "choice"),
        ({"choice": ["a", ""]}, "choice"),
        ({"choice": "ab"}, "choice"),
        ({"regex": "a" * 60_000}, "regex"),
        ({"constraint": {"kind": "poem"}}, "constraint"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_forms_that_are_none(fields, param):
    assert refused(**fields).param == param


def test_two_forms_within_one_field_are_named():
    problem = refused(structured_outputs={"json": {}, "regex": "a"})
    assert problem.message == "`structured_outputs` has json and regex: a text has one form: send one of them"
