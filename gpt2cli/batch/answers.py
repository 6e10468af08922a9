"""What a row has come to: a line of JSON. Nothing in it depends on when, where, or beside which others it was made."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from gpt2cli.batch.rows import Id, Row
from gpt2cli.errors import UserError
from gpt2cli.server.protocol import BadRequest

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A row's line, without its newline. `tokens` were read or written for it; `unknown` are fields of the row that
    mean nothing. `incomplete` texts have not the form that was asked for."""

    number: int
    id: Id
    line: str
    tokens: int = 0
    failed: bool = False
    unknown: tuple[str, ...] = ()
    incomplete: int = 0


def answered(row: Row, found: Json, tokens: int, unknown: tuple[str, ...] = ()) -> Answer:
    """To a record of ours."""
    return Answer(row.number, row.id, written({"custom_id": row.id} | found), tokens, unknown=unknown)


def responded(row: Row, body: str, tokens: int, unknown: tuple[str, ...] = ()) -> Answer:
    """To a request, of which the `body` is JSON."""
    ids = written({"id": f"batch_req_{_digest(row)}", "custom_id": row.id})
    response = f'{{"status_code":200,"request_id":"{_digest(row)}","body":{body}}}'
    return Answer(row.number, row.id, f'{ids[:-1]},"response":{response},"error":null}}', tokens, unknown=unknown)


def failed(row: Row, reason: str | BadRequest | UserError) -> Answer:
    """To a row that cannot be answered: which line it is, and why."""
    error: Json = {"line": row.number}
    if isinstance(reason, UserError):
        error |= {"message": reason.message, "hint": reason.hint}
    else:
        error |= {"message": str(reason)}
    if row.url is None:
        return Answer(row.number, row.id, written({"custom_id": row.id, "error": error}), failed=True)
    error = {
        "code": getattr(reason, "code", None) or "invalid_request",
        "param": getattr(reason, "param", None),
    } | error
    found = {"id": f"batch_req_{_digest(row)}", "custom_id": row.id, "response": None, "error": error}
    return Answer(row.number, row.id, written(found), failed=True)


def _digest(row: Row) -> str:
    return hashlib.sha256(written(row.id).encode()).hexdigest()[:24]


def name_of(row: Row) -> str:
    """The id of the answer that a request's response carries."""
    return f"cmpl-{_digest(row)}"


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def written(value: Any) -> str:
    return _ENCODER.encode(value)
