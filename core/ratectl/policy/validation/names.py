"""Lint of names: limits, attributes and scopes that are probably misspelt. All are warnings.

A misspelt name is no error: it makes a new limit, an attribute that no request has, or a scope that
no request asks for. Only near names are reported (see ``near_names``).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from ratectl.diagnostics import Diagnostic
from ratectl.policy import codes
from ratectl.policy.language.model import exception_key
from ratectl.policy.language.near_names import NearNames
from ratectl.policy.language.scopes import ancestry, parent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from ratectl.policy.language.matchers import Matcher
    from ratectl.policy.language.model import LimitFields, Policy, PolicyTree
    from ratectl.policy.language.testcase import WrittenTest
    from ratectl.policy.resolution.resolver import Resolver

__all__ = ["check_names", "check_test_names", "unused_attributes"]

_SHORTEST_SEGMENT: Final = 3
"""Letters of the shortest segment that may be another one without its last letter."""


def check_names(
    tree: PolicyTree, resolver: Resolver, broken: AbstractSet[str] = frozenset()
) -> Iterator[Diagnostic]:
    """Yield findings about names in policies and exceptions.

    ``broken``: declared scopes that could not be read; what scopes below inherit is unknown.
    """
    yield from _Limits(tree, resolver, broken).findings()
    yield from _attributes(tree)
    yield from _scopes(tree)


def check_test_names(tree: PolicyTree, tests: Sequence[WrittenTest]) -> Iterator[Diagnostic]:
    """Yield findings about attributes in tests that no policy uses, and nearly name one."""
    used = {use.name for use in _uses(tree)}
    near = NearNames()
    for written in tests:
        reported: set[str] = set()
        for number, step in enumerate(written.test.steps):
            for name in step.attributes:
                meant = None if name in used | reported else near.nearest(name, used)
                if meant is not None:
                    reported.add(name)
                    yield Diagnostic(
                        codes.ATTRIBUTE_NAME,
                        f"no policy uses the attribute '{name}', but one uses '{meant}'",
                        written.span(f"steps.{number}.attributes.{name}"),
                        "warning",
                        f"did you mean {meant}?",
                    )


def unused_attributes(tree: PolicyTree, scope: str, names: Iterable[str]) -> Iterator[str]:
    """Yield a message for each of these attributes that no document on a scope's path uses."""
    path = set(ancestry(scope))
    if path.isdisjoint(tree.policies):
        return
    path |= {exception_key(at) for at, each in enumerate(tree.exceptions) if each.scope in path}
    used = {use.name for use in _uses(tree) if use.key in path}
    near = NearNames()
    for name in names:
        if name not in used:
            meant = near.nearest(name, used)
            text = f"no policy at or above {scope} uses the attribute '{name}'"
            yield f"{text}; did you mean {meant}?" if meant else text


class _Limits:
    """Rule for limits: a new limit whose name is near the name of an inherited one."""

    def __init__(self, tree: PolicyTree, resolver: Resolver, broken: AbstractSet[str]) -> None:
        self._tree = tree
        self._resolver = resolver
        self._broken = broken
        self._near = NearNames()

    def findings(self) -> Iterator[Diagnostic]:
        for policy in self._tree.policies.values():
            if self._broken.isdisjoint(ancestry(policy.scope)):
                yield from self._policy(policy)
        for position, exception in enumerate(self._tree.exceptions):
            if self._broken.isdisjoint(ancestry(exception.scope)):
                known = self._in_force(exception.scope)
                for name in exception.limits:
                    yield from self._new(exception_key(position), exception.scope, name, known)

    def _policy(self, policy: Policy) -> Iterator[Diagnostic]:
        scope = policy.scope
        above = parent(scope)
        known = set() if above is None else self._in_force(above)
        for name in policy.limits:
            yield from self._new(scope, scope, name, known)
        known.update(policy.limits)
        for number, override in enumerate(policy.overrides):
            for name in override.limits:
                yield from self._new(scope, scope, name, known, f"overrides.{number}.")
            known.update(override.limits)

    def _in_force(self, scope: str) -> set[str]:
        """Return the names of the limits that a scope has for some request."""
        resolved = self._resolver.at(scope)
        if resolved is None:
            return set()
        conditional = self._resolver.conditions.at(resolved.scope).conditions.by_limit
        return {*resolved.fields, *conditional}

    def _new(
        self, key: str, scope: str, name: str, known: AbstractSet[str], part: str = ""
    ) -> Iterator[Diagnostic]:
        """Yield a finding about a limit of a document if its name is new, and near a known one."""
        meant = None if name in known else self._near.nearest(name, known)
        if meant is None:
            return
        declared_at = self._declared(meant, scope)
        yield Diagnostic(
            codes.LIMIT_NAME,
            f"'{name}' is a new limit, and its name is nearly that of '{meant}'",
            self._tree.span(key, f"{part}limits.{name}"),
            "warning",
            f"did you mean {meant}? Otherwise give it a name that differs more",
            (f"'{meant}' is declared at {declared_at}",) if declared_at else (),
        )

    def _declared(self, name: str, scope: str) -> str | None:
        """Return the place of a limit's declaration nearest to a scope."""
        for at in ancestry(scope):
            policy = self._tree.policies.get(at)
            if policy is None:
                continue
            if name in policy.limits:
                return str(self._tree.span(at, f"limits.{name}"))
            for number, override in enumerate(policy.overrides):
                if name in override.limits:
                    return str(self._tree.span(at, f"overrides.{number}.limits.{name}"))
        return None


