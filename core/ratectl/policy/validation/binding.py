"""Findings about caps that do not bind their limit, at the place of the cap."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from ratectl.diagnostics import Diagnostic
from ratectl.policy import codes
from ratectl.policy.resolution.algorithms.registry import rules_of
from ratectl.policy.validation.caps import cap_note, incomparable, place_of, unbounded
from ratectl.policy.validation.overlaps import OverlapIndex

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.language.model import Cap, LimitFields, Policy, PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.resolution.merge import Fields
    from ratectl.policy.resolution.resolver import Resolved, Resolver
    from ratectl.policy.validation.caps import CapFinding

__all__ = ["check_caps"]


def check_caps(tree: PolicyTree, resolver: Resolver, policy: Policy) -> Iterator[Diagnostic]:
    """Yield the findings about the caps of one document and of its overrides."""
    if policy.caps or policy.overrides:
        yield from _Checker(tree, resolver, policy).findings()


class _Checker:
    def __init__(self, tree: PolicyTree, resolver: Resolver, policy: Policy) -> None:
        self.tree = tree
        self.resolver = resolver
        self.policy = policy
        self.place = resolver.conditions.at(policy.scope)
        self.first = self.place.inherited.bit_length()

    @cached_property
    def overlaps(self) -> OverlapIndex:
        return OverlapIndex(self.place.conditions)

    def findings(self) -> Iterator[Diagnostic]:
        for name, cap in self.policy.caps.items():
            yield from self._findings(f"caps.{name}", name, cap)
        for number, override in enumerate(self.policy.overrides):
            for name, cap in override.caps.items():
                path = f"overrides.{number}.caps.{name}"
                yield from self._findings(path, name, cap, self.first + number, override.name)

    def _findings(
        self, path: str, name: str, cap: Cap, own: int | None = None, override: str = ""
    ) -> Iterator[Diagnostic]:
        """Yield the findings about one cap; ``own``: the condition of the override that has it."""
        if cap.rate is None and cap.burst is None:
            message = f"the cap on '{name}' caps nothing"
            if override:
                message = f"override '{override}': {message}"
            hint = "give it a rate, a burst, or both"
            span = self.tree.span(self.policy.scope, path)
            yield Diagnostic(codes.INCOMPLETE, message, span, hint=hint)
            return
        reported: set[str] = set()
        for resolved in self._situations(name, cap, own):
            for finding in self._misses(resolved, path, name, cap, conditional=own is not None):
                if finding.code not in reported:
                    reported.add(finding.code)
                    yield finding

    def _situations(self, name: str, cap: Cap, own: int | None) -> Iterator[Resolved]:
        """Yield what is in force for requests that the cap is for: alone, and with each override.

        Overrides after the cap are left out: they are checked against it, at their own place.
        """
        always = 0 if own is None else 1 << own | self.overlaps.always_with(own)
        alone = self.resolver.where(self.policy.scope, always)
        if alone is None:
            return
        yield alone
        limit = alone.limits.get(name)
        near = None if own is None else self.overlaps.maybe_with(own)
        for other in self.place.conditions.by_limit.get(name, ()):
            if other >= (self.first if own is None else own):
                return
            override = self.place.conditions[other].override
            declared = override.limits.get(name) if override else None
            if declared is None or not _may_miss(declared, limit, cap):
                continue
            if near is None or other in near:
                both = always | 1 << other | self.overlaps.always_with(other)
                resolved = self.resolver.where(self.policy.scope, both)
                if resolved is not None:
                    yield resolved

    def _misses(
        self, resolved: Resolved, path: str, name: str, cap: Cap, *, conditional: bool
    ) -> Iterator[Diagnostic]:
        """Yield findings about a limit in force that the cap does not bind.

        What the document declares beside a cap for all requests is checked at its own place.
        """
        limit, scope = resolved.limits.get(name), self.policy.scope
        if limit is None:
            return
        rate, mode = limit.settings.get("rate"), limit.settings.get("mode")
        if rate is None or conditional or rate.scope != scope:
            for finding in self._unbound(limit, cap, resolved.caps[name]):
                found = finding.at(self.tree.span(scope, f"{path}.rate"))
                note = self._set_at(limit, "algorithm" if rate is None else "rate")
                yield replace(found, notes=(*found.notes, note))
        if mode is not None and mode.value == "off" and mode.scope != scope:
            where = f" where override '{mode.via.ref}' matches" if mode.via else ""
            yield Diagnostic(
                codes.CAP_UNUSED,
                f"the cap on '{name}' caps nothing{where}: the limit has mode: off from "
                f"{mode.scope}",
                self.tree.span(scope, path),
                "warning",
                "write mode: enforce here, or delete the cap",
                (self._set_at(limit, "mode"),),
            )

    def _unbound(self, limit: Limit, cap: Cap, caps: Fields) -> Iterator[CapFinding]:
        """Yield findings about a limit that a cap cannot bound, or be compared with."""
        yield from unbounded(self.tree, limit.name, limit, caps)
        rate = limit.settings.get("rate")
        if rate is not None and cap.rate is not None and not rate.value.unlimited:
            note = cap_note(self.tree, limit.name, caps)
            yield from incomparable(rate.value, limit, cap.rate, note)

    def _set_at(self, limit: Limit, field: str) -> str:
        setting = limit.settings[field]
        return f"{field} set at {place_of(self.tree, 'limits', limit.name, field, setting)}"


def _may_miss(declared: LimitFields, limit: Limit | None, cap: Cap) -> bool:
    """Return True if an override may make a limit that the cap does not bind."""
    if limit is None or declared.algorithm is not None or declared.mode == "off":
        return True
    if declared.rate is None:
        return False
    if cap.rate is None:
        return declared.rate.unlimited
    return not rules_of(limit).comparable(declared.rate, cap.rate)
