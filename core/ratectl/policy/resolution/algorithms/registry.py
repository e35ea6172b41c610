"""The registry of algorithms, by the names that policies use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.policy.resolution.algorithms.concurrency import ConcurrencyRules
from ratectl.policy.resolution.algorithms.token_bucket import TokenBucketRules
from ratectl.policy.resolution.algorithms.windows import QuotaRules, SlidingWindowRules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.policy.language.model import LimitFields, PolicyTree
    from ratectl.policy.resolution.algorithms.protocol import AlgorithmRules
    from ratectl.policy.resolution.effective_limit import Limit, Setting

__all__ = [
    "ALGORITHMS",
    "DEFAULT_ALGORITHM",
    "algorithm_name",
    "has_central",
    "holds_slots",
    "rules_of",
]

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
    return any(
        ALGORITHMS[fields.algorithm].holds_slots
        for fields in _all_fields(tree)
        if fields.algorithm is not None
    )


def has_central(tree: PolicyTree) -> bool:
    """Return True if a server may count any limit of a tree (``across: redis``)."""
    return any(fields.across == "redis" for fields in _all_fields(tree))


def _all_fields(tree: PolicyTree) -> Iterator[LimitFields]:
    """Yield what documents and exceptions declare of limits and budgets."""
    yield from tree.declared()
    for exception in tree.exceptions:
        yield from exception.limits.values()
        yield from exception.budgets.values()
