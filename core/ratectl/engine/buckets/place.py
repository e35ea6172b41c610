"""Place: a bucket at which requests wait for their turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratectl.engine.buckets.bucket_set import Group
    from ratectl.engine.buckets.counters import Key

__all__ = ["Place"]


class Place:
    """One bucket. Places are equal if they are the same bucket, also across changes of its limit.

    An identity that leaves and comes back has the same places.
    """

    __slots__ = ("_hash", "_identity", "group", "key")

    def __init__(self, group: Group, key: Key) -> None:
        self.group = group
        self.key = key
        self._identity = (*group.identity, group.overrides, group.unit, key)
        self._hash = hash(self._identity)

    @property
    def scope(self) -> str:
        """Declared scope of the bucket."""
        return self.group.scope

    @property
    def limit(self) -> str:
        """Name of the limit or budget."""
        return self.group.name

    @property
    def unit(self) -> str:
        """Unit that the limit counts."""
        return self.group.unit

    @property
    def capacity(self) -> int:
        """Cost that the full bucket admits at once."""
        return self.group.algorithm.capacity

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self._identity == other._identity

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"<Place {self.limit}@{self.scope}, key {self.key!r}>"
