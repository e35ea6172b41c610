"""Decisions as answers of the Rate Limit Service."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from ratectl.contrib.web.answers import headers_by
from ratectl.sidecar.messages import Code, Limit, Response, Status, Unit
from ratectl.sidecar.questions import Question
from ratectl.sidecar.wire import encode_header, encode_limit, encode_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.agent import Agent
    from ratectl.agent.in_force import LimitInForce
    from ratectl.engine.decision import Decision

    Asked = tuple[Question, Decision]

__all__ = ["NOT_ASKED", "Answers"]

NOT_ASKED: Final = Status(Code.OK)
"""Answer to a descriptor that charges nothing."""

_MOST_SOURCES: Final = 1_000
_NS: Final = 1_000_000_000
_UNITS: Final = {
    1: Unit.SECOND,
    60: Unit.MINUTE,
    3_600: Unit.HOUR,
    86_400: Unit.DAY,
    7 * 86_400: Unit.WEEK,
    31 * 86_400: Unit.MONTH,
}


class Answers:
    """Writes answers to the requests that one agent decides."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._sources: dict[tuple[int, LimitInForce], str] = {}
        """Places of limits in the policies, by generation: to look one up takes long. Those that
        are not read yet are missing: the first look has them read."""

    def response(self, asked: Sequence[Asked | None]) -> Response:
        """Return the answer to all descriptors of a request.

        :param asked: of each descriptor, what was asked and decided; None if it charges nothing.
        """
        answers = [None if each is None else _Answer.of(self._agent, *each) for each in asked]
        decided = [answer for answer in answers if answer is not None]
        is_refused = not all(answer.decision for answer in decided)
        statuses = tuple([each.status() if each else NOT_ASKED for each in answers])
        code = Code.OVER_LIMIT if is_refused else Code.OK
        if not decided:
            return Response(code, statuses)
        told = decided[0] if len(decided) == 1 else min(decided, key=_Answer.rank)
        metadata = None if told.decision else self._metadata(told)
        return Response(code, statuses, told.headers(), metadata)

    def told(
        self, decision: Decision, scope: str, attributes: Mapping[str, str]
    ) -> tuple[bytes, bytes, bytes, bytes] | None:
        """Return what answers say of the limit that decided: see ``ratectl.engine.api.Tell``."""
        answer = _Answer.of(self._agent, Question(scope, attributes, 1), decision)
        limit = answer.limit()
        is_refused = not decision
        if limit is None or (is_refused and (decision.generation, limit) not in self._sources):
            return None
        headers = dict(answer.headers())
        policy = headers.get("ratelimit-policy")
        state = headers.get("ratelimit")
        return (
            encode_limit(_described(limit)),
            b"" if policy is None else encode_header("ratelimit-policy", policy),
            b"" if state is None else state[1 : state.rindex('"')].encode(),
            encode_metadata(self._metadata(answer)) if is_refused else b"",
        )

    def _metadata(self, refusal: _Answer) -> dict[str, str | int]:
        """Return what Envoy's log can say of a refusal."""
        decision = refusal.decision
        found: dict[str, str | int] = {
            "reason": decision.reason,
            "generation": decision.generation,
        }
        if decision.limit is None or decision.scope is None:
            return found
        found |= {"limit": decision.limit, "scope": decision.scope}
        source = self.source(decision, refusal.limit())
        return {**found, "source": source} if source else found

    def source(self, decision: Decision, limit: LimitInForce | None) -> str:
        """Return the place that sets the limit; nothing if it is not known."""
        if limit is None:
            return ""
        known = decision.generation, limit
        source = self._sources.get(known)
        if source is None:
            if len(self._sources) >= _MOST_SOURCES:
                self._sources.clear()
            deciding = [each for each in decision.explain().limits if each.decides]
            place = next((each.origin for each in deciding), None)
            if place is None:
                return next((each.declared or "" for each in deciding), "")
            source = self._sources[known] = place
        return source


class _Answer(NamedTuple):
    """A decision, and the limits that decide such a request."""

    question: Question
    decision: Decision
    limits: Sequence[LimitInForce]

    @classmethod
    def of(cls, agent: Agent, question: Question, decision: Decision) -> Self:
        known = decision.limit is not None
        limits = agent.limits(question.scope, question.attributes) if known else None
        return cls(question, decision, limits or ())

    def rank(self) -> tuple[bool, float]:
        """Return what orders answers: refusals first, then the one with the least left."""
        decision = self.decision
        if decision.limit is None or not decision.capacity:
            return decision.allowed, 2.0  # nothing limits it
        return decision.allowed, (decision.remaining or 0) / decision.capacity

    def status(self) -> Status:
        """Return the answer to the descriptor."""
        decision, limit = self.decision, self.limit()
        code = Code.OK if decision else Code.OVER_LIMIT
        if limit is None:
            return Status(code)
        span = decision.reset_after_ns if decision else decision.retry_after_ns
        return Status(code, _described(limit), decision.remaining or 0, span)

    def limit(self) -> LimitInForce | None:
        """Return the limit that decided; None if it binds nobody, or is gone meanwhile."""
        wanted = self.decision.limit, self.decision.scope
        for limit in self.limits:
            if (limit.name, limit.scope) == wanted and not limit.shadow:
                return limit
        return None

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the headers for Envoy's client."""
        headers = headers_by(self.decision, self.limits)
        return tuple([(name.lower(), value) for name, value in headers])


@lru_cache(1_024)
def _described(limit: LimitInForce) -> Limit:
    """Return a limit as Envoy describes one."""
    name = f"{limit.name}@{limit.scope}" if limit.budget else limit.name
    if limit.window is None:
        return Limit(limit.capacity, Unit.UNKNOWN, name)
    seconds = max(1, -(-int(limit.window * _NS) // _NS))
    unit = _UNITS.get(seconds)
    if unit is not None:
        return Limit(limit.capacity, unit, name)
    return Limit(limit.capacity, Unit.SECOND, name, seconds)
