"""Earlier tree to compare with, so that a cap may be lowered at once.

A cap can be lowered before every scope below follows, because agents clip. Therefore a value above
a cap is an error only if it is new or changed since the earlier tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.policy.language.rates import Rate
from ratectl.policy.resolution.algorithms.registry import ALGORITHMS, algorithm_name
from ratectl.policy.resolution.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.policy.language.model import LimitFields, Override, Policy, PolicyTree

__all__ = ["Base"]


class Base:
    """Earlier tree, to find values that it declares already."""

    def __init__(self, tree: PolicyTree) -> None:
        self._policies = tree.policies
        self._resolver = Resolver(tree)

    def declares(
        self,
        policy: Policy,
        name: str,
        field: str,
        limit: LimitFields,
        algorithm: str,
        override: Override | None = None,
    ) -> bool:
        """Return True if the earlier document has the same value in this field of the limit.

        ``override``: look in the override with this name and match. Under another algorithm the
        same value means something else, and is not the same.
        """
        earlier = self._policies.get(policy.scope)
        if earlier is None:
            return False
        limits: Mapping[str, LimitFields] = earlier.limits
        matched = 0
        if override is not None:
            limits, matched = self._override(earlier, override)
        before = getattr(limits.get(name), field, None)
        if before is None or not _same(before, getattr(limit, field), algorithm):
            return False
        resolved = self._resolver.where(policy.scope, matched)
        merged = resolved.fields.get(name, {}) if resolved else {}
        return algorithm_name(merged) == algorithm

    def _override(
        self, policy: Policy, override: Override
    ) -> tuple[Mapping[str, LimitFields], int]:
        """Return the limits of the override with the same name and match, and its condition bit."""
        place = self._resolver.conditions.at(policy.scope)
        for earlier, via in place.overrides:
            if earlier.name == override.name and earlier.match == override.match:
                return earlier.limits, 1 << (via.bit or 0)
        return {}, 0


def _same(one: object, other: object, algorithm: str) -> bool:
    """Return True for equal values: ``60/min`` is ``1/s`` for a token bucket, not for a window."""
    if not isinstance(one, Rate) or not isinstance(other, Rate):
        return one == other
    rules = ALGORITHMS[algorithm]
    return rules.noticed_rate(one) == rules.noticed_rate(other)
