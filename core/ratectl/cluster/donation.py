"""Which member gives a part of its share to which, so that shares become equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Donation", "donation"]


class Donation(NamedTuple):
    """A part of a share that one member gives to another."""

    to: str
    part: int
    """Millionths."""


def donation(shares: Mapping[str, int], me: str) -> Donation | None:
    """Return what a member should give away now; None if it should give nothing.

    A member gives if its share is more than 25 % above the equal share: moving a share costs a
    pause, so small differences stay. It also gives what it has above the equal share while somebody
    has less than half of that: such a process has too little of keys that are rarely asked for.

    The member with the most gives to the one with the least, the second to the second, and so on.
    So members that decide at the same time, by the same roster, give to different members, and
    nobody gets more than the equal share.

    :param shares: shares of all members that renew their entries, in millionths.
    """
    count = len(shares)
    total = sum(shares.values())
    equal = total // max(count, 1)
    order = sorted(shares, key=lambda member: (shares[member], member))
    takers = [member for member in order if shares[member] < equal]
    is_needed = any(2 * shares[member] < equal for member in takers)
    most = equal if is_needed else total * 5 // max(count * 4, 1)
    givers = [member for member in reversed(order) if shares[member] > most]
    if me not in givers or givers.index(me) >= len(takers):
        return None
    to = takers[givers.index(me)]
    return Donation(to, min(shares[me] - equal, equal - shares[to]))
