"""Conditions: the overrides and exceptions along the path of each declared scope.

A *condition* is an override, or an exception in force with a ``match``: a request satisfies it or
not. Conditions are numbered along the path, so the conditions of a scope begin with those of its
parent. A set of conditions is an integer with the bits of their numbers.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from ratectl.policy.language.model import exception_key
from ratectl.policy.language.scopes import parent
from ratectl.policy.resolution.effective_limit import Via
from ratectl.runtime.cooperative import paced

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.policy.language.matchers import Matcher
    from ratectl.policy.language.model import Exemption, Override, Policy, PolicyTree

__all__ = [
    "NO_CONDITIONS",
    "Condition",
    "Conditions",
    "Index",
    "PathConditions",
    "TreeConditions",
    "bits",
    "override_name",
    "override_ref",
]


def override_ref(scope: str, name: str) -> str:
    """Return the name of an override in explanations and usage: ``gold@/payments``."""
    return f"{name}@{scope}"


def override_name(ref: str) -> str:
    """Return the name of an override from its ref; names have no @."""
    return ref.partition("@")[0]


def bits(mask: int) -> Iterator[int]:
    """Yield the positions of a set of conditions, in order."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


@dataclass(frozen=True, slots=True)
class Condition:
    """Condition of one override or exception: the requests and limits that it is for."""

    match: Mapping[str, Matcher]
    via: Via
    limits: frozenset[str]
    """Names of the limits that it sets or caps."""
    budgets: frozenset[str] = frozenset()
    """Names of the budgets of its own scope that it sets."""
    caps: frozenset[str] = frozenset()
    """Names of the limits that it caps."""
    override: Override | None = None
    """The override; None for an exception."""


