"""A request's body as it arrives, and an answer as it leaves: whole, or as server-sent events. Who hangs up is not
answered any further, and who reads slowly is waited for."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from gpt2cli.errors import CorruptFile, UserError
from gpt2cli.server import protocol
from gpt2cli.server.answers import Choice, Choices, Delta, Envelope, Json
from gpt2cli.server.completions import Answer
from gpt2cli.server.metrics import Metrics
from gpt2cli.server.protocol import BadRequest, Completions
from gpt2cli.server.worker import Order, Worker

MOST_BYTES = 8 << 20  # of a body
_BODY_SECONDS = 30.0  # for a body to arrive
_PING_SECONDS = 15.0  # of silence in a stream
_LAST_SECONDS = 2.0  # for the last word to somebody who reads slowly


async def body_of(request: Request) -> Any:
    """The JSON of a request. Raises BadRequest."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > MOST_BYTES:
                    raise BadRequest(f"the body is larger than {MOST_BYTES >> 20} MB", status=413)
    except TimeoutError:
        raise BadRequest("the body did not arrive in time", status=408) from None
    raw = b"".join(parts)
    try:
        value = json.loads(raw.decode("utf-8-sig"), parse_constant=_no_number)  # bytes may hold half characters
        if b"\\ud" in raw.lower():  # an escape that may be half a character
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as problem:
        reason = "it holds a number of too many digits" if "int_max_str_digits" in str(problem) else problem
        raise BadRequest(f"the body is no JSON: {reason}") from None
    return value


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number in JSON")


@dataclass
class Service:
    """What the answers share: the worker, and whether they can be finished."""

    worker: Worker
    metrics: Metrics
    seconds: float  # that an answer may take
    replies: set[asyncio.Task[Any]] = field(default_factory=set)  # under way
    stopping: bool = False

    def begin(self, reply: asyncio.Task[Any] | None) -> None:
        """The task of a reply, from which on `stop` ends it. Raises CancelledError where that is over."""
        if self.stopping:
            raise asyncio.CancelledError
        if reply is not None:
            self.replies.add(reply)

    def stop(self) -> None:
        """What is under way ends now, with an error that says so."""
        self.stopping = True
        for task in self.replies:
            task.cancel()
        self.worker.stop()


class Reply(Response):
    """The answer to a request that the worker does."""

    def __init__(self, service: Service, order: Order, received: float, headers: Mapping[str, str], media: str) -> None:
        self._service, self._order, self._received = service, order, received
        super().__init__(headers=dict(headers), media_type=media)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or finds that nobody listens any more."""
        answer = self._respond(scope, receive, send)
        answering, leaving = asyncio.create_task(answer), asyncio.create_task(_hang_up(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                self._service.metrics.cancelled += 1
                scope["gpt2"]["cancelled"] = True
                answering.cancel()
                await asyncio.wait({answering})
            if not answering.cancelled() and (error := answering.exception()) is not None:
                raise error
        finally:
            self._service.replies.discard(answering)
            self._service.worker.cancel(self._order)
            leaving.cancel()
            answering.cancel()
            scope["gpt2"] |= self._count()

    def _count(self) -> Json:
        """The answer's tokens, for the metrics and the log."""
        raise NotImplementedError

    async def _whole(self) -> Response:
        """The answer, when all of it is there."""
        raise NotImplementedError

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The answer as a whole, or what has kept it from its end."""
        try:
            async with self._in_time():
                response = await self._whole()
        except (TimeoutError, asyncio.CancelledError, UserError) as error:
            problem = self._problem(error)
            response = JSONResponse(problem.plain(), problem.status, {"x-should-retry": "false"})
        await response(scope, receive, send)

    def _in_time(self) -> asyncio.Timeout:
        return asyncio.timeout(self._received + self._service.seconds - time.monotonic())

    def _problem(self, error: BaseException) -> BadRequest:
        """What kept the answer from its end. Raises what is nobody's fault."""
        if isinstance(error, TimeoutError):
            return BadRequest("the answer took too long: the time for a request has passed", code="timeout", status=408)
        if isinstance(error, asyncio.CancelledError) and self._service.stopping:
            return BadRequest("the server is shutting down", status=503)
        if isinstance(error, CorruptFile):
            return protocol.broken(error)
        if isinstance(error, UserError):
            return protocol.refused(error)
        raise error


