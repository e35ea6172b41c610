"""Which conditions of a path can hold together, and which always do."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from ratectl.policy.language.matchers import covers_all, disjoint_somewhere

if TYPE_CHECKING:
    from ratectl.policy.resolution.conditions import Condition, Conditions

__all__ = ["OverlapIndex"]


class OverlapIndex:
    """Index of the conditions that can hold for one request; it does not compare all pairs.

    The key is the attribute for which most conditions list exact values: conditions are looked up
    by its values.
    """

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        listing = Counter(
            name
            for condition in conditions
            for name, matcher in condition.match.items()
            if matcher.exact
        )
        self._key = listing.most_common(1)[0][0] if listing else ""
        self._listed: dict[str, list[int]] = defaultdict(list)
        self._others: list[int] = []
        for position, condition in enumerate(conditions):
            values = self._values(condition)
            for value in values:
                self._listed[value].append(position)
            if not values:
                self._others.append(position)

    def _values(self, condition: Condition) -> tuple[str, ...]:
        matcher = condition.match.get(self._key)
        return (matcher.exact or ()) if matcher is not None else ()

    def maybe_with(self, position: int) -> list[int]:
        """Return the other conditions that may hold together with this one."""
        condition = self._conditions[position]
        values = self._values(condition)
        near = set(self._others)
        if values:
            near.update(other for value in values for other in self._listed[value])
        else:
            near = set(range(len(self._conditions)))
        near.discard(position)
        return [
            other
            for other in sorted(near)
            if not disjoint_somewhere(condition.match, self._conditions[other].match)
        ]

    def always_with(self, position: int) -> int:
        """Return the set of other conditions that hold whenever this one does."""
        match = self._conditions[position].match
        mask = 0
        for other in self.maybe_with(position):
            if covers_all(self._conditions[other].match, match):
                mask |= 1 << other
        return mask

    def held_with(self, position: int) -> int:
        """Return the set of other conditions that hold only if this one does."""
        match = self._conditions[position].match
        mask = 0
        for other in self.maybe_with(position):
            if covers_all(match, self._conditions[other].match):
                mask |= 1 << other
        return mask
