"""Who may ask, and what is written of it: an ASGI middleware before every route.

A browser is told apart from a program by what it sends: a page of another origin has a foreign `Origin` or
`Sec-Fetch-Site`, one whose name has been pointed at this machine (DNS rebinding) a foreign `Host`, and only a page that
asked first may send JSON. Keys are compared in constant time. Neither keys nor texts are logged."""

import base64
import hmac
import ipaddress
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from gpt2cli.server.metrics import Metrics
from gpt2cli.server.protocol import error

Log = Callable[[Mapping[str, Any]], None]
OPEN = ("/health", "/v1/health")  # to everybody


@dataclass(frozen=True)
class Rules:
    """Whom the server answers."""

    keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()  # of pages elsewhere that may ask
    hosts: tuple[str, ...] = field(default=("localhost",))  # names it goes by, beside addresses


class Gate:
    def __init__(self, app: Starlette, rules: Rules, metrics: Metrics, log: Log) -> None:
        self._app, self._rules, self._metrics, self._log = app, rules, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 0
        scope["gpt2"] = told = {"id": f"req-{uuid.uuid4().hex[:16]}"}
        headers = Headers(scope=scope)
        granted = self._granted(headers)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", told["id"].encode()),
                    *((name.encode(), value.encode()) for name, value in granted.items()),
                ]
            await send(message)

        refusal = self._refusal(scope, headers)
        try:
            await (refusal or self._app)(scope, receive, answer)
        finally:
            status = status or 499  # who asked has left before there was an answer
            seconds = time.monotonic() - started
            self._metrics.answered(self._route(scope), status, seconds)
            client = scope.get("client") or ("-",)
            self._log(
                {
                    "client": client[0],
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "seconds": round(seconds, 4),
                }
                | told
            )

    def _route(self, scope: Scope) -> str:
        """The pattern that the path matches."""
        routes = [route for route in self._app.routes if isinstance(route, Route)]
        return next((route.path for route in routes if route.matches(scope)[0] is not Match.NONE), "other")

    def _granted(self, headers: Headers) -> dict[str, str]:
        """What a page of another origin needs to read the answer."""
        origin = headers.get("origin")
        if origin is None or origin not in self._rules.origins:
            return {}
        return {"access-control-allow-origin": origin, "vary": "Origin"}

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        rules, host = self._rules, headers.get("host", "")
        if scope["path"] in OPEN:
            return None
        origin = headers.get("origin")
        if origin in rules.origins and origin is not None:
            if scope["method"] == "OPTIONS":
                return _preflight(headers)
        elif (origin is not None and origin.partition("://")[2] != host) or headers.get(
            "sec-fetch-site"
        ) == "cross-site":
            return _no(403, "pages of other origins may not ask", "start the server with --cors ORIGIN", "forbidden")
        if not rules.keys and not self._known(host):
            return _no(403, f"this server is not called '{host[:100]}'", "use its address, or localhost", "forbidden")
        if rules.keys and not _has_key(headers.get("authorization", ""), rules.keys):
            refusal = _no(401, "no valid API key", "send it as Authorization: Bearer KEY", "invalid_api_key")
            refusal.headers["www-authenticate"] = 'Basic realm="gpt2", charset="UTF-8"'
            return refusal
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json":
            return _no(415, "the body must be JSON", "send Content-Type: application/json", "unsupported_media_type")
        return None

    def _known(self, host: str) -> bool:
        """Whether the host that was asked for is this one: an address cannot be another's name."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
        name = name.strip("[]").lower().rstrip(".")
        if name in self._rules.hosts or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _has_key(authorization: str, keys: tuple[str, ...]) -> bool:
    """Bearer, or Basic, with which a browser asks for it: the key is the password there."""
    scheme, _, value = authorization.partition(" ")
    value = value.strip()
    if scheme.lower() == "basic":
        try:
            sent = base64.b64decode(value, validate=True).partition(b":")[2]
        except ValueError:
            return False
    elif scheme.lower() == "bearer":
        sent = value.encode("latin-1")  # as headers are read
    else:
        return False
    found = [hmac.compare_digest(sent, key.encode(errors="surrogateescape")) for key in keys]
    return any(found)


def _preflight(headers: Headers) -> Response:
    return Response(
        status_code=204,
        headers={
            "access-control-allow-methods": "GET, POST",
            "access-control-allow-headers": headers.get("access-control-request-headers", "content-type"),
            "access-control-max-age": "600",
        },
    )


def _no(status: int, message: str, hint: str, code: str) -> Response:
    return JSONResponse(error(f"{message}: {hint}", "invalid_request_error", None, code), status)
