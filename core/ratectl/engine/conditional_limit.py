"""Limits whose parameters depend on the request: which conditions hold, and the plan for them.

Conditions are opaque to the engine. For each attribute that any condition mentions, it asks which
conditions a value leaves possible, remembers the answer, and intersects the answers. So the cost of
choosing depends on the number of these attributes alone, not on the number of conditions, and
requests to limits without conditions have no such cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl.engine.buckets.counters import exact_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ratectl.engine.algorithms.protocol import Extent
    from ratectl.engine.limit_plan import Identity, LimitPlan

__all__ = ["Conditions", "LimitChoice", "Mask", "Numbering", "plan_of"]

Mask = int
"""Set of conditions: bit i for the i-th along the path."""

_REMEMBERED: Final = 4_096
"""Most values of one attribute, and most sets of conditions, that are remembered."""

_LONG: Final = 256


class Conditions:
    """Conditions along the path of a scope: a function from attributes to the ones that hold.

    ``possible(name, value)`` returns the conditions that a value of the attribute does not rule
    out. Not thread-safe: the engine's lock guards it.
    """

    __slots__ = ("_all", "_known", "_possible", "attributes")

    def __init__(
        self,
        attributes: tuple[str, ...],
        count: int,
        possible: Callable[[str, str | None], Mask],
    ) -> None:
        self.attributes = attributes
        self._all: Mask = (1 << count) - 1
        self._possible = possible
        self._known: list[tuple[str, dict[object, Mask]]] = [(name, {}) for name in attributes]

    def holding(self, attributes: Mapping[str, str]) -> Mask:
        """Return the conditions that hold for a request."""
        mask = self._all
        for bits in self.masks(attributes):
            mask &= bits
        return mask

    def masks(self, attributes: Mapping[str, str]) -> list[Mask]:
        """Return, for each attribute, the conditions that its value leaves possible."""
        masks = []
        for name, known in self._known:
            value: object = attributes.get(name)
            if value is not None and type(value) is not str:
                value = exact_text(value)
            bits = known.get(value)
            masks.append(self._learn(name, value, known) if bits is None else bits)
        return masks

    def _learn(self, name: str, value: Any, known: dict[object, Mask]) -> Mask:
        bits = self._possible(name, value)
        if value is None or len(value) <= _LONG:
            _remember(known, value, bits)
        return bits


class Numbering:
    """Conditions that touch a limit, as bits of a *local* mask.

    ``positions`` are their places along the path, and ``refs`` their names. Limits of many scopes
    share one numbering, as it is large: one entry for each condition. The engine's lock guards it.
    """

    __slots__ = ("_local", "_named", "_numbers", "_relevant")

    def __init__(self, positions: Sequence[int], refs: Sequence[str]) -> None:
        self._numbers = {position: local for local, position in enumerate(positions)}
        self._relevant = _mask_of(positions)
        self._named = {ref: local for local, ref in enumerate(refs)}
        self._local: dict[Mask, Mask] = {}

    def local(self, mask: Mask) -> Mask:
        """Return the conditions of this limit among those that hold."""
        mask &= self._relevant
        local = self._local.get(mask)
        if local is None:
            local = sum(1 << self._numbers[position] for position in _positions(mask))
            _remember(self._local, mask, local)
        return local

    def named(self, refs: Iterable[str]) -> Mask | None:
        """Return the local mask of the conditions of these names; None if one is unknown."""
        local = 0
        for ref in refs:
            number = self._named.get(ref)
            if number is None:
                return None
            local |= 1 << number
        return local


class LimitChoice:
    """A limit or budget that has one plan for each set of conditions that touches it.

    Its sets of conditions are local (``numbering``), so that it is independent of the conditions of
    other limits. ``shape`` is equal in two generations exactly if equal local masks mean the same
    requests and the same buckets; ``content`` if the plans are equal as well. ``make`` returns the
    plan of a local mask, from plain data, and must not fail; None means that nothing is decided.
    """

    __slots__ = (
        "_make", "_plans", "budget", "conditions", "content", "extent", "local", "name", "named",
        "numbering", "scope", "shape",
    )  # fmt: skip

    def __init__(
        self,
        scope: str,
        name: str,
        *,
        budget: bool,
        conditions: Conditions,
        numbering: Numbering,
        shape: object,
        content: object,
        extent: Extent,
        make: Callable[[Mask], LimitPlan | None],
    ) -> None:
        self.scope = scope
        self.name = name
        self.budget = budget
        self.conditions = conditions
        self.numbering = numbering
        self.local = numbering.local
        self.named = numbering.named
        self.shape = shape
        self.content = content
        self.extent = extent
        self._make = make
        self._plans: dict[Mask, LimitPlan | None] = {}

    @property
    def identity(self) -> Identity:
        return (self.scope, self.name, self.budget)

    def plan(self, local: Mask) -> LimitPlan | None:
        """Return the plan under exactly these of its conditions; None if nothing is decided."""
        try:
            return self._plans[local]
        except KeyError:
            plan = self._make(local)
            _remember(self._plans, local, plan)
            return plan


def plan_of(limit: LimitPlan | LimitChoice, attributes: Mapping[str, str]) -> LimitPlan | None:
    """Return the plan of a limit for a request; None if it decides nothing there."""
    if not isinstance(limit, LimitChoice):
        return limit
    return limit.plan(limit.local(limit.conditions.holding(attributes)))


def _positions(mask: Mask) -> Iterator[int]:
    while mask:
        bit = mask & -mask
        yield bit.bit_length() - 1
        mask ^= bit


def _mask_of(positions: Sequence[int]) -> Mask:
    """Return the mask with these positions, in linear time."""
    marks = bytearray(max(positions, default=0) // 8 + 1)
    for position in positions:
        marks[position >> 3] |= 1 << (position & 7)
    return int.from_bytes(marks, "little")


def _remember(known: dict[Any, Any], key: object, value: object) -> None:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value
