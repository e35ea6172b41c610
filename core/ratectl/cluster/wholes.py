"""Limits that count per key, of which this process keeps no part for a while.

An owner asks for it: a request costs more than members lend otherwise. The part of a key and what
is lent of it are never together more than the share. So the part goes before more is lent, and
comes back, empty, after nobody counts what was lent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

__all__ = ["Wholes"]


class Wholes:
    """Which limits are lent whole, by the names of their pools."""

    def __init__(self) -> None:
        self._wanted: AbstractSet[str] = frozenset()
        self._leaving: set[str] = set()
        """Neither lent whole, nor kept in part: others may count the whole still."""
        self._since: dict[str, int] = {}
        """When parts began to come back: they were empty then."""

    def want(self, pools: AbstractSet[str]) -> bool:
        """Lend these whole, and no others; return True if that is new."""
        before, self._wanted = self._wanted, pools
        self._leaving = (self._leaving | before) - pools
        return before != pools

    def settle(self, now: int) -> bool:
        """Take note that nobody counts more than is lent; return True if parts come back."""
        left, self._leaving = self._leaving, set()
        self._since.update(dict.fromkeys(left, now))
        return bool(left)

    def since(self, pool: str) -> int | None:
        """Return when every part of a limit was empty the last time; None if they never were."""
        return self._since.get(pool)

    def is_lent(self, pool: str) -> bool:
        """Return True if a limit should be lent whole."""
        return pool in self._wanted

    def is_kept(self, pool: str) -> bool:
        """Return True if this process should keep a part of each key."""
        return pool not in self._wanted and pool not in self._leaving

    @property
    def are_leaving(self) -> bool:
        """True if parts come back as soon as nobody counts what was lent."""
        return bool(self._leaving)
