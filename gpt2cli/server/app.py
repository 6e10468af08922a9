"""The routes: what of HTTP the model answers. Only this file, gate.py and messages.py know Starlette, and only
run.py uvicorn."""

import asyncio
import importlib.metadata
import json
import math
import reprlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gpt2cli.errors import UsageError
from gpt2cli.model import Model
from gpt2cli.server import embeddings, knobs, protocol
from gpt2cli.server.answers import Envelope, Json
from gpt2cli.server.completions import Answer, prompts
from gpt2cli.server.gate import Gate, Log, Rules
from gpt2cli.server.messages import CompletionsReply, EmbeddingsReply, Service, body_of
from gpt2cli.server.metrics import Metrics
from gpt2cli.server.protocol import BadRequest
from gpt2cli.server.worker import Full, Order, Worker
from gpt2cli.tokenizer.tokenizer import encode_in_pieces

_NAMED = 40  # unknown fields of a request that are told
_REMEMBERED = 1000  # and of all requests
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@dataclass(frozen=True)
class Capacity:
    """How much is done at a time, and how long a request may take."""

    rows: int
    waiting: int
    seconds: float


class Server:
    """A model, from the moment it is loaded, and the requests it answers."""

    def __init__(self, rules: Rules, log: Log, aliases: tuple[str, ...] = ()) -> None:
        self.metrics = Metrics()
        self.model: Model | None = None
        self.app = Gate(Starlette(routes=self._routes(), exception_handlers=self._handlers()), rules, self.metrics, log)
        self.log, self._aliases = log, aliases
        self._service: Service | None = None
        self._rows = 1
        self._logged: set[int] = set()  # hashes of unknown fields: a name may be long
        self.draining = False  # no further request is taken

    def open(self, model: Model, capacity: Capacity) -> None:
        """From now on the routes answer."""
        worker = Worker(model, self.metrics, rows=capacity.rows, waiting=capacity.waiting)
        self._service, self._rows = Service(worker, self.metrics, capacity.seconds), capacity.rows
        self._created = int(time.time())
        self.model = model

    def stop(self) -> None:
        """What is under way ends now, with an error that says so."""
        self.draining = True
        if self._service:
            self._service.stop()

    def _routes(self) -> list[Route]:
        gets: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/": self._page,
            "/page/{name}": self._page,
            "/health": self._health,
            "/v1/health": self._health,
            "/version": self._version,
            "/metrics": self._metrics_text,
            "/parameters": self._parameters,
            "/tokenizer_info": self._tokenizer_info,
            "/v1/models": self._models,
            "/v1/models/{id:path}": self._model,
        }
        posts: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/v1/completions": self._completions,
            "/v1/embeddings": self._embeddings,
            "/tokenize": self._tokenize,
            "/detokenize": self._detokenize,
        }
        return [
            *(Route(path, handler, methods=["GET"]) for path, handler in gets.items()),
            *(Route(path, handler, methods=["POST"]) for path, handler in posts.items()),
        ]

    def _handlers(self) -> Mapping[Any, Any]:
        # asynchronous, for Starlette runs others in threads of their own
        async def bad(_: Request, problem: BadRequest) -> Response:
            return JSONResponse(problem.plain(), problem.status, problem.headers)

        async def http(request: Request, problem: HTTPException) -> Response:
            what = {404: f"no route {request.url.path}", 405: f"{request.method} is not for {request.url.path}"}
            message = what.get(problem.status_code, problem.detail)
            found = protocol.error(message, "invalid_request_error", None, None)
            return JSONResponse(found, problem.status_code, dict(problem.headers or {}))

        async def bug(_: Request, problem: Exception) -> Response:
            message = f"unexpected {type(problem).__name__}: this is a bug"
            return JSONResponse(protocol.error(message, "server_error"), 500)

        async def gone(_: Request, problem: ClientDisconnect) -> Response:
            return Response(status_code=499)

        return {BadRequest: bad, HTTPException: http, ClientDisconnect: gone, Exception: bug}

    def _loaded(self) -> Model:
        if self.draining:
            raise Unavailable("the server is shutting down")
        if self.model is None:
            raise Unavailable("the model is being loaded")
        return self.model

    async def _page(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        kind = _TYPES.get(name.rpartition(".")[2])
        folders = resources.files("gpt2cli.server") / "page", resources.files("gpt2cli.drawing")
        # a name is looked up, never joined to a path: it may be none, or lead elsewhere
        file = next((one for folder in folders for one in folder.iterdir() if one.name == name), None)
        if kind is None or file is None:
            raise HTTPException(404)
        return Response(file.read_bytes(), media_type=kind, headers=_PAGE_HEADERS)

    async def _health(self, _: Request) -> Response:
        if self.model is None or self.draining:
            message = "Loading model" if self.model is None else "Shutting down"
            return JSONResponse({"error": {"code": 503, "message": message, "type": "unavailable_error"}}, 503)
        return JSONResponse({"status": "ok"})

    async def _version(self, _: Request) -> Response:
        return JSONResponse({"version": importlib.metadata.version("gpt2cli")})

    async def _metrics_text(self, _: Request) -> Response:
        return PlainTextResponse(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def _parameters(self, _: Request) -> Response:
        return JSONResponse(knobs.plain())

    async def _models(self, _: Request) -> Response:
        model = self._loaded()
        return JSONResponse({"object": "list", "data": [self._described(model, id) for id in self._ids(model)]})

    async def _model(self, request: Request) -> Response:
        model = self._loaded()
        self._check_model(model, request.path_params["id"])
        return JSONResponse(self._described(model, request.path_params["id"]))

    def _ids(self, model: Model) -> tuple[str, ...]:
        return (*self._aliases, model.name)

    def _check_model(self, model: Model, name: object) -> None:
        if name is not None and not isinstance(name, str):
            raise protocol.wrong("model", name, "a name")
        if name is not None and name not in self._ids(model):
            known = " or ".join(self._ids(model))
            what = f"no model {reprlib.repr(name)} here: this is {known}"
            raise BadRequest(what, "model", code="model_not_found", status=404)

    def _described(self, model: Model, id: str) -> Json:
        facts = model.engine.facts
        return {
            "id": id,
            "object": "model",
            "created": self._created,
            "owned_by": "gpt2cli",
            "max_model_len": model.engine.window,
            "meta": {
                "n_ctx_train": model.engine.window,
                "n_vocab": model.engine.vocabulary,
                "n_embd": facts.heads * facts.head_size,
                "n_layer": facts.layers,
                "precision": model.precision,
                "device": model.device,
                "revision": model.revision,
            },
        }

    async def _tokenizer_info(self, _: Request) -> Response:
        model = self._loaded()

        def name(token: int | None) -> str | None:
            return None if token is None else model.tokenizer.decode([token])

        return JSONResponse(
            {
                "eos_token": name(next(iter(model.ends), None)),
                "bos_token": name(model.start),
                "eos_token_ids": model.ends,
                "vocab_size": model.engine.vocabulary,
                "model_max_length": model.engine.window,
            }
        )

    async def _tokenize(self, request: Request) -> Response:
        """As vLLM (`prompt`) and llama.cpp (`content`) have it: special tokens are read as such."""
        model, body = self._loaded(), await body_of(request)
        is_text = (lambda value: isinstance(value, str)), "a text"
        fields = protocol.Fields(body)
        text = fields.first(("prompt", *is_text), ("content", *is_text))
        special = body.get("parse_special") is None or fields.switch("parse_special")
        pieces, strings = fields.switch("with_pieces"), fields.switch("return_token_strs")

        def answer() -> Response:
            ids = encode_in_pieces(model.tokenizer, text, special=special)
            found: Json = {"tokens": ids, "count": len(ids), "max_model_len": model.engine.window}
            names = [model.tokenizer.decode([token]) for token in ids] if pieces or strings else []
            if pieces:
                found["tokens"] = [{"id": token, "piece": name} for token, name in zip(ids, names, strict=True)]
            if strings:
                found["token_strs"] = names
            return JSONResponse(found)

        return await asyncio.to_thread(answer)

    async def _detokenize(self, request: Request) -> Response:
        model, body = self._loaded(), await body_of(request)
        ids = protocol.Fields(body).first(("tokens", protocol.are_ids, "a list of token ids"))

        def answer() -> Response:
            try:
                model.engine.check_ids(ids)
            except UsageError as problem:
                raise protocol.refused(problem, param="tokens") from None
            text = model.tokenizer.decode(ids)
            return JSONResponse({"prompt": text, "content": text})

        return await asyncio.to_thread(answer)

    async def _completions(self, request: Request) -> Response:
        received = time.monotonic()
        model, body = self._loaded(), await body_of(request)
        asked = protocol.completions(body)
        self._check_model(model, body.get("model"))
        headers = self._named(asked.unknown)
        found = await asyncio.to_thread(prompts, model, asked)
        answer = Answer(model, asked, found, self._rows)
        envelope = Envelope(
            body.get("model") or self._ids(model)[0],
            f"{model.name}@{model.revision or 'local'} {model.precision} {model.device}",
            asked.sampling.seed,
            received,
            prompt_tokens=answer.prompt_tokens,
        )
        service = self._submit(answer.order)
        if fed := [str(len(prompt.ids)) for prompt in found if prompt.cut]:
            headers["x-gpt2-prompt-cut"] = ", ".join(fed)  # the tokens that were fed of prompts that were longer
        return CompletionsReply(service, asked, answer, envelope, headers)

    async def _embeddings(self, request: Request) -> Response:
        received = time.monotonic()
        model, body = self._loaded(), await body_of(request)
        asked = embeddings.embeddings(body)
        self._check_model(model, body.get("model"))
        headers = self._named(asked.unknown)
        answer = embeddings.Answer(asked, *await asyncio.to_thread(embeddings.prepared, model, asked))
        service = self._submit(answer.order)
        return EmbeddingsReply(service, answer, body.get("model") or self._ids(model)[0], received, headers)

    def _submit(self, order: Order) -> Service:
        assert self._service is not None
        try:
            self._service.worker.submit(order)
        except Full:
            self._loaded()  # or it is shutting down
            self.metrics.refused += 1
            raise Busy(self.metrics) from None
        return self._service

    def _named(self, unknown: Sequence[str]) -> dict[str, str]:
        """Unknown fields, in a header, and in the log once, until there have been too many."""
        room = _REMEMBERED - len(self._logged)
        if new := [name for name in unknown if hash(name) not in self._logged][:room]:
            self._logged.update(map(hash, new))
            self.log({"note": f"unknown fields are ignored: {_listed(new)}"})
        return {"x-gpt2-ignored-fields": _listed(unknown)} if unknown else {}


class Unavailable(BadRequest):
    def __init__(self, message: str) -> None:
        super().__init__(message, status=503)
        self.headers["retry-after"] = "2"


class Busy(BadRequest):
    def __init__(self, metrics: Metrics) -> None:
        super().__init__("too many requests wait already: try again later", code="rate_limit_exceeded", status=429)
        self.headers["retry-after"] = str(max(1, math.ceil(metrics.seconds.sum / max(1, metrics.seconds.count))))


def _listed(names: Sequence[str]) -> str:
    """Fields' names for a header and for the log: no line of one can begin another."""
    plain = [json.dumps(name[:60]).replace(",", " ") for name in names[:_NAMED]]
    # a header's value neither begins nor ends with a space
    plain = [name[1:-1] if name[1:-1].strip() == name[1:-1] != "" else name for name in plain]
    return ", ".join([*plain, *([f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else [])])
