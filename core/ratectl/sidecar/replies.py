"""Requests and answers of the JSON API, for any server of HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from http import HTTPStatus

__all__ = ["MOST_BYTES", "MOST_HEADERS", "Reply", "Request", "json_reply", "problem"]

MOST_BYTES: Final = 64 * 1024
"""Largest body that is read."""
MOST_HEADERS: Final = 16 * 1024
"""Most bytes of the first line and the header of a request."""

_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"


class Reply(NamedTuple):
    """An answer of HTTP."""

    status: int
    body: bytes = b""
    type: str = _JSON
    headers: tuple[tuple[str, str], ...] = ()


class Request(NamedTuple):
    """A request of HTTP, as far as it is looked at."""

    method: str
    path: str
    type: str
    """Value of Content-Type."""
    body: bytes
    refusal: Reply | None = None
    """The answer, if the request could not be read."""


def json_reply(status: int, data: object, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """Return an answer in JSON."""
    return Reply(status, json.dumps(data).encode(), _JSON, headers)


def problem(
    status: HTTPStatus,
    detail: str,
    headers: tuple[tuple[str, str], ...] = (),
    **more: Any,
) -> Reply:
    """Return an error (RFC 9457).

    :param detail: what is wrong, and how to mend it.
    """
    data = {"title": status.phrase, "status": int(status), "detail": detail, **more}
    return Reply(status, json.dumps(data).encode(), _PROBLEM, headers)
