"""Past resets: what requests must not carry over from before an operator reset their bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.engine.buckets.counters import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ratectl.engine.buckets.changes import LimitName
    from ratectl.engine.buckets.counters import Key
    from ratectl.engine.limit_plan import GroupName, Identity

__all__ = ["PastResets", "ResetCounts"]

_MOST: Final = 10_000
"""Most resets that are remembered. Requests carry over more if one is forgotten."""

_Values = frozenset[tuple[str, "Key"]]


class ResetCounts(NamedTuple):
    """Buckets of one key that a reset found."""

    buckets: int
    """Buckets that were made full."""
    shared: int
    """Overflow buckets that the key shares with other keys: they stay as they are."""
    unlike: int
    """Groups of buckets that count per other attributes: they stay as they are."""


class PastResets:
    """Resets since publications that requests may still carry something over from."""

    def __init__(self) -> None:
        self._seqs: dict[tuple[Identity, _Values], set[int]] = {}
        self._identities: set[Identity] = set()

    def add(self, identity: Identity, attributes: Mapping[str, str | None], seq: int) -> None:
        """Remember a reset between publication ``seq`` and the next."""
        key = identity, _values(attributes, attributes)
        self._identities.add(identity)
        self._seqs.setdefault(key, set()).add(seq)
        if len(self._seqs) > _MOST:
            del self._seqs[next(iter(self._seqs))]

    def within(
        self, name: GroupName, since: int, until: int | None, attributes: Mapping[str, str]
    ) -> bool:
        """Return True if the bucket of a request in a group was reset between two publications.

        ``until`` None: up to now.
        """
        identity = name[:3]
        if identity not in self._identities:
            return False
        seqs = self._seqs.get((identity, _values(name[4], attributes)), ())
        return any(since <= seq and (until is None or seq < until) for seq in seqs)

    def forget(self, name: LimitName) -> None:
        """Forget the resets of the limits of a name."""
        self._seqs = {key: seqs for key, seqs in self._seqs.items() if key[0][1:] != name}
        self._identities = {identity for identity, _ in self._seqs}


def _values(names: Iterable[str], attributes: Mapping[str, str | None]) -> _Values:
    return frozenset([(name, plain(attributes.get(name))) for name in names])
