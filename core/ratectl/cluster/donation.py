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
    pause, so small differences stay. The member with the most gives to the one with the least, the
    second to the second, and so on. So members that decide at the same time, by the same roster,
    give to different members, and nobody gets more than the equal share.

    :param shares: shares of all members that renew their entries, in millionths.
    """
    count = len(shares)
    total = sum(shares.values())
    equal = total // max(count, 1)
    order = sorted(shares, key=lambda member: (shares[member], member))
    takers = [member for member in order if shares[member] < equal]
    givers = [member for member in reversed(order) if shares[member] * count * 4 > total * 5]
    if me not in givers or givers.index(me) >= len(takers):
        return None
    to = takers[givers.index(me)]
    return Donation(to, min(shares[me] - equal, equal - shares[to]))