@dataclass(frozen=True, slots=True)
class _Use:
    """Use of an attribute in a document: its name, the document's key and the field's path."""

    name: str
    key: str
    path: str


def _uses(tree: PolicyTree) -> Iterator[_Use]:
    """Yield the attributes of policies and exceptions, parents first."""
    for scope in sorted(tree.policies):
        policy = tree.policies[scope]
        yield from _counted(scope, "limits", policy.limits)
        yield from _counted(scope, "budgets", policy.budgets)
        for number, override in enumerate(policy.overrides):
            yield from _matched(scope, f"overrides.{number}.match", override.match)
            yield from _counted(scope, f"overrides.{number}.limits", override.limits)
    for position, exception in enumerate(tree.exceptions):
        key = exception_key(position)
        yield from _matched(key, "match", exception.match or {})
        yield from _counted(key, "limits", exception.limits)


def _counted(key: str, part: str, limits: Mapping[str, LimitFields]) -> Iterator[_Use]:
    for limit, fields in limits.items():
        for number, name in enumerate(fields.per or ()):
            yield _Use(name, key, f"{part}.{limit}.per.{number}")


def _matched(key: str, path: str, match: Mapping[str, Matcher]) -> Iterator[_Use]:
    for name in match:
        yield _Use(name, key, f"{path}.{name}")


def _attributes(tree: PolicyTree) -> Iterator[Diagnostic]:
    """Yield findings about attributes whose name is near one that the tree uses more often.

    Of two that are used equally often, the first one is taken as correct.
    """
    uses: dict[str, list[_Use]] = defaultdict(list)
    for use in _uses(tree):
        uses[use.name].append(use)
    order = sorted(uses, key=lambda name: -len(uses[name]))
    near = NearNames()
    for position, name in enumerate(order):
        places = uses[name]
        meant = near.nearest(name, islice(order, position))
        if meant is None:
            continue
        there = uses[meant][0]
        for use in {use.key: use for use in reversed(places)}.values():
            yield Diagnostic(
                codes.ATTRIBUTE_NAME,
                f"the attribute '{name}' is nearly '{meant}', which the policies use "
                f"{_times(len(uses[meant]))}",
                tree.span(use.key, use.path),
                "warning",
                f"did you mean {meant}?",
                (f"'{meant}' is used at {tree.span(there.key, there.path)}",),
            )


def _times(number: int) -> str:
    return "too" if number == 1 else f"{number} times"


def _scopes(tree: PolicyTree) -> Iterator[Diagnostic]:
    """Yield findings about scopes that differ only by case, or by the last letter of a segment."""
    children: dict[str, set[str]] = defaultdict(set)
    first: dict[str, str] = {}
    for scope in sorted(tree.policies):
        for at in ancestry(scope):
            above = parent(at)
            first.setdefault(at, scope)
            if above is None or at in children[above]:
                break
            children[above].add(at)
    for siblings in children.values():
        for scope, other, how in _similar(siblings):
            here, there = first[scope], first[other]
            yield Diagnostic(
                codes.SCOPE_NAME,
                f"the scope {scope} differs from {other} only {how}",
                tree.span(here, "scope"),
                "warning",
                f"did you mean {other}? A request for one of them does not get the limits of the "
                "other",
                (f"{there} is declared at {tree.span(there, 'scope')}",),
            )


def _similar(siblings: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield pairs of similar scopes with one parent: the suspicious one, the other, the difference.

    Of two that differ by case, the one with more capitals is suspicious, else the longer one.
    """
    lower: dict[str, str] = {}
    for scope in sorted(siblings, key=lambda text: (sum(map(str.isupper, text)), text)):
        other = lower.setdefault(scope.lower(), scope)
        if other != scope:
            yield scope, other, "by upper and lower case"
    for folded, scope in lower.items():
        segment = folded.rpartition("/")[2]
        shorter = lower.get(folded[:-1])
        if shorter and len(segment) > _SHORTEST_SEGMENT and not segment[-1].isdigit():
            yield scope, shorter, "by its last character"
