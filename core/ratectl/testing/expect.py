"""Comparison of expected and actual results: differences by field of the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.policy.language.durations import Duration
from ratectl.policy.language.rates import Rate
from ratectl.policy.resolution.algorithms.registry import rules_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.language.model import LimitFields
    from ratectl.policy.language.testcase import Effective, Expectation
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.resolution.resolver import Resolved
    from ratectl.testing.results import Sent

__all__ = ["Difference", "budgets_of", "of_effective", "of_requests"]


class Difference(NamedTuple):
    """Field of an expectation with a different result; ``path`` is relative to the expectation."""

    path: str
    expected: str
    got: str


def of_requests(expect: Expectation, sent: Sent) -> Iterator[Difference]:
    """Yield the differences in the results of the requests of a step."""
    decision = sent.decisive
    results: dict[str, object] = {
        "allowed": sent.allowed,
        "first_refused": sent.first_refused or "none",
        "shadow": sent.shadow,
        "reason": decision.reason,
        "limit": decision.limit,
        "scope": decision.scope,
        "retry_after": _duration(decision.retry_after_ns),
        "unit": decision.unit,
        "remaining": decision.remaining,
        "reset_after": _duration(decision.reset_after_ns),
    }
    for field, got in results.items():
        expected = getattr(expect, field)
        if expected is not None and expected != got:
            yield Difference(field, _shown(expected), _shown(got))


def of_effective(effective: Effective, resolved: Resolved | None) -> Iterator[Difference]:
    """Yield the differences in the policy in force."""
    assert resolved is not None, "such a step is not valid"
    for field, got in (("declared_scope", resolved.scope), ("on_error", resolved.on_error.value)):
        expected = getattr(effective, field)
        if expected not in (None, got):
            yield Difference(field, expected, got)
    for name, fields in effective.limits.items():
        yield from _of_limit(f"limits.{name}", fields, resolved.limits.get(name))
    for name, fields in effective.budgets.items():
        for _, budget in budgets_of(resolved, name, fields.scope):
            yield from _of_limit(f"budgets.{name}", fields, budget)
    for number, name in enumerate(effective.absent):
        limit = resolved.limits.get(name)
        if limit is not None:
            yield Difference(f"absent.{number}", f"no limit {name}", _summary(limit))


def budgets_of(resolved: Resolved, name: str, scope: str | None) -> list[tuple[str, Limit]]:
    """Return the budgets of a name on the path, with their scopes; in a valid test exactly one."""
    return [
        (owner, budget)
        for owner, budget in resolved.budgets
        if budget.name == name and scope in (None, owner)
    ]


def _of_limit(path: str, fields: LimitFields, limit: Limit | None) -> Iterator[Difference]:
    if limit is None:
        yield Difference(path, "a limit in force", "no limit of this name")
        return
    for field in type(fields).model_fields:
        expected = getattr(fields, field)
        if expected is None or field == "scope":  # the scope has selected the budget
            continue
        got = getattr(limit, field)
        same = expected == got
        if isinstance(expected, Rate) and isinstance(got, Rate):
            rules = rules_of(limit)
            same = rules.noticed_rate(expected) == rules.noticed_rate(got)
        if not same:
            yield Difference(f"{path}.{field}", _shown(expected), _shown(got))


def _summary(limit: Limit) -> str:
    off = " (off)" if limit.mode == "off" else ""
    return f"{limit.name}: {limit.rate}{off}"


def _duration(nanoseconds: int | None) -> Duration | str:
    return "never" if nanoseconds is None else Duration(nanoseconds)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return "none" if value is None else str(value)
