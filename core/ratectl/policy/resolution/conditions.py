"""Places: for each declared scope, the conditions and exceptions along its path.

A *condition* is what a request may satisfy or not: an override, or an exception in force that has
a ``match``. Conditions are numbered along the path, so those of a scope begin with those of the
scope above it, and a set of them is an integer with these bits.
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
    "NOWHERE",
    "Condition",
    "Conditions",
    "Index",
    "Place",
    "Places",
    "bits",
    "override_name",
    "override_ref",
]


def override_ref(scope: str, name: str) -> str:
    """How explanations and usage name an override."""
    return f"{name}@{scope}"


def override_name(ref: str) -> str:
    """The name of an override, from its ref: names have no @."""
    return ref.partition("@")[0]


def bits(mask: int) -> Iterator[int]:
    """The positions of a set of conditions, in order."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


@dataclass(frozen=True, slots=True)
class Condition:
    """A bit of the requests that one override or exception is for."""

    match: Mapping[str, Matcher]
    via: Via
    limits: frozenset[str]
    """Names of the limits that it touches."""
    budgets: frozenset[str] = frozenset()
    """Names of the budgets of its own scope that it touches."""


class Index:
    """Conditions by attribute: which of them a value leaves possible."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self.attributes = tuple(dict.fromkeys(name for each in conditions for name in each.match))
        self._silent: dict[str, int] = dict.fromkeys(self.attributes, 0)
        """Conditions that do not mention the attribute: no value rules them out."""
        self._exact: dict[str, dict[str, int]] = {name: {} for name in self.attributes}
        self._other: dict[str, list[tuple[int, Matcher]]] = {name: [] for name in self.attributes}
        for position, condition in enumerate(paced(conditions)):
            for name in self.attributes:
                matcher = condition.match.get(name)
                if matcher is None:
                    self._silent[name] |= 1 << position
                elif matcher.exact is None:
                    self._other[name].append((1 << position, matcher))
                else:
                    exact = self._exact[name]
                    for value in matcher.exact:
                        exact[value] = exact.get(value, 0) | 1 << position

    def possible(self, name: str, value: str | None) -> int:
        """The conditions that this value of the attribute does not rule out."""
        bits = self._silent[name]
        if value is not None:
            bits |= self._exact[name].get(value, 0)
        for bit, matcher in self._other[name]:
            if matcher.holds(value):
                bits |= bit
        return bits


class Conditions(tuple[Condition, ...]):
    """Conditions in their order; scopes that add none share those of the scope above."""

    @cached_property
    def by_attribute(self) -> Index:
        """These by attribute."""
        return Index(self)

    @cached_property
    def by_limit(self) -> dict[str, list[int]]:
        """For the name of each limit that any of them touches, the positions of those that do."""
        found: dict[str, list[int]] = {}
        for position, condition in enumerate(paced(self)):
            for name in sorted(condition.limits):
                found.setdefault(name, []).append(position)
        return found

    def holding(self, attributes: Mapping[str, str]) -> int:
        """Those that hold for a request."""
        mask = (1 << len(self)) - 1
        for name in self.by_attribute.attributes:
            mask &= self.by_attribute.possible(name, attributes.get(name))
        return mask


_NONE: Final = Conditions()


@dataclass(frozen=True, slots=True)
class Place:
    """What of a scope's path depends on requests and time."""

    conditions: Conditions = _NONE
    inherited: int = 0
    """The conditions of the scope above."""
    overrides: tuple[tuple[Override, Via], ...] = ()
    """Those of the scope's own document."""
    exceptions: tuple[tuple[Exemption, Via], ...] = ()
    """Those in force at or above the scope, from ``/`` down."""
    amended: frozenset[str] = frozenset()
    """Names of the limits that an exception here speaks of."""

    def own(self, matched: int) -> Iterator[tuple[Override, Via]]:
        """The scope's own overrides that hold."""
        # By its bits: of thousands of overrides a request satisfies few.
        held = matched >> self.inherited.bit_length() & (1 << len(self.overrides)) - 1
        for position in bits(held):
            yield self.overrides[position]

    def in_force(self, matched: int) -> Iterator[tuple[Exemption, Via]]:
        """The exceptions that hold."""
        for exception, via in self.exceptions:
            if via.bit is None or matched >> via.bit & 1:
                yield exception, via


NOWHERE: Final = Place()


class Places:
    """The place of each scope of a tree at one time.

    ``bare`` has those of the same policies without exceptions, where they are known already.
    """

    def __init__(self, tree: PolicyTree, now_ns: int | None, bare: Places | None = None) -> None:
        self._bare = bare
        self._policies = tree.policies
        self._exceptions: dict[str, list[tuple[int, Exemption]]] = defaultdict(list)
        if now_ns is not None:
            for position, exception in enumerate(tree.exceptions):
                if exception.active(now_ns):
                    self._exceptions[exception.scope].append((position, exception))
        self._known: dict[str, Place] = {}
        self.any = bool(self._exceptions) or any(
            policy.overrides for policy in paced(tree.policies.values())
        )
        """Whether any scope has any condition or exception."""

    @property
    def workings(self) -> tuple[Mapping[Any, object], ...]:
        """What it remembers."""
        return (self._known,)

    def at(self, scope: str) -> Place:
        """The place of ``scope``; an undeclared one has that of its nearest declared ancestor."""
        if not self.any:
            return NOWHERE
        known = self._known.get(scope)
        if known is not None:
            return known
        up = parent(scope)
        above = NOWHERE if up is None else self.at(up)
        policy = self._policies.get(scope)
        if policy is None:
            return above
        place = self._bare.at(scope) if self._bare and not above.exceptions else None
        if place is None:
            place = _overridden(above, policy)
        place = self._known[scope] = _excepted(place, self._exceptions.get(scope, []))
        return place


def _overridden(above: Place, policy: Policy) -> Place:
    """The place of a scope below another, as far as its policy goes."""
    conditions = list(above.conditions)
    overrides = []
    for position, override in enumerate(paced(policy.overrides)):
        ref = override_ref(policy.scope, override.name)
        via = Via(ref, policy.scope, policy.scope, f"overrides.{position}.", False, len(conditions))
        conditions.append(Condition(override.match, via, frozenset(override.limits)))
        overrides.append((override, via))
    count = len(above.conditions)
    return Place(
        Conditions(conditions) if overrides else above.conditions,
        (1 << count) - 1,
        tuple(overrides),
        above.exceptions,
        above.amended,
    )


def _excepted(place: Place, active: list[tuple[int, Exemption]]) -> Place:
    """The same place with the exceptions of its own scope that are in force."""
    if not active:
        return place
    conditions = list(place.conditions)
    exceptions = []
    taken = {each.via.ref for each in conditions}
    for position, exception in active:
        bit = len(conditions) if exception.match else None
        ref = exception.ref if exception.ref not in taken else f"{exception.ref} #{position}"
        via = Via(ref, exception.scope, exception_key(position), "", True, bit)
        if exception.match:
            named = frozenset(exception.limits), frozenset(exception.budgets)
            conditions.append(Condition(exception.match, via, *named))
            taken.add(ref)
        exceptions.append((exception, via))
    return Place(
        Conditions(conditions) if len(conditions) > len(place.conditions) else place.conditions,
        place.inherited,
        place.overrides,
        (*place.exceptions, *exceptions),
        place.amended.union(*(exception.limits for exception, _ in exceptions)),
    )
