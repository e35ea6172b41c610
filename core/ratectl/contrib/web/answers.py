"""Answers to refused requests: headers of HTTP and a body.

``RateLimit`` and ``RateLimit-Policy`` are those of draft-ietf-httpapi-ratelimit-headers-11, the
body is a problem of RFC 9457 of that draft's type.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ratectl.engine.cost import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ratectl.agent import Agent
    from ratectl.agent.in_force import LimitInForce
    from ratectl.engine.decision import Decision

    Headers = list[tuple[str, str]]

__all__ = ["PROBLEM", "body_of", "headers_by", "headers_of", "status_of"]

PROBLEM: Final = "application/problem+json"
_TYPE: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"
_NS: Final = 1_000_000_000


def status_of(decision: Decision) -> int:
    """Return the status of a refusal: 429, or 503 where the limiter failed."""
    return 503 if decision.reason == "error" else 429


def headers_of(
    decision: Decision,
    agent: Agent,
    scope: str,
    attributes: Mapping[str, str],
    *,
    legacy: bool = False,
) -> Headers:
    """Return the headers that tell a client about a decision.

    ``legacy``: with ``X-RateLimit-Limit``, ``-Remaining`` and ``-Reset`` (seconds from now).
    """
    limits = agent.limits(scope, attributes) if decision.limit is not None else None
    return headers_by(decision, limits or (), legacy=legacy)


def headers_by(
    decision: Decision, limits: Iterable[LimitInForce], *, legacy: bool = False
) -> Headers:
    """Return the headers of ``headers_of``. ``limits``: those that decide such a request."""
    headers: Headers = []
    if decision.retry_after_ns:  # 0 if it is allowed, None if waiting does not help
        headers.append(("Retry-After", str(_seconds(decision.retry_after_ns))))
    if decision.limit is None:
        return headers
    limits = [limit for limit in limits if not limit.shadow]
    if limits:
        headers.append(("RateLimit-Policy", ", ".join(map(_policy, limits))))
    decisive = next((limit for limit in limits if _decided(limit, decision)), None)
    if decisive is not None:  # None: a limit in shadow, which binds nobody
        headers.append(("RateLimit", _state(decision, _label(decisive))))
        headers += _legacy(decision) if legacy else ()
    return headers


def body_of(decision: Decision, names: Iterable[str] = ()) -> bytes:
    """Return the body of a refusal: a problem, as JSON."""
    if decision.reason == "error":
        problem: dict[str, object] = {
            "title": "The rate limiter failed",
            "status": 503,
        }
    else:
        problem = {
            "type": _TYPE,
            "title": "Request cannot be satisfied as assigned quota has been exceeded",
            "status": 429,
            "violated-policies": list(names) or [decision.limit],
        }
    return json.dumps(problem).encode()


@lru_cache(1_024)
def _policy(limit: LimitInForce) -> str:
    """Return the item of a limit: ``"spike";q=100;w=2``."""
    text = f'"{_label(limit)}";q={limit.capacity}'
    if limit.unit != REQUESTS or limit.slots:
        unit = limit.unit if limit.unit != REQUESTS else "concurrent-requests"
        text += f';qu="{unit}"'
    if limit.window is None:
        return text
    return f"{text};w={max(1, -(-int(limit.window * _NS) // _NS))}"


def _state(decision: Decision, name: str) -> str:
    """Return the item of the limit that decided: ``"spike";r=0;t=1``.

    ``t`` is never later than ``Retry-After``, as the draft wants.
    """
    text = f'"{name}";r={_left(decision)}'
    span = decision.reset_after_ns if decision.allowed else decision.retry_after_ns
    return text if span is None else f"{text};t={_seconds(span)}"


def _label(limit: LimitInForce) -> str:
    """Return a name that no other limit of the request has."""
    return f"{limit.name}@{limit.scope}" if limit.budget else limit.name


def _decided(limit: LimitInForce, decision: Decision) -> bool:
    return (limit.name, limit.scope) == (decision.limit, decision.scope)


def _legacy(decision: Decision) -> Headers:
    span = decision.reset_after_ns if decision.allowed else decision.retry_after_ns
    headers = [
        ("X-RateLimit-Limit", str(decision.capacity or 0)),
        ("X-RateLimit-Remaining", str(_left(decision))),
    ]
    return headers if span is None else [*headers, ("X-RateLimit-Reset", str(_seconds(span)))]


def _left(decision: Decision) -> int:
    """Return what is left; nothing for a request that can never pass."""
    return 0 if decision.reason == "never" else decision.remaining or 0


def _seconds(span: int) -> int:
    """Return nanoseconds as whole seconds, rounded up: a client never comes too early."""
    return -(-span // _NS)
