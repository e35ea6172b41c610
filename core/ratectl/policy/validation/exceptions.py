"""Semantic rules of exceptions: times, targets, caps, buckets and conflicts."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations, islice
from typing import TYPE_CHECKING

from ratectl.diagnostics import Diagnostic
from ratectl.policy import codes
from ratectl.policy.language.matchers import disjoint_somewhere
from ratectl.policy.language.model import PolicyTree, exception_key
from ratectl.policy.language.scopes import nearest
from ratectl.policy.resolution.fields import FIELDS
from ratectl.policy.resolution.resolver import Resolver
from ratectl.policy.validation.caps import capped_at, evasions, excesses
from ratectl.policy.validation.overlaps import OverlapIndex
from ratectl.policy.yaml.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from ratectl.diagnostics import Severity
    from ratectl.policy.language.model import Exemption, LimitFields
    from ratectl.policy.resolution.conditions import Conditions
    from ratectl.policy.resolution.effective_limit import Problem, Via
    from ratectl.policy.resolution.resolver import Resolved

__all__ = ["check_exceptions"]

_FIXED = tuple(field.name for field in FIELDS if field.selects_bucket)
"""Fields that select buckets. An exception may not set them: it keeps the buckets of its limit."""

_CLIPS = 3
"""So many caps that clip a limit of an exception are named."""


def check_exceptions(
    tree: PolicyTree, resolver: Resolver, broken: AbstractSet[str], now_ns: int | None
) -> Iterator[Diagnostic]:
    """Yield the findings of all exceptions.

    ``now_ns``: time of the wall clock, to report exceptions that have ended; None reports none.
    ``broken``: as for ``check_tree``.
    """
    capping = _scopes_that_cap(tree) if tree.exceptions else {}
    for position, exception in enumerate(tree.exceptions):
        if exception.scope not in broken:
            yield from _Checker(tree, resolver, position, exception, capping).findings(now_ns)
    yield from _conflicts(tree)


def _scopes_that_cap(tree: PolicyTree) -> dict[str, list[str]]:
    """Return the scopes whose documents cap a limit, by its name."""
    capping: dict[str, list[str]] = defaultdict(list)
    for scope, policy in tree.policies.items():
        names = set(policy.caps).union(*(override.caps for override in policy.overrides))
        for name in names:
            capping[name].append(scope)
    return capping


def _of_exceptions(conditions: Conditions) -> int:
    """Return the set of the conditions that are those of exceptions."""
    return sum(condition.via.exception << at for at, condition in enumerate(conditions))


class _Checker:
    def __init__(
        self,
        tree: PolicyTree,
        resolver: Resolver,
        position: int,
        exception: Exemption,
        capping: Mapping[str, Sequence[str]],
    ) -> None:
        self.tree = tree
        self.resolver = resolver
        self.exception = exception
        self.key = exception_key(position)
        self.capping = capping

    def findings(self, now_ns: int | None) -> Iterator[Diagnostic]:
        exception = self.exception
        begins = exception.begins
        if begins is not None and begins.ns >= exception.until.ns:
            yield self._finding(
                codes.EXCEPTION_TIMES,
                "until",
                f"the exception ends at {exception.until}, before it begins at {begins}",
                "write an instant after from",
            )
            return
        if now_ns is not None and exception.until.ns <= now_ns:
            yield self._finding(
                codes.EXCEPTION_OVER,
                "until",
                f"the exception ended at {exception.until}",
                "remove the document",
                severity="warning",
            )
        if not exception.limits and not exception.budgets:
            yield self._finding(
                codes.INCOMPLETE, "", "the exception changes nothing", "give it limits or budgets"
            )
        policy = self.tree.policies.get(exception.scope)
        if policy is None:
            yield self._undeclared()
            return
        for name in exception.budgets:
            if name not in policy.budgets:
                yield self._finding(
                    codes.EXCEPTION_TARGET,
                    f"budgets.{name}",
                    f"{exception.scope} declares no budget {quoted(name)}",
                    "an exception changes budgets of its own scope: write it for that scope",
                )
        yield from self._in_force()

    def _undeclared(self) -> Diagnostic:
        scope = self.exception.scope
        above = nearest(scope, self.tree.policies)
        instead = f"write {above}, the nearest declared scope" if above else "correct the scope"
        return self._finding(
            codes.EXCEPTION_TARGET,
            "scope",
            f"no policy declares the scope {scope}",
            f"{instead}, or write a policy for {scope}",
        )

    def _finding(
        self, code: str, path: str, message: str, hint: str, severity: Severity = "error"
    ) -> Diagnostic:
        return Diagnostic(code, message, self.tree.span(self.key, path), severity, hint)

    def _in_force(self) -> Iterator[Diagnostic]:
        """Yield findings about the limits at the scope while only this exception is in force."""
        exception = self.exception
        scope = exception.scope
        alone = PolicyTree(self.tree.policies, self.tree.sources, (exception,))
        begins = exception.begins.ns if exception.begins else exception.until.ns - 1
        resolver = Resolver(alone, begins, self.resolver)
        place = resolver.conditions.at(scope)
        own = _of_exceptions(place.conditions)
        resolved, before = resolver.where(scope, own), self.resolver.at(scope)
        if resolved is None or before is None:
            return
        for name, declared in exception.limits.items():
            problem = resolved.problems.get(name)
            if problem:
                path = _path(name, problem, declared)
                yield self._finding(problem.code, path, problem.message, problem.hint)
            else:
                yield from self._ignored(name, declared, resolver)
            if name in before.fields or name in place.conditions.by_limit:
                yield from self._keeps_buckets("limits", name, declared)
            yield from self._off_above_caps(name, declared)
            yield from self._caps(name, declared, resolved, before)
            yield from islice(self._clipped(name, resolver), _CLIPS)
        for name, declared in exception.budgets.items():
            yield from self._keeps_buckets("budgets", name, declared)
            problem = resolved.broken_budgets.get(name)
            if problem:
                yield self._finding(problem.code, f"budgets.{name}", problem.message, problem.hint)
        yield from self._matches_by_bucket(before)

    def _caps(
        self, name: str, declared: LimitFields, resolved: Resolved, before: Resolved
    ) -> Iterator[Diagnostic]:
        note = capped_at(self.tree, self.resolver, self.exception.scope, name)
        if note is None:
            return
        cap = before.caps.get(name) or {}
        for finding in (
            *evasions(name, declared, None, note, own=False),
            *excesses(self.tree, name, declared, resolved.limits.get(name), cap),
        ):
            yield finding.at(self.tree.span(self.key, f"limits.{name}.{finding.field}"))

    def _off_above_caps(self, name: str, declared: LimitFields) -> Iterator[Diagnostic]:
        """Yield a finding if the exception turns off a limit that a scope below caps."""
        for scope in islice(self._capping(name), 1, None):
            for finding in evasions(name, declared, None, f"capped at {scope}", own=False):
                yield finding.at(self.tree.span(self.key, f"limits.{name}.{finding.field}"))
            return

    def _capping(self, name: str) -> Iterator[str]:
        """Yield the exception's scope, and those below whose documents cap the limit."""
        yield self.exception.scope
        above = self.exception.scope.rstrip("/") + "/"
        for scope in self.capping.get(name, ()):
            if scope != self.exception.scope and scope.startswith(above):
                yield scope

    def _clipped(self, name: str, alone: Resolver) -> Iterator[Diagnostic]:
        """Yield findings where caps of overrides, or of scopes below, clip the exception."""
        for scope in self._capping(name):
            conditions = alone.conditions.at(scope).conditions
            own = _of_exceptions(conditions)
            below = scope != self.exception.scope
            if below:
                yield from self._clips(name, alone.where(scope, own), scope, None)
            for position in conditions.by_cap.get(name, ()):
                condition = conditions[position]
                if below and condition.via.scope != scope:
                    continue  # found at the scope of the override
                if not disjoint_somewhere(condition.match, self.exception.match or {}):
                    resolved = alone.where(scope, own | 1 << position)
                    yield from self._clips(name, resolved, scope, condition.via)

    def _clips(
        self, name: str, resolved: Resolved | None, scope: str, via: Via | None
    ) -> Iterator[Diagnostic]:
        """Yield findings where the cap of ``via``, or of ``scope`` itself, clips the exception."""
        limit = resolved.limits.get(name) if resolved else None
        if limit is None:
            return
        for field, clip in limit.clips.items():
            asked = limit.settings.get(field)
            if asked is None or asked.via is None or not asked.via.exception:
                continue  # the value is not that of the exception
            if clip.cap.via != via or (via is None and clip.cap.scope != scope):
                continue  # another cap clips it
            whose = f"of the override '{via.ref}'" if via else f"of {scope}"
            where = "where that matches" if via else "there"
            yield self._finding(
                codes.CAP_EXCEEDED,
                f"limits.{name}.{field}",
                f"{field} {clip.asked} exceeds the cap {clip.cap.value} {whose}: agents clip it to "
                f"{clip.value} {where}",
                f"lower it to {clip.value}, or leave it for the other requests",
                "warning",
            )

    def _ignored(self, name: str, declared: LimitFields, alone: Resolver) -> Iterator[Diagnostic]:
        """Yield findings where agents ignore the exception: its fields do not fit the limit there.

        Another scope or an override may give the limit another algorithm. ``alone`` resolves with
        this exception only.
        """
        for scope in self._mentioning(name):
            place = alone.conditions.at(scope)
            own = _of_exceptions(place.conditions)
            problem = self._misfit(alone, scope, name, own)
            if problem:
                yield self._ignored_at(name, declared, f"at {scope}", problem)
                continue
            overlaps = OverlapIndex(place.conditions)
            for position in place.conditions.by_limit.get(name, ()):
                via = place.conditions[position].via
                if via.exception or scope not in (via.scope, self.exception.scope):
                    continue  # found at the scope of the override
                mask = own | 1 << position | overlaps.always_with(position)
                problem = self._misfit(alone, scope, name, mask)
                if problem:
                    yield self._ignored_at(name, declared, f"where {via.ref} matches", problem)

    def _misfit(self, alone: Resolver, scope: str, name: str, matched: int) -> Problem | None:
        """Return why a limit that ``scope`` has is not usable with the exception, or None."""
        resolved = alone.where(scope, matched)
        if resolved is None or name not in resolved.fields:
            return None
        return resolved.problems.get(name)

    def _ignored_at(
        self, name: str, declared: LimitFields, where: str, problem: Problem
    ) -> Diagnostic:
        return self._finding(
            codes.EXCEPTION_IGNORED,
            _path(name, problem, declared),
            f"{where}, agents ignore the exception for '{name}': {problem.message}",
            "set fields that fit there too, or write another exception for that scope",
            severity="warning",
        )

    def _mentioning(self, name: str) -> Iterator[str]:
        """Yield the exception's scope and those below whose documents change the limit."""
        above = self.exception.scope.rstrip("/") + "/"
        for scope, policy in self.tree.policies.items():
            changes = name in policy.limits or any(
                name in override.limits for override in policy.overrides
            )
            if scope == self.exception.scope or (changes and scope.startswith(above)):
                yield scope

    def _keeps_buckets(self, part: str, name: str, declared: LimitFields) -> Iterator[Diagnostic]:
        for field in _FIXED:
            if getattr(declared, field) is not None:
                yield self._finding(
                    codes.EXCEPTION_BUCKET,
                    f"{part}.{name}.{field}",
                    f"an exception keeps the buckets of '{name}', so it cannot change its {field}",
                    "change rate, burst or mode"
                    + (", or write an override" if part == "limits" else ""),
                )

    def _matches_by_bucket(self, before: Resolved) -> Iterator[Diagnostic]:
        """Yield findings if the exception is for only some of the requests of a bucket."""
        if not self.exception.match:
            return
        for name in self.exception.limits:
            yield from self._splits(name, self._known(name, before), "")
            for below in self._declared_below(name):
                yield from self._splits(name, self._known(name, below), f"at {below.scope} ")
        for name in self.exception.budgets:
            budget = self.tree.policies[self.exception.scope].budgets.get(name)
            yield from self._splits(name, set(budget.per or ()) if budget else set(), "")

    def _splits(self, name: str, known: set[str], where: str) -> Iterator[Diagnostic]:
        for attribute in self.exception.match or ():
            if attribute not in known:
                by = ", ".join(sorted(known)) or "nothing"
                yield self._finding(
                    codes.EXCEPTION_BUCKET,
                    f"match.{attribute}",
                    f"{where}'{name}' is counted per {by}, so an exception cannot be for some "
                    f"values of {attribute}",
                    f"match on {' or '.join(sorted(known))}"
                    if known
                    else "remove match, or write an override",
                )

    def _declared_below(self, name: str) -> Iterator[Resolved]:
        """Yield the scopes below whose own documents may count the limit by other attributes."""
        above = self.exception.scope.rstrip("/") + "/"
        for scope, policy in self.tree.policies.items():
            if scope != self.exception.scope and scope.startswith(above):
                declared = policy.limits.get(name)
                if name in policy.unset or (declared is not None and declared.per is not None):
                    resolved = self.resolver.at(scope)
                    if resolved is not None and name in resolved.fields:
                        yield resolved

    def _known(self, name: str, at: Resolved) -> set[str]:
        """Return the attributes that select a bucket: by ``per``, or by matches of overrides."""
        known: set[str] = set()
        if name in at.fields and "per" in at.fields[name]:
            known.update(at.fields[name]["per"].value)
        known.update(self.exception.limits[name].per or ())
        for condition in self.resolver.conditions.at(at.scope).conditions:
            if name in condition.limits:
                known.update(condition.match)
        return known


