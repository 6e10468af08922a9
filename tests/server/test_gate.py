"""Who may ask, over real sockets; and what is written of it."""

import base64
import contextlib
import json
import sys

import pytest
from servers import Connection, awaited, live

from gpt2cli.server.gate import Rules

KEY, OTHER = "sk-geheim-ü", "sk-zweiter"
ROUTES = ["/", "/version", "/metrics", "/parameters", "/v1/models", "/v1/models/x", "/tokenizer_info", "/nothing"]
POSTS = ["/v1/completions", "/tokenize", "/detokenize"]


@pytest.fixture(scope="module")
def guarded(small_model):
    """A server with two keys that also answers a page elsewhere."""
    with live(small_model, rules=Rules((KEY, OTHER), ("https://page.example",))) as found:
        yield found


@pytest.fixture
def asked(guarded):
    return guarded[1]


def basic(password):
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.mark.parametrize("route", ROUTES + POSTS)
def test_every_route_wants_the_key(asked, route):
    body = {} if route in POSTS else None
    found = asked.ask(route, body)
    assert (found.status, found.problem["code"]) == (401, "invalid_api_key")
    assert found.headers["www-authenticate"].startswith("Basic ")
    assert asked.ask(route, body, Authorization=f"Bearer {OTHER}").status != 401


@pytest.mark.parametrize("route", ["/health", "/v1/health"])
def test_health_is_for_everybody(asked, route):
    assert asked.ask(route).status == 200


@pytest.mark.parametrize(
    "sent",
    [f"Bearer {OTHER}", f"bearer  {OTHER} ", f"Bearer {KEY}".encode(), basic(KEY), basic(OTHER)],
    ids=str,
)
def test_right_keys(asked, sent):
    assert asked.ask("/version", Authorization=sent).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        *("", "Bearer", "Bearer ", "Bearer wrong", OTHER, f"Token {OTHER}", f"Bearer {OTHER}x", f"Bearer {OTHER[:-1]}"),
        *("Basic", "Basic !!", "Basic YQ==", basic(""), basic("wrong"), f"Basic {OTHER}", "Basic /w==", "Basic ü"),
    ],
)
def test_wrong_keys(asked, sent):
    assert asked.ask("/version", Authorization=sent.encode()).status == 401


@pytest.mark.parametrize("sent", ["Bearer ", "Bearer", "Bearer anything", "Basic !!", ""])
def test_without_keys_none_is_asked_for(client, sent):
    assert client.ask("/version", Authorization=sent).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "LOCALHOST:80"}, 200),
        ({"Host": "page.localhost:1234"}, 200),
        ({"Host": "127.0.0.1:99"}, 200),
        ({"Host": "[::1]:99"}, 200),
        ({"Host": "[::1]"}, 200),
        ({"Host": "192.168.0.7"}, 200),
        ({"Host": "rebound.example"}, 403),
        ({"Host": "rebound.example:8080"}, 403),
        ({"Host": "localhost.rebound.example"}, 403),
        ({"Host": "127.0.0.1.rebound.example"}, 403),
        ({"Host": "xlocalhost"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://localhost:9999", "Host": "localhost:80"}, 403),
        ({"Origin": "http://localhost:80", "Host": "localhost:80"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "https://page.example"}, 403),
    ],
    ids=str,
)
def test_hosts_and_origins(client, headers, status):
    found = client.ask("/version", **headers)
    assert found.status == status
    assert "access-control-allow-origin" not in found.headers
    if status == 403:
        assert found.problem["code"] == "forbidden"


def test_a_host_is_no_matter_where_a_key_is(asked):
    assert asked.ask("/version", Host="gpt2.example", Authorization=f"Bearer {OTHER}").status == 200
    assert asked.ask("/version", Host="gpt2.example").status == 401


