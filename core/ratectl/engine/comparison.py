"""Comparison of two generations that share most of their content."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratectl.engine.conditional_limit import LimitChoice

__all__ = ["Comparison"]


class Comparison:
    """Equality of the limits of two generations: what many scopes inherit is compared once.

    Results are remembered by object identity, so both generations must outlive the comparison.
    """

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], bool] = {}

    def same(self, one: object, other: object) -> bool:
        """Return True if two values are equal.

        Pairs are compared part by part: the part of a scope and, nested, of the scopes above it.
        """
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
        """Return True, True if two choices select the same buckets, with the same parameters."""
        return self.same(old.shape, new.shape), self.same(old.content, new.content)
