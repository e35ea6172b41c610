"""Removal of an entry of the roster by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.cluster.entries import put_unowned, read_roster
from ratectl.errors import Conflict, NotFound, Refused
from ratectl.records import member_key
from ratectl.stores.base import Compare, Delete

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.cluster.entries import RosterState
    from ratectl.stores.base import Store

__all__ = ["forget"]

_ATTEMPTS: Final = 8


def forget(
    store: Store, member: str, wait: Callable[[], object] = lambda: None, *, force: bool = False
) -> int:
    """Remove the entry of a member that is gone; return its share, which nobody owns then.

    Another member adopts the share (``Roster.adopt``). Without this command, members remove an
    entry by themselves when it is old.

    **Danger.** A member that still runs uses its share until it tries to renew its entry, or until
    the entry would be old. For that time the share may be used twice, and more requests are
    admitted than the limit allows. The check finds such a member only if it renews its entry during
    ``wait``, so a short wait proves nothing: be sure that the process has ended.

    :param wait: returns after the time for which the entry is watched.
    :param force: do not watch the entry, and remove it also if it is renewed.
    :raises NotFound: the roster has no such entry.
    :raises Refused: the entry was written while it was watched.
    :raises Conflict: others wrote at every attempt.
    :raises StoreError: the store does not answer, or the outcome is unknown.
    """
    roster = read_roster(store)
    seen = _signs_of_life(roster, member)
    if not force:
        wait()
    for _ in range(_ATTEMPTS):
        roster = read_roster(store)
        if _signs_of_life(roster, member) != seen and not force:
            raise Refused(
                f"member {member} has renewed its entry just now, so it runs: stop it first; or "
                "use --force, and its share may be used twice for a while"
            )
        share = roster.left_by(member)
        result = store.txn(
            [Compare(member_key(member), roster.revision_of(member)), roster.record_unchanged],
            [Delete(member_key(member)), put_unowned((roster.unowned or 0) + share)],
        )
        if result.ok:
            return share
    raise Conflict("others change the roster at the same time: try again")


def _signs_of_life(roster: RosterState, member: str) -> int:
    """Return a number that changes with every renewal.

    :raises NotFound: the roster has no such entry.
    """
    entry = roster.entries.get(member)
    if entry is not None:
        return entry.record.renewed
    if member not in roster.damaged:
        raise NotFound(f"the roster has no member {member}")
    return -roster.damaged[member]
