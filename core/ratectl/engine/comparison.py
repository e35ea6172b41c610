"""Telling whether two generations say the same, where they share most of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratectl.engine.conditional_limit import LimitChoice

__all__ = ["Comparison"]


class Comparison:
    """Whether two generations say the same of limits: what many scopes inherit is compared once.

    What is compared lives as long as both generations do.
    """

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], bool] = {}

    def same(self, one: object, other: object) -> bool:
        """Equality, pair by pair: a scope's part and, nested, those of the scopes above."""
        if one is other:
            return True
        pair = (id(one), id(other))
        known = self.known.get(pair)
        if known is None:
            if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other) == 2:
                known = self.same(one[0], other[0]) and self.same(one[1], other[1])
            else:
                known = one == other
            self.known[pair] = known
        return known

    def choices(self, old: LimitChoice, new: LimitChoice) -> tuple[bool, bool]:
        """Whether they select the same buckets, and whether for the same parameters."""
        return self.same(old.shape, new.shape), self.same(old.content, new.content)
