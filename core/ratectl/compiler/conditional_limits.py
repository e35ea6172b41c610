"""Choices: the limits of a scope that depend on the request, as the engine chooses among them.

Overrides and exceptions become numbered conditions (``resolution.conditions``); these become the
engine's ``Conditions`` and, for each limit or budget that any of them touches, a ``LimitChoice``.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.compiler.bucket_lifetime import said_extent
from ratectl.engine.conditional_limit import Conditions, Extent, LimitChoice, Numbering
from ratectl.policy.language.scopes import ancestry, parent
from ratectl.runtime.cooperative import Kept, paced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ratectl.engine.api import LimitPlan
    from ratectl.policy.language.model import Cap, LimitFields, Override, Policy, PolicyTree
    from ratectl.policy.resolution.conditions import PathConditions
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.resolution.resolver import Resolver

__all__ = ["Choices"]

Part = tuple[Any, ...] | None
"""What the documents of a path say of one limit, nested: (of the scope above, of this one)."""

_NO_EXTENT: Final = Extent(0, 0, 0)


class _Story(NamedTuple):
    """What the documents of a path make of a limit's choice (see ``LimitChoice``)."""

    shape: Part = None
    content: Part = None
    extent: Extent = _NO_EXTENT


class Choices:
    """Makes the choices of one compilation; scopes with the same conditions share them."""

    def __init__(
        self,
        tree: PolicyTree,
        resolver: Resolver,
        plan: Callable[[str, Limit, bool], LimitPlan | None],
    ) -> None:
        self._policies = tree.policies
        self._resolver = resolver
        self._plan = plan
        self._unset = {name for policy in paced(tree.policies.values()) for name in policy.unset}
        self._conditions: dict[int, Conditions] = {}
        self._numberings: dict[tuple[int, str], Numbering] = {}
        self._stories: dict[tuple[str, str], _Story] = {}
        self._kept: Kept | None = None
        """Buckets may go on from a choice of generations ago, and with it from all of this."""

    @property
    def workings(self) -> tuple[Mapping[Any, object], ...]:
        """What it remembers, for those that go through it when it is let go (``pacing``)."""
        return self._stories, self._numberings

    def conditions(self, place: PathConditions) -> Conditions | None:
        """What the engine evaluates at a scope; None where nothing depends on the request."""
        if not place.conditions:
            return None
        known = self._conditions.get(id(place.conditions))
        if known is None:
            self._kept = self._kept or Kept(*self._resolver.workings, *self.workings)
            index = place.conditions.by_attribute
            known = Conditions(index.attributes, len(place.conditions), index.possible)
            self._conditions[id(place.conditions)] = known
        return known

    def limits(self, scope: str, place: PathConditions) -> dict[str, LimitChoice]:
        """The choices of a scope by the name of the limit, in the order of their conditions."""
        return {
            name: self._limit(scope, place, name, positions)
            for name, positions in place.conditions.by_limit.items()
            if not self._gone(scope, place, name, positions)
        }

    def _gone(self, scope: str, place: PathConditions, name: str, positions: list[int]) -> bool:
        """Whether the path unsets a limit behind the last override that speaks of it."""
        if name not in self._unset:
            return False
        last = next((up for up in ancestry(scope) if self._unsets(up, name)), None)
        if last is None:
            return False
        vias = [place.conditions[position].via for position in positions]
        # What a document unsets it may say anew, and an exception comes after the walk.
        return all(not via.exception and len(via.source) < len(last) for via in vias)

    def _unsets(self, scope: str, name: str) -> bool:
        policy = self._policies.get(scope)
        return policy is not None and name in policy.unset

    def _limit(
        self, scope: str, place: PathConditions, name: str, positions: list[int]
    ) -> LimitChoice:
        conditions = self.conditions(place)
        assert conditions is not None
        numbering = self._numberings.get((id(place.conditions), name))
        if numbering is None:
            numbering = Numbering(positions, _refs(place, positions))
            self._numberings[id(place.conditions), name] = numbering
        shape, content, extent = self._story(scope, name)

        def make(matched: int) -> LimitPlan | None:
            limit = self._resolver.limit(scope, name, matched)
            return None if limit is None else self._plan(scope, limit, False)

        return LimitChoice(
            scope, name, budget=False, conditions=conditions, numbering=numbering,
            shape=shape, content=content, extent=extent, make=make,
        )  # fmt: skip

    def budget(self, scope: str, place: PathConditions, name: str) -> LimitChoice | None:
        """The choice of a budget; None where it does not depend on the request."""
        positions, said = [], []
        for position, condition in enumerate(place.conditions):
            if name in condition.budgets and not place.inherited >> position & 1:
                positions.append(position)
                said.append((condition.via.ref, _match(condition.match)))
        conditions = self.conditions(place)
        if not positions or conditions is None:
            return None
        fields = self._policies[scope].budgets[name]
        amended = [
            exception.budgets[name]
            for exception, _ in place.exceptions
            if exception.scope == scope and name in exception.budgets
        ]

        def make(matched: int) -> LimitPlan | None:
            resolved = self._resolver.where(scope, matched)
            for owner, limit in resolved.budgets if resolved else ():
                if owner == scope and limit.name == name:
                    return self._plan(scope, limit, True)
            return None

        shape = (_fields_shape(fields), tuple(said))
        return LimitChoice(
            scope, name, budget=True, conditions=conditions,
            numbering=Numbering(positions, _refs(place, positions)), shape=shape,
            content=(fields, amended, tuple(said)), extent=_extent([fields, *amended]), make=make,
        )  # fmt: skip

    def _story(self, scope: str, name: str) -> _Story:
        """The story of a limit at a scope, from its whole path."""
        known = self._stories.get((scope, name))
        if known is not None:
            return known
        up = parent(scope)
        above = _Story() if up is None else self._story(up, name)
        policy = self._policies.get(scope)
        story = above
        if policy is not None:
            own = self._said(policy, name)
            story = _Story(
                (above.shape, own.shape) if own.shape else above.shape,
                (above.content, own.content) if own.content else above.content,
                above.extent.joined(own.extent),
            )
        self._stories[scope, name] = story
        return story

    def _said(self, policy: Policy, name: str) -> _Story:
        """What one scope's own documents say of a limit."""
        said = policy.limits.get(name)
        overrides = [each for each in policy.overrides if name in each.limits]
        place = self._resolver.conditions.at(policy.scope)
        exceptions = [
            each
            for each, _ in place.exceptions
            if each.scope == policy.scope and name in each.limits
        ]
        unset, cap = name in policy.unset, policy.caps.get(name)
        shape: Part = None
        matched = [(each.ref, _match(each.match)) for each in exceptions if each.match]
        if unset or said or overrides or matched:
            shape = (
                policy.scope, unset, said and _fields_shape(said),
                tuple(map(_override_shape, overrides, [name] * len(overrides))), tuple(matched),
            )  # fmt: skip
        if not (shape or cap or exceptions):
            return _Story()
        content: Part = (
            policy.scope, unset, said, cap,
            [(each.name, _match(each.match), each.limits[name]) for each in overrides],
            [(each.ref, each.match, each.limits[name]) for each in exceptions],
        )  # fmt: skip
        fields = [each.limits[name] for each in overrides]
        fields += [each.limits[name] for each in exceptions]
        return _Story(shape, content, _extent([said, cap, *fields]))


def _extent(said: Iterable[LimitFields | Cap | None]) -> Extent:
    extents = [said_extent(each) for each in said if each is not None]
    return reduce(Extent.joined, extents, _NO_EXTENT)


def _refs(place: PathConditions, positions: list[int]) -> list[str]:
    return [place.conditions[position].via.ref for position in positions]


def _override_shape(override: Override, name: str) -> Part:
    return override.name, _match(override.match), _fields_shape(override.limits[name])


def _match(match: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted(match.items()))


def _fields_shape(said: LimitFields) -> Part:
    """Which fields are said, and the values of those that select a bucket."""
    named = frozenset(name for name, value in said.__dict__.items() if value is not None)
    return named, said.algorithm, said.per
