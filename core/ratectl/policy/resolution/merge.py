"""The merges of resolution: limits by field, caps by tightness; values remember what they beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ratectl.policy.resolution.algorithms.registry import ALGORITHMS
from ratectl.policy.resolution.effective_limit import Setting, Via

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratectl.policy.language.model import Cap, Exemption, LimitFields, Override, Policy

__all__ = [
    "Fields",
    "Named",
    "merge_caps",
    "merge_fields",
    "merge_further",
    "merge_limits",
]

Fields = Mapping[str, Setting]
"""What was said of one limit or cap, by field."""

Named = Mapping[str, Fields]
"""The same by the name of the limit."""


def merge_limits(above: Named, policy: Policy) -> dict[str, Fields]:
    """What a document's ``unset`` and ``limits`` make of what it inherits."""
    merged = dict(above)
    for name in policy.unset:
        merged.pop(name, None)
    for name, said in policy.limits.items():
        merged[name] = merge_fields(merged.get(name), said, policy.scope)
    return merged


def merge_further(
    above: Named, further: Iterable[tuple[Override | Exemption, Via]]
) -> dict[str, Fields]:
    """What a document's matching overrides make of its limits, or the exceptions in force."""
    merged = dict(above)
    for each, via in further:
        for name, said in each.limits.items():
            merged[name] = merge_fields(merged.get(name), said, via.scope, via)
    return merged


def merge_fields(
    inherited: Fields | None, said: LimitFields, scope: str, via: Via | None = None
) -> dict[str, Setting]:
    """One limit: what is said now beats what was said before, field by field."""
    merged: dict[str, Setting] = dict(inherited) if inherited else {}
    if said.algorithm is not None and inherited:
        has = ALGORITHMS[said.algorithm].fields
        merged = {name: setting for name, setting in merged.items() if name in has}
    for name, value in said.__dict__.items():
        if value is not None:
            merged[name] = Setting(value, scope, merged.get(name), via)
    return merged


def merge_caps(above: Named, policy: Policy) -> dict[str, Fields]:
    """The tightest of the caps on the path."""
    merged = dict(above)
    for name, cap in policy.caps.items():
        merged[name] = _tightest(merged.get(name) or {}, cap, policy.scope)
    return merged


def _tightest(known: Fields, cap: Cap, scope: str) -> dict[str, Setting]:
    merged = dict(known)
    if cap.rate is not None:
        rate = merged.get("rate")
        if rate is None or rate.value.exceeds(cap.rate):
            merged["rate"] = Setting(cap.rate, scope, rate)
    if cap.burst is not None:
        burst = merged.get("burst")
        if burst is None or burst.value > cap.burst:
            merged["burst"] = Setting(cap.burst, scope, burst)
    return merged
