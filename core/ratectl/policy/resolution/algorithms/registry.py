"""The registry of algorithms, by the names that policies use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.policy.resolution.algorithms.concurrency import ConcurrencyRules
from ratectl.policy.resolution.algorithms.token_bucket import TokenBucketRules
from ratectl.policy.resolution.algorithms.windows import QuotaRules, SlidingWindowRules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.policy.language.model import LimitFields, PolicyTree
    from ratectl.policy.resolution.algorithms.protocol import AlgorithmRules
    from ratectl.policy.resolution.effective_limit import Limit, Setting

__all__ = ["ALGORITHMS", "DEFAULT_ALGORITHM", "algorithm_name", "holds_slots", "rules_of"]

DEFAULT_ALGORITHM: Final = TokenBucketRules.name

ALGORITHMS: Final[Mapping[str, AlgorithmRules]] = {
    rules.name: rules
    for rules in (TokenBucketRules(), SlidingWindowRules(), QuotaRules(), ConcurrencyRules())
}


def rules_of(limit: Limit) -> AlgorithmRules:
    """Return the rules of a limit's algorithm."""
    return ALGORITHMS[limit.algorithm]


def algorithm_name(settings: Mapping[str, Setting]) -> str:
    """Return the name of the algorithm that merged fields choose."""
    if "algorithm" not in settings:
        return DEFAULT_ALGORITHM
    name: str = settings["algorithm"].value
    return name


def holds_slots(tree: PolicyTree) -> bool:
    """Return True if any limit of a tree may hold slots until a request is over."""
    parts: list[Mapping[str, LimitFields]] = []
    for policy in tree.policies.values():
        parts += [policy.limits, policy.budgets, *(each.limits for each in policy.overrides)]
    for exception in tree.exceptions:
        parts += [exception.limits, exception.budgets]
    return any(
        ALGORITHMS[fields.algorithm].holds_slots
        for part in parts
        for fields in part.values()
        if fields.algorithm is not None
    )
