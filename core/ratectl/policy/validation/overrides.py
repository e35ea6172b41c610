"""Semantic rules of overrides: each gives usable limits within the caps, alone and with others.

An override is checked together with every override on the path that matches whenever it does. Two
overrides that can match one request are also checked together. Combinations of more are too many to
check: agents ignore some of the overrides then (``Resolver.limit``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.diagnostics import Diagnostic
from ratectl.policy import codes
from ratectl.policy.resolution.building import build_limit
from ratectl.policy.resolution.conditions import bits
from ratectl.policy.resolution.effective_limit import Limit
from ratectl.policy.validation.caps import (
    capped_at,
    evasions,
    excesses,
    is_own,
    misfits,
    set_before,
)
from ratectl.policy.validation.overlaps import OverlapIndex

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.language.model import LimitFields, Override, Policy, PolicyTree
    from ratectl.policy.resolution.conditions import Condition
    from ratectl.policy.resolution.effective_limit import Problem
    from ratectl.policy.resolution.merge import Fields
    from ratectl.policy.resolution.resolver import Resolved, Resolver
    from ratectl.policy.validation.baseline import Base

__all__ = ["check_overrides"]


def check_overrides(
    tree: PolicyTree, resolver: Resolver, policy: Policy, base: Base | None = None
) -> Iterator[Diagnostic]:
    """Yield the findings about the overrides of one document; ``base``: an earlier tree."""
    if policy.overrides:
        yield from _Checker(tree, resolver, policy, base).findings()
    yield from _unusable_below(tree, resolver, policy)


def _unusable_below(tree: PolicyTree, resolver: Resolver, policy: Policy) -> Iterator[Diagnostic]:
    """Yield findings where a limit of the document does not fit an override of a scope above.

    The override may have given the limit another algorithm, whose fields are others.
    """
    place, here = resolver.conditions.at(policy.scope), resolver.at(policy.scope)
    overlaps: OverlapIndex | None = None
    for name, declared in policy.limits.items():
        for position in place.conditions.by_limit.get(name, ()):
            if not place.inherited >> position & 1 or (here and name in here.problems):
                continue
            if declared.algorithm is None and not _sets_algorithm(place.conditions[position], name):
                continue  # the usual case, and much faster than resolving
            overlaps = overlaps or OverlapIndex(place.conditions)
            mask = 1 << position | overlaps.always_with(position) & place.inherited
            resolved = resolver.where(policy.scope, mask)
            problem = resolved.problems.get(name) if resolved else None
            if problem:
                ref = place.conditions[position].via.ref
                yield Diagnostic(
                    problem.code,
                    f"where override '{ref}' matches: {problem.message}",
                    tree.span(policy.scope, _declared_path(name, problem, declared)),
                    hint=f"{problem.hint}; or give the override's limit a name of its own",
                )


def _sets_algorithm(condition: Condition, name: str) -> bool:
    """Return True if an override sets the algorithm of a limit."""
    declared = condition.override.limits.get(name) if condition.override else None
    return declared is not None and declared.algorithm is not None


def _declared_path(name: str, problem: Problem, declared: LimitFields) -> str:
    """Return the path of the declared field that causes a problem, or that of the limit."""
    set_here = problem.field and getattr(declared, problem.field, None) is not None
    return f"limits.{name}.{problem.field}" if set_here else f"limits.{name}"


class _Checker:
    def __init__(
        self, tree: PolicyTree, resolver: Resolver, policy: Policy, base: Base | None
    ) -> None:
        self.base = base
        self.tree = tree
        self.resolver = resolver
        self.policy = policy
        place = resolver.conditions.at(policy.scope)
        self.place = place
        self.conditions = place.conditions
        self.overlaps = OverlapIndex(self.conditions)
        self.first = place.inherited.bit_length()

    def findings(self) -> Iterator[Diagnostic]:
        wrong: set[tuple[int, str]] = set()
        for number, override in enumerate(self.policy.overrides):
            own = self.first + number
            alone = self.overlaps.always_with(own)
            resolved = self.resolver.where(self.policy.scope, alone | 1 << own)
            without = self.resolver.where(self.policy.scope, alone)
            if resolved is None or without is None:
                continue
            for name in override.limits:
                problem = resolved.problems.get(name)
                if problem:
                    wrong.add((own, name))
                    yield self._unusable(number, name, problem)
                yield from self._caps(number, override, name, resolved, without)
            yield from self._shadowed(number, override, alone)
        yield from self._pairs(wrong)

    def _unusable(self, number: int, name: str, problem: Problem, more: str = "") -> Diagnostic:
        declared = self.policy.overrides[number].limits[name]
        path = f"overrides.{number}.limits.{name}"
        if problem.field and getattr(declared, problem.field, None) is not None:
            path += f".{problem.field}"
        return Diagnostic(
            problem.code,
            f"override '{self.policy.overrides[number].name}'{more}: {problem.message}",
            self.tree.span(self.policy.scope, path),
            hint=problem.hint,
        )

    def _caps(
        self, number: int, override: Override, name: str, resolved: Resolved, without: Resolved
    ) -> Iterator[Diagnostic]:
        """Yield findings about caps, as for the limits of the document itself."""
        declared = override.limits[name]
        path = f"overrides.{number}.limits.{name}"
        note = capped_at(self.tree, self.resolver, self.policy.scope, name)
        if note is None:
            return
        cap, limit = self._unconditional(name, resolved)
        inherited = without.fields.get(name)
        for finding in (
            *evasions(
                name,
                declared,
                inherited,
                note,
                own=is_own(self.tree, self.resolver, self.policy.scope, name),
                others=set_before(self.place, name, self.first + number),
            ),
            *misfits(
                self.tree,
                self.place,
                name,
                declared,
                resolved.limits.get(name),
                self.first + number,
            ),
            *excesses(self.tree, name, declared, limit, cap),
        ):
            via = resolved.fields[name][finding.field].via
            if via is None or via.bit != self.first + number:
                continue  # set by a later override, and reported there
            before_cap = (
                self.base is not None
                and limit is not None
                and finding.code == codes.CAP_EXCEEDED
                and self.base.declares(
                    self.policy, name, finding.field, declared, limit.algorithm, override
                )
            )
            span = self.tree.span(self.policy.scope, f"{path}.{finding.field}")
            yield finding.at(span, before_cap=before_cap)

    def _unconditional(self, name: str, resolved: Resolved) -> tuple[Fields, Limit | None]:
        """Return the cap for all requests, and the limit that it leaves.

        What only an override caps is no error.
        """
        here = self.resolver.at(self.policy.scope)
        cap = here.caps.get(name) if here else None
        if name not in resolved.fields or not cap:
            return {}, None
        limit = build_limit(name, resolved.fields[name], cap)
        return cap, limit if isinstance(limit, Limit) else None

    def _pairs(self, wrong: set[tuple[int, str]]) -> Iterator[Diagnostic]:
        """Yield problems that occur only for two overrides together, at the later one."""
        for number, override in enumerate(self.policy.overrides):
            own = self.first + number
            for other in self.overlaps.maybe_with(own):
                shared = set(override.limits) & self.conditions[other].limits
                if other >= own or not shared:
                    continue
                mask = 1 << own | 1 << other
                mask |= self.overlaps.always_with(own) | self.overlaps.always_with(other)
                resolved = self.resolver.where(self.policy.scope, mask)
                for name in sorted(shared):
                    problem = resolved.problems.get(name) if resolved else None
                    if problem and not {(own, name), (other, name)} & wrong:
                        more = f" together with {self.conditions[other].via.ref}"
                        yield self._unusable(number, name, problem, more)

    def _shadowed(self, number: int, override: Override, always: int) -> Iterator[Diagnostic]:
        """Yield a finding if later overrides set all its fields whenever it matches."""
        beaten: dict[tuple[str, str], str] = {}
        for position in bits(always >> self.first):
            if position > number:
                later = self.policy.overrides[position]
                for name, declared in later.limits.items():
                    fields = set(declared.model_fields_set)
                    if declared.algorithm is not None:  # drops the fields that it lacks
                        fields |= set(override.limits.get(name, declared).model_fields_set)
                    for field in fields:
                        beaten.setdefault((name, field), later.name)
        own = [
            (name, field)
            for name, declared in override.limits.items()
            for field in declared.model_fields_set
        ]
        if own and not override.caps and all(field in beaten for field in own):
            by = " and ".join(f"'{name}'" for name in sorted({beaten[field] for field in own}))
            yield Diagnostic(
                codes.SHADOWED,
                f"override '{override.name}' has no effect: {by} below it matches whenever it does",
                self.tree.span(self.policy.scope, f"overrides.{number}.name"),
                "warning",
                f"move it below {by}, or remove it",
            )
