"""Merges of resolution: limits field by field, caps by tightness; values keep what they beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ratectl.policy.language.rates import Rate
from ratectl.policy.resolution.algorithms.registry import ALGORITHMS
from ratectl.policy.resolution.effective_limit import Setting, Via

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratectl.policy.language.model import Cap, Exemption, LimitFields, Override, Policy

__all__ = [
    "Fields",
    "Named",
    "is_tighter",
    "merge_caps",
    "merge_fields",
    "merge_further",
    "merge_limits",
]

Fields = Mapping[str, Setting]
"""Settings of one limit or cap, by field."""

Named = Mapping[str, Fields]
"""Settings of limits or caps, by the name of the limit."""


def merge_limits(above: Named, policy: Policy) -> dict[str, Fields]:
    """Return the inherited limits after ``unset`` and ``limits`` of a document are applied."""
    merged = dict(above)
    for name in policy.unset:
        merged.pop(name, None)
    for name, declared in policy.limits.items():
        merged[name] = merge_fields(merged.get(name), declared, policy.scope)
    return merged


def merge_further(
    limits: Named, further: Iterable[tuple[Override | Exemption, Via]]
) -> dict[str, Fields]:
    """Return limits after overrides or exceptions are applied, in their order."""
    merged = dict(limits)
    for document, via in further:
        for name, declared in document.limits.items():
            merged[name] = merge_fields(merged.get(name), declared, via.scope, via)
    return merged


def merge_fields(
    inherited: Fields | None, declared: LimitFields, scope: str, via: Via | None = None
) -> dict[str, Setting]:
    """Return one limit with declared fields over inherited ones.

    A declared ``algorithm`` drops the inherited fields that it lacks.
    """
    merged: dict[str, Setting] = dict(inherited) if inherited else {}
    if declared.algorithm is not None and inherited:
        rules = ALGORITHMS[declared.algorithm]
        merged = {name: each for name, each in merged.items() if rules.takes(name, each.value)}
    for name, value in declared.__dict__.items():
        if value is not None:
            merged[name] = Setting(value, scope, merged.get(name), via)
    return merged


def merge_caps(
    above: Named, caps: Mapping[str, Cap], scope: str, via: Via | None = None
) -> dict[str, Fields]:
    """Return the tightest caps, by limit and field, after those of a document or an override."""
    merged = dict(above)
    for name, cap in caps.items():
        merged[name] = _tightest(merged.get(name) or {}, cap, scope, via)
    return merged


def _tightest(known: Fields, cap: Cap, scope: str, via: Via | None) -> dict[str, Setting]:
    merged = dict(known)
    for field, value in cap.__dict__.items():
        setting = merged.get(field)
        if value is not None and (setting is None or is_tighter(value, setting.value)):
            merged[field] = Setting(value, scope, setting, via)
    return merged


def is_tighter(value: Any, other: Any) -> bool:
    """Return True if a cap's rate or burst is below another one."""
    return bool(other.exceeds(value) if isinstance(value, Rate) else other > value)
