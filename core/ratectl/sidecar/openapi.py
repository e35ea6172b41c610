"""The OpenAPI document of the JSON API."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from ratectl.sidecar.api_messages import (
    Answer,
    Answers,
    Check,
    CheckMany,
    Problem,
    Release,
    Settle,
)
from ratectl.version import __version__

__all__ = ["document"]

_REFERENCE: Final = "#/components/schemas/{model}"
_HEADERS: Final = {
    "RateLimit-Policy": "Limits that decide such a request.",
    "RateLimit": "What the limit that decided has left.",
    "Retry-After": "Seconds until the same request would be admitted.",
}
_ERRORS: Final = {
    400: "The request cannot be read, or a field is wrong: `detail` names it.",
    413: "The body is too large.",
    415: "The body is no JSON by its Content-Type.",
    417: "The request expects what the sidecar cannot do.",
    431: "The header is too large.",
    500: "The limiter failed.",
    501: "The body has a transfer coding that is not known.",
    505: "The version of HTTP is not known.",
}


class _Operation(NamedTuple):
    name: str
    summary: str
    asks: str | None
    """Schema of the request."""
    answers: dict[int, tuple[str, tuple[str, ...]]]
    """Descriptions and kinds of answers, by status."""


_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_TEXT: Final = "text/plain"
_UNKNOWN: Final = ("There is no such token.", (_PROBLEM,))
_DONE: Final[tuple[str, tuple[str, ...]]] = ("Done. The call may be repeated.", ())
_BUSY: Final = "Too many calls wait, or too many tokens are open"
_OPERATIONS: Final = {
    ("/v1/check", "post"): _Operation(
        "check",
        "Decide a request",
        "Check",
        {
            200: ("The request is allowed.", (_JSON,)),
            429: ("The request is refused.", (_JSON,)),
            503: (f"{_BUSY}; or the limiter failed and refuses.", (_JSON, _PROBLEM)),
        },
    ),
    ("/v1/check-many", "post"): _Operation(
        "checkMany",
        "Decide requests one by one",
        "CheckMany",
        {
            200: ("Decisions, of which each may be a refusal.", (_JSON,)),
            503: (f"{_BUSY}.", (_PROBLEM,)),
        },
    ),
    ("/v1/settle", "post"): _Operation(
        "settle", "Correct the cost of an allowed request", "Settle", {204: _DONE, 404: _UNKNOWN}
    ),
    ("/v1/release", "post"): _Operation(
        "release", "Free the slots of an allowed request", "Release", {204: _DONE, 404: _UNKNOWN}
    ),
    ("/v1/openapi.json", "get"): _Operation(
        "openapi", "This document", None, {200: ("This document.", (_JSON,))}
    ),
    ("/healthz", "get"): _Operation(
        "healthz", "Is the sidecar alive?", None, {200: ("It is.", (_TEXT,))}
    ),
    ("/readyz", "get"): _Operation(
        "readyz",
        "Should callers ask this sidecar?",
        None,
        {
            200: ("They should.", (_TEXT,)),
            503: ("No policies are in force yet, or the sidecar ends.", (_TEXT,)),
        },
    ),
}
_ANSWERS: Final = {"check": "Answer", "checkMany": "Answers"}


@cache
def document() -> bytes:
    """Return the document as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), operation in _OPERATIONS.items():
        paths.setdefault(path, {})[method] = _described(operation)
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "ratectl sidecar",
            "version": __version__,
            "description": "Decides requests by the live policies of ratectl.",
        },
        "paths": paths,
        "components": {"schemas": _schemas()},
    }
    return json.dumps(whole, indent=2).encode() + b"\n"


def _schemas() -> dict[str, Any]:
    models = [(model, "validation") for model in (CheckMany, Settle, Release, Check)]
    _, requests = models_json_schema(models, ref_template=_REFERENCE)  # type: ignore[arg-type]
    schemas: dict[str, Any] = requests["$defs"]
    for kind in (Answers, Problem):
        schema = TypeAdapter(kind).json_schema(ref_template=_REFERENCE)
        schemas |= schema.pop("$defs", {})
        schemas[kind.__name__] = schema
    assert Answer.__name__ in schemas
    return dict(sorted(schemas.items()))


def _described(operation: _Operation) -> dict[str, Any]:
    answers = {
        str(status): _answer(operation, description, kinds, status)
        for status, (description, kinds) in operation.answers.items()
    }
    for status, description in _ERRORS.items():
        if operation.asks is not None or status not in (413, 415):
            answers[str(status)] = _answer(operation, description, (_PROBLEM,), status)
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": answers,
    }
    if operation.asks is not None:
        schema = {"$ref": _REFERENCE.format(model=operation.asks)}
        found["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema}}}
    return found


def _answer(
    operation: _Operation, description: str, kinds: tuple[str, ...], status: int
) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": description}
    content = {kind: {"schema": _schema_of(operation, kind)} for kind in kinds}
    if content:
        answer["content"] = content
    if operation.name == "check" and status in (200, 429):
        answer["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in _HEADERS.items()
        }
    return answer


def _schema_of(operation: _Operation, kind: str) -> dict[str, Any]:
    if kind == _TEXT:
        return {"type": "string"}
    if kind == _PROBLEM:
        return {"$ref": _REFERENCE.format(model="Problem")}
    name = _ANSWERS.get(operation.name)
    return {"type": "object"} if name is None else {"$ref": _REFERENCE.format(model=name)}
