"""Choices: the limits of a scope that depend on the request, as the engine chooses among them.

Resolution numbers overrides and exceptions as conditions (``policy.resolution.conditions``). Here
they become the engine's ``Conditions`` and, for each limit or budget that any of them touches, a
``LimitChoice``.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.compiler.bucket_lifetime import extent_of
from ratectl.engine.algorithms.protocol import Extent
from ratectl.engine.conditional_limit import Conditions, LimitChoice, Numbering
from ratectl.policy.language.scopes import ancestry, parent
from ratectl.runtime.cooperative import Kept, paced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ratectl.engine.limit_plan import LimitPlan
    from ratectl.policy.language.model import Cap, LimitFields, Override, Policy, PolicyTree
    from ratectl.policy.resolution.conditions import PathConditions
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.resolution.resolver import Resolver

__all__ = ["Choices"]

Part = tuple[Any, ...] | None
"""Content of one limit in the documents of a path, nested: (of the scopes above, of this one)."""

_NO_EXTENT: Final = Extent(0, 0, 0)


class _Definition(NamedTuple):
    """Definition of one limit by the documents of a path (see ``LimitChoice``)."""

    shape: Part = None
    content: Part = None
    extent: Extent = _NO_EXTENT


class Choices:
    """Maker of the choices of one compilation. Scopes with the same conditions share parts."""

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
        self._definitions: dict[tuple[str, str], _Definition] = {}
        self._kept: Kept | None = None
        """Containers to keep alive: buckets may still use choices of an earlier generation."""

    @property
    def workings(self) -> tuple[Mapping[Any, object], ...]:
        """Containers that were filled, to be freed piece by piece (see ``cooperative``)."""
        return self._definitions, self._numberings

    def conditions(self, place: PathConditions) -> Conditions | None:
        """Return the engine's conditions at a scope; None if nothing depends on the request."""
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
        """Return the choices of a scope by the name of the limit, in the order of conditions."""
        return {
            name: self._limit(scope, place, name, positions)
            for name, positions in place.conditions.by_limit.items()
            if not self._gone(scope, place, name, positions)
        }

    def _gone(self, scope: str, place: PathConditions, name: str, positions: list[int]) -> bool:
        """Return True if the path unsets a limit below the last override that sets it."""
        if name not in self._unset:
            return False
        last = next((up for up in ancestry(scope) if self._unsets(up, name)), None)
        if last is None:
            return False
        sources = [place.conditions[position].via for position in positions]
        # A document may define again what it unsets, and exceptions are merged after the walk.
        return all(not via.exception and len(via.source) < len(last) for via in sources)

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
        shape, content, extent = self._definition(scope, name)

        def make(matched: int) -> LimitPlan | None:
            limit = self._resolver.limit(scope, name, matched)
            return None if limit is None else self._plan(scope, limit, False)

        return LimitChoice(
            scope, name, budget=False, conditions=conditions, numbering=numbering,
            shape=shape, content=content, extent=extent, make=make,
        )  # fmt: skip

    def budget(self, scope: str, place: PathConditions, name: str) -> LimitChoice | None:
        """Return the choice of a budget; None if it does not depend on the request."""
        positions, matches = [], []
        for position, condition in enumerate(place.conditions):
            if name in condition.budgets and not place.inherited >> position & 1:
                positions.append(position)
                matches.append((condition.via.ref, _match(condition.match)))
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

        shape = (_fields_shape(fields), tuple(matches))
        return LimitChoice(
            scope, name, budget=True, conditions=conditions,
            numbering=Numbering(positions, _refs(place, positions)), shape=shape,
            content=(fields, amended, tuple(matches)), extent=_extent([fields, *amended]),
            make=make,
        )  # fmt: skip

    def _definition(self, scope: str, name: str) -> _Definition:
        """Return the definition of a limit at a scope, from its whole path."""
        known = self._definitions.get((scope, name))
        if known is not None:
            return known
        up = parent(scope)
        above = _Definition() if up is None else self._definition(up, name)
        policy = self._policies.get(scope)
        definition = above
        if policy is not None:
            own = self._own_definition(policy, name)
            definition = _Definition(
                (above.shape, own.shape) if own.shape else above.shape,
                (above.content, own.content) if own.content else above.content,
                above.extent.joined(own.extent),
            )
        self._definitions[scope, name] = definition
        return definition

    def _own_definition(self, policy: Policy, name: str) -> _Definition:
        """Return the definition of a limit by one scope's own documents."""
        declared = policy.limits.get(name)
        overrides = [override for override in policy.overrides if name in override.limits]
        place = self._resolver.conditions.at(policy.scope)
        exceptions = [
            exception
            for exception, _ in place.exceptions
            if exception.scope == policy.scope and name in exception.limits
        ]
        unset, cap = name in policy.unset, policy.caps.get(name)
        shape: Part = None
        matched = [
            (exception.ref, _match(exception.match)) for exception in exceptions if exception.match
        ]
        if unset or declared or overrides or matched:
            shape = (
                policy.scope, unset, declared and _fields_shape(declared),
                tuple([_override_shape(override, name) for override in overrides]), tuple(matched),
            )  # fmt: skip
        if not (shape or cap or exceptions):
            return _Definition()
        content: Part = (
            policy.scope, unset, declared, cap,
            [(override.name, _match(override.match), override.limits[name])
             for override in overrides],
            [(exception.ref, exception.match, exception.limits[name]) for exception in exceptions],
        )  # fmt: skip
        fields = [override.limits[name] for override in overrides]
        fields += [exception.limits[name] for exception in exceptions]
        return _Definition(shape, content, _extent([declared, cap, *fields]))


def _extent(declared: Iterable[LimitFields | Cap | None]) -> Extent:
    extents = [extent_of(fields) for fields in declared if fields is not None]
    return reduce(Extent.joined, extents, _NO_EXTENT)


def _refs(place: PathConditions, positions: list[int]) -> list[str]:
    return [place.conditions[position].via.ref for position in positions]


def _override_shape(override: Override, name: str) -> Part:
    return override.name, _match(override.match), _fields_shape(override.limits[name])


def _match(match: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted(match.items()))


def _fields_shape(declared: LimitFields) -> Part:
    """Return the names of the fields, and the values of the ones that select a bucket."""
    named = frozenset(name for name, value in declared.__dict__.items() if value is not None)
    return named, declared.algorithm, declared.per
