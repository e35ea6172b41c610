"""Choices: the limits of a scope that depend on the request, as the engine chooses among them.

Resolution numbers overrides and exceptions as conditions (``policy.resolution.conditions``). Here
they become the engine's ``Conditions`` and, for each limit or budget that any of them touches, a
``LimitChoice`` with its ``Recipe``. These hold no policies: those can be freed after compilation.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.compiler.bucket_lifetime import extent_of
from ratectl.compiler.matching import PossibleConditions, plain_match
from ratectl.compiler.recipe import Layer, Recipe, declared_fields
from ratectl.engine.algorithms.protocol import Extent
from ratectl.engine.conditional_limit import Conditions, LimitChoice, Numbering
from ratectl.policy.language.scopes import ancestry, parent
from ratectl.policy.resolution.conditions import NO_CONDITIONS
from ratectl.runtime.cooperative import Kept, paced

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ratectl.compiler.matching import PlainMatch
    from ratectl.compiler.recipe import Chain, Fields
    from ratectl.compiler.surroundings import Surroundings
    from ratectl.policy.language.model import (
        Cap,
        Exemption,
        LimitFields,
        Override,
        Policy,
        PolicyTree,
    )
    from ratectl.policy.resolution.conditions import PathConditions
    from ratectl.policy.resolution.effective_limit import Via
    from ratectl.policy.resolution.resolver import Resolver

__all__ = ["Choices"]

Part = tuple[Any, ...] | None
"""Shape of one limit in the documents of a path, nested: (of the scopes above, of this one)."""

_NO_EXTENT: Final = Extent(0, 0, 0)


class _Definition(NamedTuple):
    """Definition of one limit by the documents of a path (see ``LimitChoice``)."""

    shape: Part = None
    chain: Chain = None
    extent: Extent = _NO_EXTENT
    touching: int = 0
    """Number of conditions on the path that touch the limit."""


class _Document:
    """Overrides and exceptions of one scope, by the name of the limit that they set."""

    def __init__(self, scope: str, place: PathConditions) -> None:
        self.overrides: dict[str, list[tuple[Override, Via, PlainMatch]]] = {}
        for override, via in paced(place.overrides):
            match = plain_match(override.match)
            for name in override.limits.keys() | override.caps.keys():
                self.overrides.setdefault(name, []).append((override, via, match))
        self.exceptions: dict[str, list[tuple[Exemption, Via]]] = {}
        for exception, via in place.exceptions:
            if exception.scope == scope:
                for name in exception.limits:
                    self.exceptions.setdefault(name, []).append((exception, via))


_NO_CONDITIONS: Final = _Document("", NO_CONDITIONS)


class Choices:
    """Maker of the choices of one compilation. Scopes with the same conditions share parts."""

    def __init__(self, tree: PolicyTree, resolver: Resolver, surroundings: Surroundings) -> None:
        self._policies = tree.policies
        self._resolver = resolver
        self._surroundings = surroundings
        self._unset = {name for policy in paced(tree.policies.values()) for name in policy.unset}
        self._documents: dict[str, _Document] = {}
        self._conditions: dict[int, Conditions] = {}
        self._numberings: dict[tuple[int, str], Numbering] = {}
        self._definitions: dict[tuple[str, str], _Definition] = {}
        self._kept = Kept(*self.kept)
        """Containers to keep alive: buckets may still use choices of an earlier generation."""

    @property
    def kept(self) -> tuple[Mapping[Any, object], ...]:
        """Containers that choices keep alive, to be freed piece by piece (see ``cooperative``)."""
        return self._definitions, self._numberings, self._conditions

    @property
    def workings(self) -> tuple[Mapping[Any, object], ...]:
        """Containers that are not needed after the compilation."""
        return (self._documents,)

    def conditions(self, place: PathConditions) -> Conditions | None:
        """Return the engine's conditions at a scope; None if nothing depends on the request."""
        if not place.conditions:
            return None
        known = self._conditions.get(id(place.conditions))
        if known is None:
            index = place.conditions.by_attribute
            known = Conditions(index.attributes, len(place.conditions), PossibleConditions(index))
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
        numbering = self._numberings.get((id(place.conditions), name))
        if numbering is None:
            numbering = _numbering(place, positions)
            self._numberings[id(place.conditions), name] = numbering
        definition = self._definition(scope, name)
        return self._choice(scope, place, name, numbering, definition, budget=False)

    def _choice(
        self,
        scope: str,
        place: PathConditions,
        name: str,
        numbering: Numbering,
        definition: _Definition,
        *,
        budget: bool,
    ) -> LimitChoice:
        conditions = self.conditions(place)
        assert conditions is not None
        chain = definition.chain
        return LimitChoice(
            scope, name, budget=budget, conditions=conditions, numbering=numbering,
            shape=definition.shape, content=chain, extent=definition.extent,
            make=Recipe(scope, name, chain, self._surroundings, self._kept, budget=budget),
        )  # fmt: skip

    def budget(self, scope: str, place: PathConditions, name: str) -> LimitChoice | None:
        """Return the choice of a budget; None if it does not depend on the request."""
        positions = [
            position
            for position, condition in enumerate(place.conditions)
            if name in condition.budgets and not place.inherited >> position & 1
        ]
        if not positions:
            return None
        declared = self._policies[scope].budgets[name]
        exceptions = [
            (exception, via, exception.budgets[name])
            for exception, via in place.exceptions
            if exception.scope == scope and name in exception.budgets
        ]
        layer = Layer(
            scope, False, declared_fields(declared), 0, (),
            _numbered(exceptions, 0), None,
        )  # fmt: skip
        extent = _extent([declared, *(fields for _, _, fields in exceptions)])
        shape = (_fields_shape(declared), _matched([exception for exception, _, _ in exceptions]))
        definition = _Definition(shape, (None, layer), extent)
        numbering = _numbering(place, positions)
        return self._choice(scope, place, name, numbering, definition, budget=True)

    def _definition(self, scope: str, name: str) -> _Definition:
        """Return the definition of a limit at a scope, from its whole path."""
        known = self._definitions.get((scope, name))
        if known is not None:
            return known
        up = parent(scope)
        above = _Definition() if up is None else self._definition(up, name)
        policy = self._policies.get(scope)
        definition = above if policy is None else self._own_definition(above, policy, name)
        self._definitions[scope, name] = definition
        return definition

    def _own_definition(self, above: _Definition, policy: Policy, name: str) -> _Definition:
        """Return the definition of a limit by the documents of one scope and those above."""
        document = self._document(policy)
        declared = policy.limits.get(name)
        overrides = document.overrides.get(name, [])
        amended = document.exceptions.get(name, [])
        unset, cap = name in policy.unset, policy.caps.get(name)
        if not (unset or declared or overrides or amended or cap):
            return above
        exceptions = [(exception, via, exception.limits[name]) for exception, via in amended]
        matched = _matched([exception for exception, _ in amended])
        shape = above.shape
        if unset or declared or overrides or matched:
            own = (
                policy.scope, unset, _fields_shape(declared),
                tuple([(override.name, match, _fields_shape(override.limits.get(name)),
                        name in override.caps) for override, _, match in paced(overrides)]),
                matched,
            )  # fmt: skip
            shape = (above.shape, own)
        numbers = above.touching + len(overrides)
        layer = Layer(
            policy.scope, unset, declared_fields(declared) if declared else None, above.touching,
            tuple([(via.ref, _fields_of(override.limits.get(name)),
                    _fields_of(override.caps.get(name))) for override, via, _ in paced(overrides)]),
            _numbered(exceptions, numbers), self._cap(policy.scope, name) if cap else None,
        )  # fmt: skip
        set_fields: list[LimitFields | Cap | None] = [
            part.get(name)
            for override, _, _ in overrides
            for part in (override.limits, override.caps)
        ]
        set_fields += [fields for _, _, fields in exceptions]
        extent = above.extent.joined(_extent([declared, cap, *set_fields]))
        return _Definition(shape, (above.chain, layer), extent, numbers + len(matched))

    def _document(self, policy: Policy) -> _Document:
        document = self._documents.get(policy.scope)
        if document is None:
            place = self._resolver.conditions.at(policy.scope)
            if not (place.overrides or place.exceptions):
                return _NO_CONDITIONS
            document = self._documents[policy.scope] = _Document(policy.scope, place)
        return document

    def _cap(self, scope: str, name: str) -> Fields:
        """Return the tightest cap on the path of a scope."""
        resolved = self._resolver.at(scope)
        assert resolved is not None
        return tuple([(field, setting.value) for field, setting in resolved.caps[name].items()])


