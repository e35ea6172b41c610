"""Limits that documents declare, each with the limit in force that its fields make, for checks of
how limits are shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.policy.language.scopes import ancestry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from ratectl.policy.language.model import LimitFields, Policy, PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.resolution.resolver import Resolved, Resolver

__all__ = ["DeclaredLimit", "shared_limits"]


class DeclaredLimit(NamedTuple):
    """Fields of a limit or budget in one document, and the limit that is in force with them."""

    scope: str
    path: str
    """Place of the fields in the document of ``scope``, such as ``limits.fleet``."""
    name: str
    """``fleet``, ``budget fleet``, or ``fleet of override 'gold'``."""
    fields: LimitFields
    limit: Limit | None
    """None: the fields make no usable limit."""


def shared_limits(
    tree: PolicyTree, resolver: Resolver, broken: AbstractSet[str] = frozenset()
) -> list[DeclaredLimit]:
    """Return what documents declare, if one of them says how limits are shared; otherwise nothing.

    That is the usual case, and much faster than resolving. Limits of overrides are as if only that
    one held. ``broken``: declared scopes that could not be read; nothing at or below them is there.
    """
    if not any(fields.across or fields.consistency for fields in tree.declared()):
        return []
    readable = [scope for scope in sorted(tree.policies) if broken.isdisjoint(ancestry(scope))]
    return [each for scope in readable for each in _of_document(resolver, tree.policies[scope])]


def _of_document(resolver: Resolver, policy: Policy) -> Iterator[DeclaredLimit]:
    scope, here = policy.scope, resolver.at(policy.scope)
    if here is None:
        return
    for name, fields in policy.limits.items():
        yield DeclaredLimit(scope, f"limits.{name}", name, fields, here.limits.get(name))
    for name, fields in policy.budgets.items():
        budget = _budget(here, scope, name)
        yield DeclaredLimit(scope, f"budgets.{name}", f"budget {name}", fields, budget)
    first = resolver.conditions.at(scope).inherited.bit_length()
    for number, override in enumerate(policy.overrides):
        resolved = resolver.where(scope, 1 << first + number)
        for name, fields in override.limits.items():
            limit = resolved.limits.get(name) if resolved else None
            path = f"overrides.{number}.limits.{name}"
            shown = f"{name} of override '{override.name}'"
            yield DeclaredLimit(scope, path, shown, fields, limit)


def _budget(here: Resolved, scope: str, name: str) -> Limit | None:
    return next((each for at, each in here.budgets if (at, each.name) == (scope, name)), None)