def test_an_origin_that_may_ask(asked):
    page = {"Origin": "https://page.example", "Sec_Fetch_Site": "cross-site"}
    found = asked.ask("/version", Authorization=f"Bearer {OTHER}", **page)
    assert found.status == 200
    assert found.headers["access-control-allow-origin"] == "https://page.example"
    assert found.headers["vary"] == "Origin"
    assert (
        asked.ask("/version", **page).headers["access-control-allow-origin"] == "https://page.example"
    )  # a page reads
    before = asked.ask("/v1/completions", method="OPTIONS", Access_Control_Request_Headers="content-type,x", **page)
    assert (before.status, before.raw) == (204, b"")
    assert before.headers["access-control-allow-headers"] == "content-type,x"
    assert before.headers["access-control-allow-methods"] == "GET, POST"
    other = asked.ask("/v1/completions", method="OPTIONS", Origin="https://evil.example")
    assert other.status == 403
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_is_json(client, kind):
    for route in POSTS:
        found = client.ask(route, b"{}", **{"Content-Type": kind})
        assert (found.status, found.problem["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_may_have_a_charset(client, kind):
    assert client.ask("/tokenize", b'{"prompt": "a"}', **{"Content-Type": kind}).status == 200


# Bodies


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"prompt": "a"',
        b"nonsense",
        b"\xff\xfe",
        b'{"prompt": NaN}',
        b'{"temperature": Infinity}',
        b'{"n": -Infinity}',
        b'{"prompt": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"prompt": "\xed\xa0\x80"}',
        '{"prompt": "\ud800"}'.encode("utf-16-le", "surrogatepass"),
        '{"prompt": "a"}'.encode("utf-16"),
        b'{"prompt": "\xff"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda body: repr(body[:30]),
)
def test_what_is_no_json_is_refused(client, body):
    for route in POSTS:
        found = client.ask(route, body)
        assert (found.status, found.problem["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    "body", [b'\xef\xbb\xbf{"prompt": "a"}', b'{"prompt": "\\ud83d\\ude42"}', b'{"prompt": "\\u0000"}']
)
def test_what_is_json_is_taken(client, body):
    assert client.ask("/tokenize", body).status == 200


def test_a_body_that_is_too_large(client):
    body = b'{"prompt": "' + b"a" * (10 << 20) + b'"}'
    connection = Connection(client.address, 30)
    connection.putrequest("POST", "/v1/completions")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    with contextlib.suppress(OSError):  # it need not take all
        connection.send(body)
    assert connection.getresponse().status == 413
    connection.close()
    assert client.ask("/tokenize", {"prompt": "a" * 100, "extra": "a" * (7 << 20)}).json["count"] == 100


# The log


def logged(server):
    return json.dumps(server.events, ensure_ascii=False) + json.dumps(server.events)


def test_keys_and_texts_are_not_logged(guarded):
    server, client = guarded
    fields = {"prompt": "a whispered prompt", "user": "somebody", "stop": ["whispered stop"], "max_tokens": 2}
    headers = {"Authorization": f"Bearer {OTHER}"}
    assert client.ask("/v1/completions", fields, **headers).status == 200
    client.ask("/v1/completions?key=whispered", fields, Authorization=f"Bearer {OTHER}x")
    client.ask("/tokenize", {"prompt": "whispered"}, **headers)
    client.ask("/v1/completions", {"n": "whispered"}, **headers)
    found = logged(server)
    for word in ("whisper", OTHER, KEY, "geheim", "somebody"):
        assert word not in found


def test_a_request_is_a_line(served):
    server, client = served
    found, missing = client.post(prompt="the cat", max_tokens=3, ignore_eos=True), client.ask("/nothing")

    def of(reply):
        return [event for event in server.events if event.get("id") == reply.headers["x-request-id"]]

    awaited(lambda: of(found) and of(missing))  # written when the answer has gone
    (first,), (second,) = of(found), of(missing)
    assert first | {"id": "", "seconds": 0} == {
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/v1/completions",
        "status": 200,
        "seconds": 0,
        "id": "",
        "prompt_tokens": found.json["usage"]["prompt_tokens"],
        "completion_tokens": 3,
    }
    assert (second["path"], second["status"]) == ("/nothing", 404)
    counted = client.metrics()
    assert counted['gpt2_requests_total{route="/v1/completions",status="200"}'] >= 1
    assert counted['gpt2_requests_total{route="other",status="404"}'] >= 1


def test_unknown_fields_are_named_once(served):
    server, client = served
    server.events.clear()
    for _ in range(2):
        found = client.post(prompt="a", max_tokens=1, mirostat_eta=1, **{"x,\n\r: y": 1, "ü": None})
        assert found.status == 200
        assert found.headers["x-gpt2-ignored-fields"] == "mirostat_eta, x \\n\\r: y, \\u00fc"
    notes = [event["note"] for event in server.events if "note" in event]
    assert notes == ["unknown fields are ignored: mirostat_eta, x \\n\\r: y, \\u00fc"]
    client.post(prompt="a", max_tokens=1, mirostat_eta=1, dry_base=2)
    assert [event["note"] for event in server.events if "note" in event][1:] == ["unknown fields are ignored: dry_base"]


def test_a_field_s_name_may_be_blank(client):
    found = client.post(prompt="a", max_tokens=1, **{"": 1, " ": 1, "a\t": 1, "b ": 1})
    assert found.status == 200
    assert found.headers["x-gpt2-ignored-fields"] == '"", " ", a\\t, "b "'


def test_many_unknown_fields_are_told_in_short(client):
    found = client.post(prompt="a", max_tokens=1, **{f"field{number:05}" * 20: 1 for number in range(9000)})
    assert found.status == 200
    assert len(found.headers["x-gpt2-ignored-fields"]) < 5000
    assert found.headers["x-gpt2-ignored-fields"].endswith("and 8960 more")


def test_what_has_been_named_needs_little_memory(small_model):
    with live(small_model) as (server, client):
        for letter in "abc":
            assert client.post(prompt="a", max_tokens=1, **{letter * (1 << 20): 1}).status == 200
        assert sum(map(sys.getsizeof, server._logged)) < 1000
        for start in range(0, 3000, 1000):
            fields = {f"field{number}": 1 for number in range(start, start + 1000)}
            assert client.post(prompt="a", max_tokens=1, **fields).status == 200
        notes = [event["note"] for event in server.events if "note" in event]
        assert (len(server._logged), len(notes)) == (1000, 4)  # then it is told no more


def test_known_fields_are_not_named(client):
    known = {"user": "x", "suffix": None, "logit_bias": {}, "stream_options": None, "stop": None, "seed": None}
    assert "x-gpt2-ignored-fields" not in client.post(prompt="a", max_tokens=1, **known).headers
