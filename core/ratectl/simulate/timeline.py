"""Timeline: counts in a bounded number of time buckets, for a log of any length."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from ratectl.traffic.request import NS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Timeline"]

MAX_BUCKETS: Final = 120

_WIDTHS: Final = tuple(
    seconds * NS
    for seconds in (
        1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400, 604_800, 2_419_200,
    )
)  # fmt: skip
"""Usual widths of buckets; each is a multiple of the one before."""

Bucket = list[Counter[str]]


class Timeline:
    """Buckets of equal width, which begin at whole seconds, minutes or days.

    Each has a counter of reasons of decisions for every side. Times never go back.
    """

    def __init__(self, sides: int) -> None:
        self._sides = sides
        self._choice = 0
        self._buckets: dict[int, Bucket] = {}
        self.width_ns = _WIDTHS[0]

    def bucket(self, at: int) -> tuple[int, Bucket]:
        """Return the bucket of an instant, and the instant at which it ends."""
        if not self._buckets:
            return self._open(at)
        while at // self.width_ns - next(iter(self._buckets)) >= MAX_BUCKETS:
            self._widen()
        return self._open(at)

    def _open(self, at: int) -> tuple[int, Bucket]:
        number = at // self.width_ns
        bucket = self._buckets.setdefault(number, [Counter() for _ in range(self._sides)])
        return (number + 1) * self.width_ns, bucket

    def _widen(self) -> None:
        old = self.width_ns
        self._choice += 1
        self.width_ns = _WIDTHS[self._choice] if self._choice < len(_WIDTHS) else old * 2
        merged: dict[int, Bucket] = {}
        for number, bucket in self._buckets.items():
            into = merged.setdefault(
                number * old // self.width_ns, [Counter() for _ in range(self._sides)]
            )
            for mine, theirs in zip(into, bucket, strict=True):
                mine.update(theirs)
        self._buckets = merged

    @property
    def start_ns(self) -> int:
        """Start of the first bucket, in nanoseconds since 1970."""
        return next(iter(self._buckets), 0) * self.width_ns

    def buckets(self) -> list[Sequence[Counter[str]]]:
        """Return all buckets from the first to the last, empty ones too."""
        if not self._buckets:
            return []
        numbers = range(next(iter(self._buckets)), max(self._buckets) + 1)
        empty: Bucket = [Counter() for _ in range(self._sides)]
        return [self._buckets.get(number, empty) for number in numbers]