def _path(name: str, problem: Problem, declared: LimitFields) -> str:
    """Return the path of the declared field that causes a problem, or that of the limit."""
    field = problem.field if getattr(declared, problem.field or "-", None) else ""
    return f"limits.{name}.{field}" if field else f"limits.{name}"


def _conflicts(tree: PolicyTree) -> Iterator[Diagnostic]:
    """Yield findings about two exceptions that set one field at one scope for one request."""
    by_scope: dict[str, list[tuple[int, Exemption]]] = {}
    for position, exception in enumerate(tree.exceptions):
        by_scope.setdefault(exception.scope, []).append((position, exception))
    for group in by_scope.values():
        for (first, one), (second, other) in combinations(group, 2):
            if not _overlap(one, other) or disjoint_somewhere(one.match or {}, other.match or {}):
                continue
            for path in sorted(_paths(one) & _paths(other)):
                at = tree.span(exception_key(second), path)
                there = tree.span(exception_key(first), path)
                later, earlier = (at, there) if there <= at else (there, at)
                yield Diagnostic(
                    codes.EXCEPTION_CONFLICT,
                    f"two exceptions of {one.scope} set {path} at the same time",
                    later,
                    hint="let one end before the other begins, or match on different values",
                    notes=(f"the other is at {earlier}",),
                )


def _overlap(one: Exemption, other: Exemption) -> bool:
    def starts(exception: Exemption) -> int:
        return exception.begins.ns if exception.begins else -(2**63)

    return starts(one) < other.until.ns and starts(other) < one.until.ns


def _paths(exception: Exemption) -> set[str]:
    return {
        f"{part}.{name}.{field}"
        for part, declared in (("limits", exception.limits), ("budgets", exception.budgets))
        for name, fields in declared.items()
        for field in fields.model_fields_set
    }
