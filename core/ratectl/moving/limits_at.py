"""Limits at scopes, if envoyproxy/ratelimit can say them: one fixed window without conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.moving.envoy_files import finding
from ratectl.moving.envoy_limits import UNITS, WEEK
from ratectl.policy.language.model import exception_key
from ratectl.policy.language.resets import Resets
from ratectl.policy.language.scopes import ancestry
from ratectl.policy.resolution.effective_limit import BUILT_IN, DEFAULT_UNIT
from ratectl.policy.resolution.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.diagnostics import Diagnostic, Span
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.resolution.resolver import Resolved

__all__ = ["LimitsAt", "Sayable", "Unsayable"]

_WORDS: Final = {unit: word for word, unit in UNITS.items()}
_BEGINS: Final = {
    "day": Resets.parse("00:00 UTC"),
    "week": Resets.parse(WEEK),
    "month": Resets.parse("1 00:00 UTC"),
}
"""Times at which the windows of envoyproxy/ratelimit begin."""


class Sayable(NamedTuple):
    """A limit in the words of envoyproxy/ratelimit."""

    written: dict[str, Any]
    place: Span
    per: tuple[str, ...] | None = None
    """Attributes; None for no limit, which counts nothing."""
    shadow: bool = False


class Unsayable(Exception):
    """Raised for limits that envoyproxy/ratelimit cannot say."""

    def __init__(self, found: Diagnostic) -> None:
        self.finding = found
        super().__init__(str(found))


class LimitsAt:
    """Limits of a tree by scope."""

    def __init__(self, tree: PolicyTree) -> None:
        self._tree = tree
        self._resolver = Resolver(tree)
        self._used: dict[str, Span] = {}
        """Scopes that were asked for, by the declared scope that has their buckets."""
        self.has_months = False

    def at(self, scope: str, place: Span) -> Sayable:
        """Return the limit in force at a scope that a mapping names at ``place``.

        :raises Unsayable: there are several, or it cannot be said.
        """
        for above in ancestry(scope):
            self._check_conditions(above)
        resolved = self._resolver.at(scope)
        if resolved is None:
            return Sayable({"unlimited": True}, place)
        for owner, budget in resolved.budgets:
            message = f"the budget {budget.name} counts several scopes together"
            span = self._tree.span(owner, f"budgets.{budget.name}")
            raise Unsayable(finding(span, message, "write a limit instead"))
        limits = [limit for limit in resolved.limits.values() if limit.mode != "off"]
        limits = [limit for limit in limits if not limit.unlimited]
        if not limits:
            return Sayable({"unlimited": True}, place)
        if len(limits) > 1:
            names = " and ".join(limit.name for limit in limits[:2])
            message = f"two limits, {names}, hold for {scope}; a descriptor has one"
            hint = "unset one of them, or list its descriptor with another scope"
            raise Unsayable(finding(self._span(limits[1]), message, hint))
        self._check_own(resolved, place)
        return self._said(limits[0])

    def _check_conditions(self, scope: str) -> None:
        policy = self._tree.policies.get(scope)
        if policy is not None and policy.overrides:
            message = "envoyproxy/ratelimit has no overrides"
            hint = "list a descriptor with the value that the override matches"
            raise Unsayable(finding(self._tree.span(scope, "overrides"), message, hint))
        for position, exception in enumerate(self._tree.exceptions):
            if exception.scope == scope:
                span = self._tree.span(exception_key(position))
                message = "envoyproxy/ratelimit has no exceptions"
                raise Unsayable(finding(span, message, "delete it, if it is over"))

    def _check_own(self, resolved: Resolved, place: Span) -> None:
        """Check that no other descriptor charges the same buckets."""
        first = self._used.setdefault(resolved.scope, place)
        if first != place:
            message = f"another descriptor is counted by the limit of {resolved.scope}, too"
            hint = f"give each a scope with a policy of its own; the first one is at {first}"
            raise Unsayable(finding(place, message, hint))

    def _said(self, limit: Limit) -> Sayable:
        for name, message, hint in _misfits(limit):
            raise Unsayable(finding(self._span(limit, name), message, hint))
        rate = limit.rate
        assert rate is not None
        self.has_months |= rate.unit == "month"
        written = {"unit": _WORDS[rate.unit], "requests_per_unit": rate.count}
        return Sayable(written, self._span(limit, "per"), limit.per, limit.mode == "shadow")

    def _span(self, limit: Limit, name: str = "rate") -> Span:
        """Return the place of a field of a limit; that of its rate, if it has a default."""
        for field in (name, "rate", "max"):
            setting = limit.settings.get(field)
            if setting is not None and setting.scope != BUILT_IN:
                return self._tree.span(setting.scope, f"limits.{limit.name}.{field}")
        return self._tree.span(next(iter(limit.settings.values())).scope)


def _misfits(limit: Limit) -> Iterator[tuple[str, str, str]]:
    """Yield the fields that cannot be said, with a message and a hint."""
    rate = limit.rate
    if limit.algorithm != "quota":
        message = f"envoyproxy/ratelimit has fixed windows only, and this is a {limit.algorithm}"
        yield "algorithm", message, "write algorithm: quota"
    elif limit.unit != DEFAULT_UNIT:
        message = f"envoyproxy/ratelimit counts requests, and this counts {limit.unit}"
        yield "unit", message, "delete unit"
    elif rate is not None and rate.unit in _BEGINS and limit.resets != _BEGINS[rate.unit]:
        begins = _BEGINS[rate.unit]
        is_default = rate.unit == "month" and limit.resets == Resets(0, 0)
        if not is_default:
            message = f"a {rate.unit} of envoyproxy/ratelimit begins at {begins}"
            yield "resets", message, f'write resets: "{begins}"'