class Index:
    """Index of conditions by attribute: finds those that a value does not rule out."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self.attributes = tuple(
            dict.fromkeys(name for condition in conditions for name in condition.match)
        )
        self.unaffected: dict[str, int] = dict.fromkeys(self.attributes, 0)
        """Conditions without a matcher on the attribute: no value rules them out."""
        self.exact: dict[str, dict[str, int]] = {name: {} for name in self.attributes}
        """Conditions that accept each value, if they list what they accept."""
        self.others: dict[str, list[tuple[int, Matcher]]] = {name: [] for name in self.attributes}
        """The other conditions, each as a bit, with their matchers."""
        for position, condition in enumerate(paced(conditions)):
            for name in self.attributes:
                matcher = condition.match.get(name)
                if matcher is None:
                    self.unaffected[name] |= 1 << position
                elif matcher.exact is None:
                    self.others[name].append((1 << position, matcher))
                else:
                    exact = self.exact[name]
                    for value in matcher.exact:
                        exact[value] = exact.get(value, 0) | 1 << position

    def possible(self, name: str, value: str | None) -> int:
        """Return the conditions that this value of the attribute does not rule out."""
        bits = self.unaffected[name]
        if value is not None:
            bits |= self.exact[name].get(value, 0)
        for bit, matcher in self.others[name]:
            if matcher.holds(value):
                bits |= bit
        return bits


class Conditions(tuple[Condition, ...]):
    """Conditions in order; a scope that adds none shares the tuple of its parent."""

    @cached_property
    def by_attribute(self) -> Index:
        """Index of these conditions by attribute."""
        return Index(self)

    @cached_property
    def by_limit(self) -> dict[str, list[int]]:
        """Positions of the conditions that set each limit, by its name."""
        positions: dict[str, list[int]] = {}
        for position, condition in enumerate(paced(self)):
            for name in sorted(condition.limits):
                positions.setdefault(name, []).append(position)
        return positions

    @cached_property
    def by_cap(self) -> dict[str, list[int]]:
        """Positions of the conditions that cap each limit, by its name."""
        positions: dict[str, list[int]] = {}
        for position, condition in enumerate(paced(self)):
            for name in sorted(condition.caps):
                positions.setdefault(name, []).append(position)
        return positions

    def capping(self, name: str, matched: int) -> list[Via]:
        """Return the conditions of a set that cap a limit."""
        positions = self.by_cap.get(name, ())
        return [self[position].via for position in positions if matched >> position & 1]

    def holding(self, attributes: Mapping[str, str]) -> int:
        """Return the set of conditions that hold for a request."""
        mask = (1 << len(self)) - 1
        for name in self.by_attribute.attributes:
            mask &= self.by_attribute.possible(name, attributes.get(name))
        return mask


_NONE: Final = Conditions()


@dataclass(frozen=True, slots=True)
class PathConditions:
    """Conditions, overrides and exceptions along the path of one scope, at one time."""

    conditions: Conditions = _NONE
    inherited: int = 0
    """Set of the conditions of the parent."""
    overrides: tuple[tuple[Override, Via], ...] = ()
    """Overrides of the document of the scope itself."""
    exceptions: tuple[tuple[Exemption, Via], ...] = ()
    """Exceptions in force at or above the scope, from ``/`` down."""
    amended: frozenset[str] = frozenset()
    """Names of the limits that an exception at or above the scope sets."""

    def own(self, matched: int) -> Iterator[tuple[Override, Via]]:
        """Yield the overrides of the scope itself that hold."""
        # Only the set bits are visited: a request satisfies few of thousands of overrides.
        held = matched >> self.inherited.bit_length() & (1 << len(self.overrides)) - 1
        for position in bits(held):
            yield self.overrides[position]

    def in_force(self, matched: int) -> Iterator[tuple[Exemption, Via]]:
        """Yield the exceptions that hold."""
        for exception, via in self.exceptions:
            if via.bit is None or matched >> via.bit & 1:
                yield exception, via


NO_CONDITIONS: Final = PathConditions()


class TreeConditions:
    """Conditions of every scope of a tree, at one time.

    ``bare`` has the conditions of the same policies without exceptions, if they are known.
    """

    def __init__(
        self, tree: PolicyTree, now_ns: int | None, bare: TreeConditions | None = None
    ) -> None:
        self._bare = bare
        self._policies = tree.policies
        self._exceptions: dict[str, list[tuple[int, Exemption]]] = defaultdict(list)
        if now_ns is not None:
            for position, exception in enumerate(tree.exceptions):
                if exception.active(now_ns):
                    self._exceptions[exception.scope].append((position, exception))
        self._known: dict[str, PathConditions] = {}
        self.any = bool(self._exceptions) or any(
            policy.overrides for policy in paced(tree.policies.values())
        )
        """True if any scope has a condition or an exception."""

    @property
    def workings(self) -> tuple[Mapping[Any, object], ...]:
        """Containers that this object fills, for ``Kept``."""
        return (self._known,)

    def at(self, scope: str) -> PathConditions:
        """Return the conditions of ``scope``, or of its nearest declared ancestor."""
        if not self.any:
            return NO_CONDITIONS
        known = self._known.get(scope)
        if known is not None:
            return known
        up = parent(scope)
        above = NO_CONDITIONS if up is None else self.at(up)
        policy = self._policies.get(scope)
        if policy is None:
            return above
        path = self._bare.at(scope) if self._bare and not above.exceptions else None
        if path is None:
            path = _overridden(above, policy)
        path = self._known[scope] = _excepted(path, self._exceptions.get(scope, []))
        return path


def _overridden(above: PathConditions, policy: Policy) -> PathConditions:
    """Return the conditions of a scope with those of its policy added to those above."""
    conditions = list(above.conditions)
    overrides = []
    for position, override in enumerate(paced(policy.overrides)):
        ref = override_ref(policy.scope, override.name)
        via = Via(ref, policy.scope, policy.scope, f"overrides.{position}.", False, len(conditions))
        caps = frozenset(override.caps)
        limits = caps.union(override.limits)
        conditions.append(Condition(override.match, via, limits, caps=caps, override=override))
        overrides.append((override, via))
    count = len(above.conditions)
    return PathConditions(
        Conditions(conditions) if overrides else above.conditions,
        (1 << count) - 1,
        tuple(overrides),
        above.exceptions,
        above.amended,
    )


def _excepted(path: PathConditions, active: list[tuple[int, Exemption]]) -> PathConditions:
    """Return the conditions of a scope with the active exceptions of that scope added."""
    if not active:
        return path
    conditions = list(path.conditions)
    exceptions = []
    taken = {condition.via.ref for condition in conditions}
    for position, exception in active:
        bit = len(conditions) if exception.match else None
        ref = exception.ref if exception.ref not in taken else f"{exception.ref} #{position}"
        via = Via(ref, exception.scope, exception_key(position), "", True, bit)
        if exception.match:
            named = frozenset(exception.limits), frozenset(exception.budgets)
            conditions.append(Condition(exception.match, via, *named))
            taken.add(ref)
        exceptions.append((exception, via))
    return PathConditions(
        Conditions(conditions) if len(conditions) > len(path.conditions) else path.conditions,
        path.inherited,
        path.overrides,
        (*path.exceptions, *exceptions),
        path.amended.union(*(exception.limits for exception, _ in exceptions)),
    )
