"""A running server in place of a model of one's own: `gpt2 generate --server`. Imports nothing heavy, so that a script
that calls it again and again pays no start-up."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from math import inf
from typing import Any

from gpt2cli.errors import CannotMeet, NetworkError, UnknownModel, UsageError, UserError
from gpt2cli.generation.requests import Finish, Logprob, Piece, Request

Json = dict[str, Any]

_SECONDS = 600.0  # of silence; a stream that has nothing to say sends a word every 15
_CONNECT_SECONDS = 5.0


def body_of(prompt: str | list[int], request: Request, *, model: str | None, special: bool, strict: bool) -> Json:
    """The request as a server takes it, which then does what `gpt2 generate` does. Its prompt is `prompt`, not ids."""
    sampling, limits = vars(request.sampling), vars(request.limits)
    biases = {str(token): "-inf" if bias == -inf else bias for token, bias in request.sampling.logit_bias.items()}
    changes = {
        "logit_bias": biases,
        "max_tokens": -1 if request.limits.max_tokens is None else request.limits.max_tokens,
        "stop": list(request.limits.stop),
    }
    constraint = request.constraint
    form = {constraint.kind: list(constraint.choices) or constraint.words} if constraint else {}
    how = {"n": request.samples, "logprobs": request.logprobs, "special": special, "strict": strict, "slide": True}
    return {"model": model, "prompt": prompt} | sampling | limits | changes | how | form


class Heard:
    """The tokens of which a server has told, in place of a tokenizer."""

    def __init__(self, served: "Served") -> None:
        self._served = served
        self._bytes: dict[int, bytes] = {}

    def note(self, entry: Mapping[str, Any]) -> None:
        for one in (entry, *entry["top"]):
            self._bytes[one["id"]] = bytes(one["bytes"])

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self._bytes[token] for token in ids).decode(errors="replace")

    def plain(self, token: int) -> Json:
        return {"id": token, "token": self.decode([token]), "bytes": list(self._bytes[token])}

    def encode(self, text: str) -> list[int]:
        body = {"prompt": text, "parse_special": False}
        found: list[int] = self._served.ask("POST", "/tokenize", body)["tokens"]
        return found


class Served:
    """The model that a server has."""

    def __init__(self, url: str, key: str | None = None) -> None:
        """`url` is http://HOST:PORT, or unix:PATH. Raises UsageError."""
        self.url, self._key = url, key
        scheme, _, rest = url.partition(":")
        self._path = rest if scheme == "unix" else ""
        self._secure, self._host = scheme == "https", rest.strip("/").removesuffix("/v1")
        if scheme not in ("http", "https", "unix") or not self._host or ("/" in self._host and not self._path):
            raise UsageError(f"`server` is '{url}'", "write it as http://127.0.0.1:8080, or unix:PATH")
        if self._path and not hasattr(socket, "AF_UNIX"):
            raise UsageError("this system has no Unix sockets", "give `server` an address: http://127.0.0.1:8080")
        try:
            self._connection()
        except http.client.InvalidURL:
            raise UsageError(f"`server` is '{url}'", "write it as http://127.0.0.1:8080, or unix:PATH") from None
        self.tokenizer = Heard(self)
        self.prompt_ids: list[int] = []  # those that were fed, when the first piece has come
        self.window: int | None = None  # the tokens that were fed of a prompt that was longer
        self._facts: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        return str(self._fact("id"))

    @property
    def revision(self) -> str | None:
        found: str | None = self._fact("revision")
        return found

    @property
    def precision(self) -> str:
        return str(self._fact("precision"))

    @property
    def device(self) -> str:
        return str(self._fact("device"))

    def _fact(self, name: str) -> Any:
        if self._facts is None:
            found = self.ask("GET", "/v1/models")["data"][-1]
            self._facts = {"id": found["id"]} | found["meta"]
        return self._facts.get(name)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON of an answer. Raises UserError."""
        response, connection = self._send(method, path, body)
        with closing(connection):
            try:
                return json.loads(response.read())
            except ValueError:
                raise _stranger(self.url) from None

    def pieces(self, body: Mapping[str, Any]) -> Iterator[Piece]:
        """The pieces of a text as they come; closing it tells the server. Raises UserError."""
        response, connection = self._send("POST", "/v1/completions", {**body, "stream": True, "return_token_ids": True})
        if fed := response.headers.get("x-gpt2-prompt-cut"):
            self.window = int(fed)
        return self._read(response, connection)

    def text(self, ids: Sequence[int]) -> str:
        """What the ids stand for."""
        return str(self.ask("POST", "/detokenize", {"tokens": ids})["prompt"])

    def _read(self, response: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> Iterator[Piece]:
        try:
            for line in response:
                if not line.startswith(b"data: "):
                    continue
                if line.startswith(b"data: [DONE]"):
                    return
                event = json.loads(line[6:])
                if "error" in event:
                    raise _problem(event["error"], self.url)
                for choice in event["choices"]:
                    yield self._piece(choice)
            raise ConnectionResetError
        except (OSError, http.client.HTTPException):
            raise NetworkError(
                f"the server on {self.url} has gone before the text was complete", "begin again when it is back"
            ) from None
        except (LookupError, TypeError, ValueError, AttributeError):
            raise _stranger(self.url) from None
        finally:
            response.close()
            connection.close()

    def _piece(self, choice: Mapping[str, Any]) -> Piece:
        self.prompt_ids[:] = choice.get("prompt_token_ids", self.prompt_ids)
        logprob = None
        for entry in (choice["logprobs"] or {}).get("entries", ()):
            self.tokenizer.note(entry)
            top = tuple((one["id"], one["logprob"]) for one in entry["top"])
            logprob = Logprob(entry["logprob"], top, entry["rank"])
        end = choice.get("end")
        token = None if end is not None else next(iter(choice["token_ids"]), None)
        finish: dict[str | None, Finish | None] = {"length": "length", "stop": "stop" if end is None else "end"}
        reason = choice.get("finish") or finish.get(choice["finish_reason"])
        return Piece(choice["index"], choice["text"], choice.get("held", ""), token, logprob, reason, end)

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> tuple[http.client.HTTPResponse, http.client.HTTPConnection]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        connection = self._connection()
        try:
            self._connect(connection)
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            if response.status == 200:
                return response, connection
            answer = response.read()
            connection.close()
        except ValueError:  # whose words would show the key
            connection.close()
            raise UsageError("the API key holds characters that HTTP cannot carry", "check GPT2_API_KEY") from None
        except (OSError, http.client.HTTPException) as problem:
            connection.close()
            why = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
            raise NetworkError(
                f"no server answers on {self.url}: {why}", "start one with `gpt2 serve`, or leave out --server"
            ) from None
        raise _problem(_error_of(answer, response.status), self.url, response.status)

    def _connection(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind("localhost" if self._path else self._host, timeout=_CONNECT_SECONDS)

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        if self._path:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.connect(self._path)
        else:
            connection.connect()
        connection.sock.settimeout(_SECONDS)


def _stranger(url: str) -> NetworkError:
    return NetworkError(f"what answers on {url} is no `gpt2 serve`", "start one, or leave out --server")


def _error_of(answer: bytes, status: int) -> Mapping[str, Any]:
    try:
        found = json.loads(answer)["error"]
        return found if isinstance(found, dict) else {"message": str(found)}
    except (ValueError, KeyError, TypeError):
        return {"message": f"HTTP {status}"}


def _problem(error: Mapping[str, Any], url: str, status: int = 0) -> UserError:
    """A server's complaint as ours."""
    message, hint, code = str(error.get("message")), error.get("hint"), error.get("code")
    if hint:
        message = message.removesuffix(f": {hint}")
    if code in ("cannot_meet", "context_length_exceeded"):
        return CannotMeet(message, hint or "shorten the prompt")
    if code == "model_not_found":
        return UnknownModel(message, f"leave out -m, or start a server with it; {url} has another model")
    if code == "invalid_api_key":
        return UsageError(f"the server on {url} wants a key", "set GPT2_API_KEY to it")
    if status in (0, 400) and error.get("type") == "invalid_request_error" and code is None:
        return UsageError(message, hint or "the server does not take this")
    return NetworkError(f"the server on {url} says: {message}", hint or "try again later")
