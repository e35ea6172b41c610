"""Every document of a tree with what holds at its scope: the input of lint rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.policy.language.scopes import ancestry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from ratectl.policy.language.model import Policy, PolicyTree
    from ratectl.policy.resolution.resolver import Resolved, Resolver

__all__ = ["Step", "steps_of"]


class Step(NamedTuple):
    """A document and what holds at its scope for requests that match no override."""

    policy: Policy
    here: Resolved
    conditional: frozenset[str] = frozenset()
    """Limits that an override on the path sets: no single value holds for every request."""


def steps_of(tree: PolicyTree, resolver: Resolver, broken: AbstractSet[str]) -> Iterator[Step]:
    """Yield every document that can be judged, parents first.

    ``broken``: declared scopes that could not be read; nothing at or below them can be judged.
    """
    for scope in sorted(tree.policies):
        here = resolver.at(scope)
        if here is not None and broken.isdisjoint(ancestry(scope)):
            conditional = frozenset(resolver.conditions.at(scope).conditions.by_limit)
            yield Step(tree.policies[scope], here, conditional)
