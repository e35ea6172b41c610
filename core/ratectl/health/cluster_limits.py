"""Limits that are declared to be one for the whole cluster, and whether they are shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.policy.resolution.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit

__all__ = ["ClusterLimit", "cluster_limits"]


class ClusterLimit(NamedTuple):
    """A limit or budget with ``across: cluster``, in force at a scope."""

    scope: str
    name: str
    budget: bool
    not_shared: str | None
    """Why each agent counts it separately; None if members share it. Agents report by themselves
    if they cannot join the others."""


def cluster_limits(tree: PolicyTree, now_ns: int) -> list[ClusterLimit]:
    """Return the limits and budgets with ``across: cluster``, by scope and name.

    Values that overrides set are left out.

    :param now_ns: time in nanoseconds since 1970, for exceptions.
    """
    return list(_found(tree, now_ns))


def _found(tree: PolicyTree, now_ns: int) -> Iterator[ClusterLimit]:
    resolver = Resolver(tree, now_ns)
    for scope in sorted(tree.policies):
        here = resolver.at(scope)
        if here is None:
            continue
        budgets = [(budget, True) for at, budget in here.budgets if at == scope]
        limits = [(limit, False) for limit in here.limits.values()]
        for limit, budget in sorted((*limits, *budgets), key=lambda pair: pair[0].name):
            if limit.across == "cluster":
                yield ClusterLimit(scope, limit.name, budget, _not_shared(limit))


def _not_shared(limit: Limit) -> str | None:
    if limit.mode == "off":
        return "it is off"
    if limit.unlimited:
        return "its rate is unlimited"
    return None
