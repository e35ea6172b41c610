"""Each document of a tree beside what its scope inherits: what lint rules look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.policy.language.scopes import ancestry, parent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from ratectl.policy.language.model import Policy, PolicyTree
    from ratectl.policy.resolution.resolver import Resolved, Resolver

__all__ = ["Step", "steps_of"]


class Step(NamedTuple):
    """A document, what holds above it, and what it makes of that."""

    policy: Policy
    above: Resolved | None
    here: Resolved
    conditional: frozenset[str] = frozenset()
    """Limits that an override along the path speaks of: no one value of theirs holds for all."""


def steps_of(tree: PolicyTree, resolver: Resolver, broken: AbstractSet[str]) -> Iterator[Step]:
    """Every document that can be judged, parents first."""
    for scope in sorted(tree.policies):
        here = resolver.at(scope)
        if here is not None and broken.isdisjoint(ancestry(scope)):
            above = parent(scope)
            conditional = frozenset(resolver.places.at(scope).conditions.by_limit)
            yield Step(
                tree.policies[scope], resolver.at(above) if above else None, here, conditional
            )