def _extent(declared: Iterable[LimitFields | Cap | None]) -> Extent:
    extents = [extent_of(fields) for fields in declared if fields is not None]
    return reduce(Extent.joined, extents, _NO_EXTENT)


def _numbering(place: PathConditions, positions: list[int]) -> Numbering:
    refs = [place.conditions[position].via.ref for position in paced(positions)]
    return Numbering(positions, refs)


def _numbered(
    exceptions: Iterable[tuple[Exemption, Via, LimitFields]], first: int
) -> tuple[tuple[str, int | None, Fields], ...]:
    """Return the exceptions of a layer. Those with a match are numbered from ``first``."""
    numbered = []
    for _, via, fields in exceptions:
        number = None if via.bit is None else first
        first += number is not None
        numbered.append((via.ref, number, declared_fields(fields)))
    return tuple(numbered)


def _matched(exceptions: Iterable[Exemption]) -> tuple[tuple[str, PlainMatch], ...]:
    """Return names and matches of the exceptions that are not for every request."""
    return tuple(
        [
            (exception.ref, plain_match(exception.match))
            for exception in exceptions
            if exception.match
        ]
    )


def _fields_of(declared: LimitFields | Cap | None) -> Fields | None:
    return None if declared is None else declared_fields(declared)


def _fields_shape(declared: LimitFields | None) -> Part:
    """Return the names of the fields, and the values of the ones that select a bucket."""
    if declared is None:
        return None
    named = frozenset(name for name, value in declared.__dict__.items() if value is not None)
    return named, declared.algorithm, declared.per, declared.unit
