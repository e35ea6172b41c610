"""Lint: plain values of a deeper scope that beat an inherited override."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from ratectl.diagnostics import Diagnostic
from ratectl.policy import codes
from ratectl.policy.language.rates import Rate
from ratectl.policy.resolution.fields import FIELDS
from ratectl.policy.validation.overlaps import OverlapIndex

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.language.model import LimitFields, Policy, PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit, Via
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

    An override is not beaten if its requests get another value in the end: a cap bounds it, or the
    document repeats the override.
    """
    place = resolver.conditions.at(policy.scope)
    overlaps: OverlapIndex | None = None
    for name, declared in policy.limits.items():
        inherited = (
            position
            for position in place.conditions.by_limit.get(name, ())
            if place.inherited >> position & 1
        )
        for position in islice(inherited, _MOST):
            condition = place.conditions[position]
            said = condition.override.limits.get(name) if condition.override else None
            fields = _differing(declared, said) if said else []
            if not said or not fields:
                continue
            overlaps = overlaps or OverlapIndex(place.conditions)
            resolved = resolver.where(policy.scope, 1 << position | overlaps.always_with(position))
            limit = resolved.limits.get(name) if resolved else None
            field = next((each for each in fields if _in_force(limit, each, declared)), None)
            if field is not None:
                yield _finding(tree, policy, name, field, said, condition.via)
                break  # one is enough: it names the ways out


def _differing(declared: LimitFields, said: LimitFields) -> list[str]:
    """Return the fields to which a document and an override give different amounts."""
    pairs = [(field, getattr(said, field), getattr(declared, field)) for field in _AMOUNTS]
    return [name for name, value, other in pairs if None not in (value, other) and value != other]


def _in_force(limit: Limit | None, field: str, declared: LimitFields) -> bool:
    """Return True if the value of the document is the one in force."""
    return limit is not None and getattr(limit, field) == getattr(declared, field)


def _is_tighter(said: object, value: object) -> bool:
    """Return True if an override asks for less than the document."""
    if isinstance(said, Rate) and isinstance(value, Rate):
        return value.exceeds(said)
    return isinstance(said, int) and isinstance(value, int) and value > said


def _finding(
    tree: PolicyTree, policy: Policy, name: str, field: str, beaten: LimitFields, via: Via
) -> Diagnostic:
    said = getattr(beaten, field)
    value = getattr(policy.limits[name], field)
    span = tree.span(policy.scope, f"limits.{name}.{field}")
    repeat = "repeat the override here"
    ways = repeat
    if field in _CAPPED and _is_tighter(said, value):
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
