"""Lint: plain values of a deeper scope that beat an inherited override."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from ratectl.diagnostics import Diagnostic
from ratectl.policy import codes
from ratectl.policy.language.matchers import covers_all
from ratectl.policy.resolution.fields import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.language.model import LimitFields, Override, Policy, PolicyTree
    from ratectl.policy.resolution.conditions import PathConditions
    from ratectl.policy.resolution.effective_limit import Via
    from ratectl.policy.resolution.resolver import Resolver

__all__ = ["beaten_overrides"]

_AMOUNTS: Final = tuple(
    field.name for field in FIELDS if field.decides and not field.selects_bucket
)
"""Fields that say how much is admitted."""

_CAPPED: Final = {"rate": "rate", "burst": "burst", "max": "burst"}
"""Fields that a cap bounds, and the field of the cap."""

_MOST: Final = 50
"""Most inherited overrides of one limit that are compared, for each scope."""


def beaten_overrides(tree: PolicyTree, resolver: Resolver, policy: Policy) -> Iterator[Diagnostic]:
    """Yield a finding for each limit whose plain value beats an inherited override.

    An override whose caps bound the value, or that the document repeats, is not beaten.
    """
    place = resolver.conditions.at(policy.scope)
    for name, declared in policy.limits.items():
        inherited = (
            place.conditions[position].via
            for position in place.conditions.by_limit.get(name, ())
            if place.inherited >> position & 1
        )
        for via in islice(inherited, _MOST):
            override = _override(tree, via)
            field = _beaten(name, declared, override, place)
            if field is not None:
                yield _finding(tree, policy, name, field, via)
                break  # one is enough: it names the ways out


def _override(tree: PolicyTree, via: Via) -> Override:
    _, number, _ = via.path.split(".")
    return tree.policies[via.source].overrides[int(number)]


def _beaten(
    name: str, declared: LimitFields, override: Override, place: PathConditions
) -> str | None:
    """Return the field of an override that a plain value beats; None if there is none."""
    said, cap = override.limits.get(name), override.caps.get(name)
    if said is None:
        return None
    for field in _AMOUNTS:
        value, other = getattr(said, field), getattr(declared, field)
        bound = cap is not None and getattr(cap, _CAPPED.get(field, ""), None) is not None
        if value is None or other is None or value == other or bound:
            continue
        if not any(_repeats(own, override, name, field) for own, _ in place.overrides):
            return field
    return None


def _repeats(own: Override, override: Override, name: str, field: str) -> bool:
    """Return True if an override of the document sets the field whenever the other one matches."""
    said = own.limits.get(name)
    sets = said is not None and getattr(said, field) is not None
    return sets and covers_all(own.match, override.match)


def _finding(tree: PolicyTree, policy: Policy, name: str, field: str, via: Via) -> Diagnostic:
    said = getattr(_override(tree, via).limits[name], field)
    value = getattr(policy.limits[name], field)
    span = tree.span(policy.scope, f"limits.{name}.{field}")
    repeat = "repeat the override here"
    ways = repeat
    if field in _CAPPED:
        bound = f"caps: {{{name}: {{{_CAPPED[field]}: {said}}}}}"
        ways = f"write {bound} in that override, so that it holds below, or {repeat}"
    return Diagnostic(
        codes.OVERRIDE_BEATEN,
        f"{field} {value} beats the override '{via.ref}', which sets {said}: requests that match "
        f"it get {value} here",
        span,
        "warning",
        ways,
        (f"the override is at {tree.span(via.source, f'{via.path}limits.{name}.{field}')}",),
    )
