"""Semantic rules of a whole tree: values within caps, complete limits, names that exist.

Every scope is checked, and every finding is reported. An agent does not run these rules: it clips
values and never rejects a generation for a cap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.diagnostics import Diagnostic
from ratectl.policy import codes
from ratectl.policy.language.near_names import NearNames
from ratectl.policy.language.scopes import ancestry, parent
from ratectl.policy.resolution.resolver import Resolver
from ratectl.policy.validation.baseline import Base
from ratectl.policy.validation.binding import check_caps
from ratectl.policy.validation.caps import (
    capped_at,
    evasions,
    excesses,
    is_own,
    misfits,
    set_before,
    unbounded,
)
from ratectl.policy.validation.cluster_bursts import check_bursts
from ratectl.policy.validation.declared_limits import shared_limits
from ratectl.policy.validation.exceptions import check_exceptions
from ratectl.policy.validation.lint import lint_tree
from ratectl.policy.validation.names import check_names
from ratectl.policy.validation.overrides import check_overrides
from ratectl.policy.validation.sharing import check_sharing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from ratectl.diagnostics import Severity
    from ratectl.policy.language.model import LimitFields, Policy, PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit, Problem
    from ratectl.policy.resolution.resolver import Resolved
    from ratectl.policy.validation.caps import CapFinding

__all__ = ["check_tree"]


def check_tree(
    tree: PolicyTree,
    broken: AbstractSet[str] = frozenset(),
    now_ns: int | None = None,
    base: PolicyTree | None = None,
) -> list[Diagnostic]:
    """Return every semantic finding, in order of place.

    ``broken``: declared scopes that could not be read; scopes below them are not checked, because
    it is unknown what they inherit. ``now_ns``: time of the wall clock, to report exceptions that
    have ended; None reports none. ``base``: an earlier tree; a value above a cap that it has
    already is a warning.
    """
    resolver = Resolver(tree)
    before = Base(base) if base is not None else None
    findings: list[Diagnostic] = []
    for scope, policy in tree.policies.items():
        if not broken.isdisjoint(ancestry(scope)):
            continue
        here = resolver.at(scope)
        above_scope = parent(scope)
        above = resolver.at(above_scope) if above_scope else None
        if here is not None:
            findings += _Checker(tree, resolver, policy, above, here, before).findings()
            findings += check_overrides(tree, resolver, policy, before)
            findings += check_caps(tree, resolver, policy)
    shared = shared_limits(tree, resolver, broken)
    findings += check_sharing(tree, shared)
    findings += check_bursts(tree, shared)
    findings += check_exceptions(tree, resolver, broken, now_ns)
    findings += lint_tree(tree, resolver, broken)
    findings += check_names(tree, resolver, broken)
    return sorted(findings, key=lambda finding: finding.sort_key)


class _Checker:
    """Checker of one document, given the policy in force above it and at it."""

    def __init__(
        self,
        tree: PolicyTree,
        resolver: Resolver,
        policy: Policy,
        above: Resolved | None,
        here: Resolved,
        base: Base | None,
    ) -> None:
        self.tree = tree
        self.resolver = resolver
        self.policy = policy
        self.above = above
        self.here = here
        self.base = base

    def findings(self) -> Iterator[Diagnostic]:
        yield from self._unset()
        for name, declared in self.policy.limits.items():
            yield from self._usable("limits", name)
            yield from self._below_caps(name, declared)
        for name in self.policy.budgets:
            yield from self._usable("budgets", name)

    def _finding(
        self,
        code: str,
        path: str,
        message: str,
        hint: str,
        *notes: str,
        severity: Severity = "error",
    ) -> Diagnostic:
        span = self.tree.span(self.policy.scope, path)
        return Diagnostic(code, message, span, severity, hint, notes)

    def _unset(self) -> Iterator[Diagnostic]:
        for index, name in enumerate(self.policy.unset):
            path = f"unset.{index}"
            note = self._capped(name)
            if note is not None:
                yield self._finding(
                    codes.CAP_EVADED,
                    path,
                    f"limit '{name}' is capped, so it cannot be unset",
                    "raise it up to the cap instead, or ask the cap's owner",
                    note,
                )
            elif (self.above is None or name not in self.above.fields) and not self._set_above(
                name
            ):
                meant = NearNames().nearest(name, self.above.fields) if self.above else None
                yield self._finding(
                    codes.UNSET_NOTHING,
                    path,
                    f"unset names the limit '{name}', and no scope above has such a limit",
                    f"did you mean {meant}?" if meant else f"delete {name} from unset",
                    severity="warning",
                )

    def _set_above(self, name: str) -> bool:
        """Return True if an override of a scope above sets a limit."""
        place = self.resolver.conditions.at(self.policy.scope)
        return bool(set_before(place, name, place.inherited.bit_length()))

    def _capped(self, name: str) -> str | None:
        return capped_at(self.tree, self.resolver, self.policy.scope, name)

    def _problem(self, part: str, name: str) -> Problem | None:
        problems = self.here.problems if part == "limits" else self.here.broken_budgets
        return problems.get(name)

    def _usable(self, part: str, name: str) -> Iterator[Diagnostic]:
        problem = self._problem(part, name)
        if problem:
            path = f"{part}.{name}.{problem.field}" if problem.field else f"{part}.{name}"
            yield self._finding(problem.code, path, problem.message, problem.hint)

    def _below_caps(self, name: str, declared: LimitFields) -> Iterator[Diagnostic]:
        note = self._capped(name)
        if note is None:
            return
        place = self.resolver.conditions.at(self.policy.scope)
        cap = self.here.caps.get(name) or {}
        inherited = self.above.fields.get(name) if self.above else None
        limit = self.here.limits.get(name)
        for finding in (
            *evasions(
                name,
                declared,
                inherited,
                note,
                own=is_own(self.tree, self.resolver, self.policy.scope, name),
                others=set_before(place, name, place.inherited.bit_length()),
            ),
            *misfits(self.tree, place, name, declared, limit, place.inherited.bit_length()),
            *excesses(self.tree, name, declared, limit, cap),
            *self._unbounded(name, limit),
        ):
            before_cap = (
                self.base is not None
                and limit is not None
                and finding.code == codes.CAP_EXCEEDED
                and self.base.declares(self.policy, name, finding.field, declared, limit.algorithm)
            )
            span = self.tree.span(self.policy.scope, f"limits.{name}.{finding.field}")
            yield finding.at(span, before_cap=before_cap)

    def _unbounded(self, name: str, limit: Limit | None) -> Iterator[CapFinding]:
        """Yield a finding about a limit without a rate below a cap that has nothing else."""
        cap = self.here.caps.get(name)
        if cap and limit is not None and limit.rate is None and name not in self.policy.caps:
            yield from unbounded(self.tree, name, limit, cap)
