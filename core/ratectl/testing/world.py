"""World of a test: plans and policies in force at each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.compiler.activation import activate_tree
from ratectl.policy.resolution.conditions import override_name
from ratectl.policy.resolution.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.engine.api import PlanSet
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.resolver import Resolved

__all__ = ["World"]


class World:
    """Policies of a tree in force at any time, in nanoseconds since 1970; tests share one object.

    Only the start or end of an exception changes them: the current period is cached.
    """

    def __init__(self, tree: PolicyTree) -> None:
        self._tree = tree
        self._since = 0
        self._plans = activate_tree(tree, 1, now_ns=0)
        self._resolver = Resolver(tree, 0)

    def _at(self, now: int) -> None:
        until = self._plans.until_ns
        if now < self._since or (until is not None and now >= until):
            self._since = now
            self._plans = activate_tree(self._tree, 1, now_ns=now)
            self._resolver = Resolver(self._tree, now)

    def plans(self, now: int) -> PlanSet:
        """Return the plans in force at ``now``."""
        self._at(now)
        return self._plans

    def ends(self, now: int) -> int | None:
        """Return the next instant at which the plans change; None for never."""
        self._at(now)
        return self._plans.until_ns

    def effective(self, scope: str, attributes: Mapping[str, str], now: int) -> Resolved | None:
        """Return the policy in force for a request at ``now``; None if no policy covers it."""
        self._at(now)
        return self._resolver.select(scope, attributes)

    @property
    def overrides(self) -> frozenset[tuple[str, str]]:
        """Every override, by scope and name."""
        return frozenset(
            (scope, override.name)
            for scope, policy in self._tree.policies.items()
            for override in policy.overrides
        )

    def applied(self, scope: str, attributes: Mapping[str, str]) -> frozenset[tuple[str, str]]:
        """Return the overrides that apply to such a request."""
        conditions = self._resolver.conditions.at(scope).conditions
        held = conditions.holding(attributes)
        return frozenset(
            (condition.via.source, override_name(condition.via.ref))
            for number, condition in enumerate(conditions)
            if held >> number & 1 and not condition.via.exception
        )
