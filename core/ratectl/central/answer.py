"""Answers of the server, and the decision that they make with the local one."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

from ratectl.central.failure import ServerFailed
from ratectl.engine.algorithms.protocol import NEVER, UNKNOWN
from ratectl.engine.decision import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.central.question import Count
    from ratectl.engine.decision import Reason
    from ratectl.engine.limit_plan import LimitPlan

__all__ = ["Answer", "Look", "admission", "both", "read_answer", "refusal"]


class Look(NamedTuple):
    """Answer of the server about one limit. Times in microseconds, or ``NEVER`` or ``UNKNOWN``."""

    plan: LimitPlan
    wait: int
    left: int
    reset: int


class Answer(NamedTuple):
    """Answer of the server to one request."""

    admitted: bool
    now: int
    """The server's time."""
    looks: tuple[Look, ...]


def read_answer(counts: Sequence[Count], raw: Any) -> Answer | int:
    """Return an answer; only the server's time, if the call named no calendar window that holds it.

    :raises ServerFailed: it is no answer of the script.
    """
    usable = isinstance(raw, list) and len(raw) >= 2 and all(type(each) is int for each in raw)
    if usable and raw[0] == -1:
        return int(raw[1])
    if not usable or len(raw) != 2 + 3 * len(counts):
        raise ServerFailed("the server's answer is not one of the script")
    looks = [
        Look(count.plan, *raw[at : at + 3])
        for at, count in zip(range(2, len(raw), 3), counts, strict=True)
    ]
    return Answer(raw[0] == 1, raw[1], tuple(looks))


def refusal(answer: Answer, generation: int) -> Decision:
    """Return the decision of a refused request, by the limit that refuses it for longest."""
    look = _longest([look for look in answer.looks if look.wait and not look.plan.shadow])
    reason: Reason = "never" if look.wait == NEVER else "limited"
    return _decision(look, False, reason, None if look.wait < 0 else look.wait * 1000, generation)


def admission(local: Decision, answer: Answer) -> Decision:
    """Return the decision of a request that all limits admit, local ones and the server's.

    It names the limit with the least remaining, as a share of its capacity. It has no charges, as
    no copy has any.
    """
    would_refuse = [look for look in answer.looks if look.wait]
    if local.reason == "shadow":
        return copy(local)
    if would_refuse:
        return _decision(_longest(would_refuse), True, "shadow", 0, local.generation)
    counted = [look for look in answer.looks if not look.plan.shadow]
    tightest = min(counted, key=lambda look: _share(look.left, _size(look)), default=None)
    if tightest is None:
        return copy(local)
    if local.limit is not None and _share(local.remaining or 0, local.capacity or 1) <= _share(
        tightest.left, _size(tightest)
    ):
        return copy(local)
    return _decision(tightest, True, "ok", 0, local.generation)


def both(local: Decision, own: Decision) -> Decision:
    """Return the decision of a request that this process decides alone: of local limits, and its
    part of central ones. A refusal is one that the kill switch waives."""
    if not own.allowed:
        waived = copy(own)
        waived.allowed, waived.reason, waived.retry_after_ns = True, "shadow", 0
        return waived
    if local.reason == "shadow" or own.limit is None:
        return copy(local)
    if own.reason == "shadow" or local.limit is None:
        return copy(own)
    return copy(min(local, own, key=lambda one: _share(one.remaining or 0, one.capacity or 1)))


def _longest(looks: list[Look]) -> Look:
    def weight(look: Look) -> tuple[int, int]:
        return (2 if look.wait == NEVER else 1 if look.wait == UNKNOWN else 0), look.wait

    return max(looks, key=weight)


def _size(look: Look) -> int:
    return look.plan.algorithm.capacity or 1


def _share(left: int, size: int) -> float:
    return left / size


def _decision(
    look: Look, allowed: bool, reason: Reason, wait: int | None, generation: int
) -> Decision:
    plan = look.plan
    return Decision(
        allowed, reason, generation, plan.name, plan.scope, plan.algorithm.capacity, look.left,
        wait, look.reset * 1000 if look.reset >= 0 else None, plan.unit,
    )  # fmt: skip
