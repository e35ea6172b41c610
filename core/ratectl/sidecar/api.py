"""The sidecar's JSON API: requests of HTTP to answers, by the limits of an agent."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from ratectl.agent.log import log
from ratectl.central.charge import give_back
from ratectl.contrib.web.answers import headers_by, status_of
from ratectl.engine.cost import checked_cost
from ratectl.errors import UsageError
from ratectl.sidecar.answers import Answers as Sources
from ratectl.sidecar.api_messages import (
    Answer,
    Check,
    CheckMany,
    InvalidBody,
    Release,
    Settle,
    read,
)
from ratectl.sidecar.openapi import document
from ratectl.sidecar.replies import Reply, Request, json_reply, problem
from ratectl.sidecar.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ratectl.agent import Agent
    from ratectl.agent.in_force import LimitInForce
    from ratectl.engine.decision import Decision
    from ratectl.sidecar.health import Health

__all__ = ["Api"]

_TOKEN_SECONDS: Final = 60.0
"""Seconds until the token of a request that holds slots expires."""
_TEXT: Final = "text/plain; charset=utf-8"
_WAITING: Final = frozenset(["/v1/check", "/v1/check-many"])


class _TooManyTokens(Exception):
    """A request that could not get a token."""


class Api:
    """Answers requests of HTTP."""

    def __init__(self, agent: Agent, health: Health) -> None:
        self._agent = agent
        self._health = health
        self._sources = Sources(agent)
        self._tokens = Tokens()
        self.routes: Mapping[str, Mapping[str, Callable[[bytes], Reply]]] = {
            "/v1/check": {"POST": self._check},
            "/v1/check-many": {"POST": self._check_many},
            "/v1/settle": {"POST": self._settle},
            "/v1/release": {"POST": self._release},
            "/v1/openapi.json": {"GET": self._document},
            "/healthz": {"GET": self._healthz},
            "/readyz": {"GET": self._readyz},
        }

    def may_wait(self, request: Request) -> bool:
        """Return True if the answer may wait for a server (``across: redis``)."""
        return self._agent.asks_server and request.path in _WAITING

    def answer(self, request: Request) -> Reply:
        """Answer a request. Never raises."""
        methods = self.routes.get(request.path)
        if methods is None:
            paths = ", ".join(self.routes)
            return problem(HTTPStatus.NOT_FOUND, f"there is no such path: there are {paths}")
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
            told = f"{request.path} takes {allowed}"
            return problem(HTTPStatus.METHOD_NOT_ALLOWED, told, (("Allow", allowed),))
        # Other kinds are those that a page of a foreign site can make a browser send.
        if "POST" in methods and not _is_json(request.type):
            told = "the body is JSON: send the header Content-Type: application/json"
            return problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, told)
        try:
            return handler(request.body)
        except (InvalidBody, UsageError) as error:
            return problem(HTTPStatus.BAD_REQUEST, str(error))
        except _TooManyTokens:
            told = "too many tokens are open: release them, or let them expire sooner"
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, told)
        except Exception:  # noqa: BLE001  the caller decides what a failure means
            log.exception("a request to the sidecar failed")
            told = "the limiter failed: see its log"
            return problem(HTTPStatus.INTERNAL_SERVER_ERROR, told)

    # Deciding -----------------------------------------------------------------------------------

    def _check(self, body: bytes) -> Reply:
        check = read(Check, body)
        decision, limits = self._decided(check)
        status = 200 if decision else status_of(decision)
        headers = tuple(headers_by(decision, limits))
        return json_reply(status, self._answer(check, decision, limits), headers)

    def _check_many(self, body: bytes) -> Reply:
        """Decide requests one by one, as ``Agent.check_many`` does."""
        charged: list[tuple[Check, Decision]] = []
        answers: list[Answer] = []
        try:
            for check in read(CheckMany, body).requests:
                decision, limits = self._decided(check)
                charged.append((check, decision))
                answers.append(self._answer(check, decision, limits))
        except _TooManyTokens:  # the caller gets none
            for check, decision in charged:
                give_back(decision, checked_cost(check.cost))
            raise
        return json_reply(200, {"answers": answers})

    def _decided(self, check: Check) -> tuple[Decision, Sequence[LimitInForce]]:
        """Return the decision, and the limits that decide such a request."""
        decision = self._agent.check_blocking(check.scope, check.attributes, check.cost)
        known = decision.limit is not None
        return decision, self._agent.limits(check.scope, check.attributes) or () if known else ()

    def _answer(self, check: Check, decision: Decision, limits: Sequence[LimitInForce]) -> Answer:
        answer: Answer = {
            "allowed": decision.allowed,
            "reason": decision.reason,
            "generation": decision.generation,
            "limit": decision.limit,
            "scope": decision.scope,
            "unit": decision.unit,
            "capacity": decision.capacity,
            "remaining": decision.remaining,
            "retry_after": decision.retry_after,
            "reset_after": decision.reset_after,
        }
        if decision.allowed:
            self._add_token(answer, check, decision, limits)
        else:
            self._add_source(answer, decision, limits)
        return answer

    def _add_token(
        self, answer: Answer, check: Check, decision: Decision, limits: Sequence[LimitInForce]
    ) -> None:
        holds = check.cost != 0 and any(limit.slots for limit in limits)
        if check.expires is None and not holds:
            return
        expires = _TOKEN_SECONDS if check.expires is None else check.expires
        token = self._tokens.add(decision, expires)
        if token is None:
            give_back(decision, checked_cost(check.cost))
            raise _TooManyTokens
        answer["token"], answer["expires"] = token, expires

    def _add_source(
        self, answer: Answer, decision: Decision, limits: Sequence[LimitInForce]
    ) -> None:
        wanted = decision.limit, decision.scope
        decisive = [each for each in limits if (each.name, each.scope) == wanted]
        source = self._sources.source(decision, decisive[0] if decisive else None)
        if source:
            answer["source"] = source

    # Afterwards ---------------------------------------------------------------------------------

    def _settle(self, body: bytes) -> Reply:
        settle = read(Settle, body)
        decision = self._tokens.find(settle.token)
        if decision is None:
            return _unknown()
        decision.settle(settle.cost)
        return Reply(HTTPStatus.NO_CONTENT)

    def _release(self, body: bytes) -> Reply:
        token = read(Release, body).token
        decision = self._tokens.find(token)
        if decision is None:
            return _unknown()
        decision.release()
        self._tokens.end(token)
        return Reply(HTTPStatus.NO_CONTENT)

    # Others -------------------------------------------------------------------------------------

    def _document(self, _: bytes) -> Reply:
        return Reply(HTTPStatus.OK, document())

    def _healthz(self, _: bytes) -> Reply:
        return Reply(HTTPStatus.OK, b"ok\n", _TEXT)

    def _readyz(self, _: bytes) -> Reply:
        agent = self._agent
        if self._health.is_serving:
            told = f"generation {agent.generation} is in force"
            return Reply(HTTPStatus.OK, f"{told}\n".encode(), _TEXT)
        ends = self._health.is_draining
        why = "the sidecar ends" if ends else agent.status.error or "no generation is in force"
        return Reply(HTTPStatus.SERVICE_UNAVAILABLE, f"{why}\n".encode(), _TEXT)


def _is_json(kind: str) -> bool:
    return kind.partition(";")[0].strip().lower() == "application/json"


def _unknown() -> Reply:
    told = "there is no such token: it has expired, or another sidecar gave it"
    return problem(HTTPStatus.NOT_FOUND, told)