class Finding(Protocol):
    """An answer that is one JSON object, when all of it has been found."""

    tokens: int  # of what was asked about

    @property
    def order(self) -> Order: ...

    async def json(self, name: str) -> str: ...


class FindingReply(Reply):
    """Such an answer, made by the model that the request calls `name`."""

    def __init__(
        self, service: Service, answer: Finding, name: str, received: float, headers: Mapping[str, str]
    ) -> None:
        self._answer, self._name = answer, name
        super().__init__(service, answer.order, received, headers, "application/json")

    def _count(self) -> Json:
        self._service.metrics.prompt_tokens += self._answer.tokens
        return {"prompt_tokens": self._answer.tokens, "completion_tokens": 0}

    async def _whole(self) -> Response:
        self._service.begin(asyncio.current_task())
        body = await self._answer.json(self._name)
        return Response(body, headers=dict(self.headers))


class CompletionsReply(Reply):
    """The answer to a request for completions."""

    def __init__(
        self,
        service: Service,
        asked: Completions,
        answer: Answer,
        envelope: Envelope,
        headers: Mapping[str, str],
    ) -> None:
        self._asked, self._answer, self._envelope = asked, answer, envelope
        media = "text/event-stream" if asked.stream else "application/json"
        super().__init__(service, answer.order, envelope.received, headers, media)

    def _count(self) -> Json:
        """The answer's tokens, for the usage, the metrics and the log."""
        envelope, metrics = self._envelope, self._service.metrics
        self._measure()
        metrics.prompt_tokens += envelope.prompt_tokens
        metrics.cached_tokens += envelope.cached_tokens
        metrics.generated_tokens += envelope.completion_tokens
        return {"prompt_tokens": envelope.prompt_tokens, "completion_tokens": envelope.completion_tokens}

    def _measure(self) -> None:
        self._envelope.completion_tokens = sum(choice.tokens for choice in self._answer.choices)
        self._envelope.cached_tokens = self._answer.cached

    async def _deltas(self) -> AsyncIterator[list[tuple[Choice, Delta]]]:
        """Those of the answer."""
        self._service.begin(asyncio.current_task())
        begun = False
        async for deltas in self._answer.deltas(_PING_SECONDS):
            if not begun and any(choice.tokens for choice, _ in deltas):
                begun = True
                self._service.metrics.first_token.observe(time.monotonic() - self._envelope.received)
            yield deltas

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._stream(scope, send) if self._asked.stream else super()._respond(scope, receive, send))

    async def _whole(self) -> Response:
        choices = Choices(self._asked)
        async for deltas in self._deltas():
            choices.add(deltas)
        self._measure()
        body = self._envelope.plain(choices.best(), usage=self._envelope.usage())
        return Response(await self._json(body), headers=dict(self.headers))

    async def _json(self, value: Json) -> bytes:
        return await asyncio.to_thread(_json_by_pieces, value) if self._answer.is_large else _whole_json(value)

    async def _stream(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        usage: Json = {"usage": None} if self._asked.include_usage else {}
        last = b""
        try:
            async with self._in_time():
                async for deltas in self._deltas():
                    events = [
                        _event(await self._json(self._envelope.plain([choice.plain(delta)], **usage)))
                        for choice, delta in deltas
                    ]
                    await _part(send, b"".join(events) or b": still at work\n\n")
            if self._asked.include_usage:
                self._measure()
                last = _event(_whole_json(self._envelope.plain([], usage=self._envelope.usage())))
        except (TimeoutError, asyncio.CancelledError, UserError) as error:
            last = _event(_whole_json(self._problem(error).plain()))
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await _part(send, last + b"data: [DONE]\n\n", more=False)
        except TimeoutError:  # nobody reads: what waits to be read would keep the connection for ever
            scope["state"]["abort"]()
            await asyncio.sleep(0)


async def _hang_up(receive: Receive) -> None:
    """Until the client has left; its body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _part(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _whole_json(value: Json) -> bytes:
    return _JSON.encode(value).encode()


def _json_by_pieces(value: Json) -> bytes:
    """The same, but other threads get their turn: slower by far."""
    return "".join(_JSON.iterencode(value)).encode()


def _event(text: bytes) -> bytes:
    return b"data: " + text + b"\n\n"
