"""What stood in an earlier state of the policies, so that a cap may be lowered at once.

Whoever lowers a cap need not wait for every scope below to follow: agents clip. A value that the
earlier state says already is therefore no error, only one that is new or changed.
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
    """An earlier tree, to ask what it said."""

    def __init__(self, tree: PolicyTree) -> None:
        self._policies = tree.policies
        self._resolver = Resolver(tree)

    def said(
        self,
        policy: Policy,
        name: str,
        field: str,
        said: LimitFields,
        algorithm: str,
        override: Override | None = None,
    ) -> bool:
        """Whether the document of this scope, or its override of this name, said the same of its
        limit, and meant the same.

        Under another algorithm the same words ask for something else.
        """
        was = self._policies.get(policy.scope)
        if was is None:
            return False
        limits: Mapping[str, LimitFields] = was.limits
        matched = 0
        if override is not None:
            limits, matched = self._override(was, override)
        before = getattr(limits.get(name), field, None)
        if before is None or not _same(before, getattr(said, field), algorithm):
            return False
        resolved = self._resolver.where(policy.scope, matched)
        merged = resolved.fields.get(name, {}) if resolved else {}
        return algorithm_name(merged) == algorithm

    def _override(
        self, policy: Policy, override: Override
    ) -> tuple[Mapping[str, LimitFields], int]:
        """What the override of the same name and match said, and its bit."""
        place = self._resolver.places.at(policy.scope)
        for each, via in place.overrides:
            if each.name == override.name and each.match == override.match:
                return each.limits, 1 << (via.bit or 0)
        return {}, 0


def _same(one: object, other: object, algorithm: str) -> bool:
    """``60/min`` and ``1/s`` are one pace for a bucket, and two promises for a window."""
    if not isinstance(one, Rate) or not isinstance(other, Rate):
        return one == other
    rules = ALGORITHMS[algorithm]
    return rules.noticed_rate(one) == rules.noticed_rate(other)
