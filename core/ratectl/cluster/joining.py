"""Share and buckets with which a member begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.cluster.entries import put_unowned
from ratectl.records import WHOLE_SHARE

if TYPE_CHECKING:
    from ratectl.cluster.entries import RosterState
    from ratectl.stores.base import Op

__all__ = ["Joined", "beginning"]


class Joined(NamedTuple):
    """Share and buckets with which a member begins."""

    share: int
    """Millionths. Members that have one give some of it to members that have less."""
    starts_full: bool
    """True if nobody can have used the share before: the member's buckets begin full. Otherwise
    they begin empty. A process that has lost an entry used it until then, and begins empty even if
    the store has lost everything."""


def beginning(roster: RosterState, *, dedicated: bool) -> tuple[Joined, list[Op]]:
    """Return with what a member begins, and what it writes beside its entry.

    A dedicated owner writes nothing else: the first member that shares limits begins full.
    """
    if dedicated:
        return Joined(0, starts_full=False), []
    if roster.nobody_shares:
        return Joined(WHOLE_SHARE, starts_full=roster.record_revision == 0), [put_unowned(0)]
    if roster.unowned:
        return Joined(roster.unowned, starts_full=False), [put_unowned(0)]
    ops: list[Op] = [] if roster.record_revision else [put_unowned(0)]
    return Joined(0, starts_full=False), ops
