"""Decisions as answers of the Rate Limit Service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.contrib.web.answers import headers_of
from ratectl.sidecar.messages import Code, Limit, Response, Status, Unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.agent import Agent
    from ratectl.agent.in_force import LimitInForce
    from ratectl.engine.decision import Decision
    from ratectl.sidecar.questions import Question

__all__ = ["NOT_ASKED", "response_of"]

NOT_ASKED: Final = Status(Code.OK)
"""Answer to a descriptor that charges nothing."""

_NS: Final = 1_000_000_000
_UNITS: Final = {
    1: Unit.SECOND,
    60: Unit.MINUTE,
    3_600: Unit.HOUR,
    86_400: Unit.DAY,
    7 * 86_400: Unit.WEEK,
    31 * 86_400: Unit.MONTH,
}


def response_of(agent: Agent, asked: Sequence[tuple[Question, Decision] | None]) -> Response:
    """Return the answer to all descriptors of a request.

    If one of them was refused, what others were charged has been given back.

    :param asked: of each descriptor, what was asked and decided; None if it charges nothing.
    """
    decided = [each for each in asked if each is not None]
    is_refused = not all(decision for _, decision in decided)
    statuses = [
        NOT_ASKED if each is None else _status(agent, *each, given_back=is_refused)
        for each in asked
    ]
    code = Code.OVER_LIMIT if is_refused else Code.OK
    told = _told(decided)
    if told is None:
        return Response(code, tuple(statuses))
    question, decision = told
    headers = headers_of(decision, agent, question.scope, question.attributes)
    lower = tuple([(name.lower(), value) for name, value in headers])
    return Response(code, tuple(statuses), lower, None if decision else _metadata(decision))


def _told(decided: Sequence[tuple[Question, Decision]]) -> tuple[Question, Decision] | None:
    """Return the decision that clients are told of: a refusal, or the one with the least left."""
    return min(decided, key=lambda each: (each[1].allowed, _share_left(each[1])), default=None)


def _share_left(decision: Decision) -> float:
    if decision.limit is None or not decision.capacity:
        return 2.0  # nothing limits it
    return (decision.remaining or 0) / decision.capacity


def _status(agent: Agent, question: Question, decision: Decision, *, given_back: bool) -> Status:
    code = Code.OK if decision else Code.OVER_LIMIT
    if decision.limit is None:
        return Status(code)
    left = decision.remaining or 0
    if decision and given_back:
        left = min(left + question.cost_in(decision.unit), decision.capacity or 0)
    span = decision.reset_after_ns if decision else decision.retry_after_ns
    return Status(code, _limit(agent, question.scope, question.attributes, decision), left, span)


def _limit(
    agent: Agent, scope: str, attributes: Mapping[str, str], decision: Decision
) -> Limit | None:
    """Return the limit that decided, as Envoy describes one; None if it is gone meanwhile."""
    for limit in agent.limits(scope, attributes) or ():
        if (limit.name, limit.scope) == (decision.limit, decision.scope):
            return _described(limit)
    return None


def _described(limit: LimitInForce) -> Limit:
    name = f"{limit.name}@{limit.scope}" if limit.budget else limit.name
    if limit.window is None:
        return Limit(limit.capacity, Unit.UNKNOWN, name)
    seconds = max(1, -(-int(limit.window * _NS) // _NS))
    unit = _UNITS.get(seconds)
    if unit is not None:
        return Limit(limit.capacity, unit, name)
    return Limit(limit.capacity, Unit.SECOND, name, seconds)


def _metadata(decision: Decision) -> dict[str, str | int]:
    """Return what Envoy's log can say of a refusal."""
    found: dict[str, str | int] = {"reason": decision.reason, "generation": decision.generation}
    if decision.limit is None or decision.scope is None:
        return found
    found |= {"limit": decision.limit, "scope": decision.scope}
    for limit in decision.explain().limits:
        place = limit.origin or limit.declared
        if limit.decides and place:
            found["source"] = place
    return found
