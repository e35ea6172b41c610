"""Rosters of several members in one store, and a store in which others are first."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, cast

from ratectl.cluster.entries import read_roster
from ratectl.cluster.protocol.timing import SECOND, Timing
from ratectl.cluster.roster import Roster
from ratectl.errors import OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.stores.base import Compare, Op, Store, TxnResult

LASTS: Final = 900 * SECOND
TIMING: Final = Timing()
OLD: Final = TIMING.stretched(LASTS) + 1
"""After this time an entry that was not renewed is overdue, if it was read twice before."""
WHOLE: Final = 1_000_000


class Meddler:
    """Store in which others write just before a transaction, or a reply is lost."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.before: list[Callable[[], object]] = []
        """Acts of others: one before each of the next transactions."""
        self.lose: list[bool] = []
        """Fates of the next transactions whose replies are lost: True if they are applied."""
        self.late: list[Callable[[], object]] = []
        """Transactions that were not applied and still may be."""
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def txn(self, compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        if self.before:
            self.before.pop(0)()
        if self.lose:
            if self.lose.pop(0):
                self._store.txn(compare, ops)
            else:
                self.late.append(lambda: self._store.txn(compare, ops))
            raise OutcomeUnknown("the reply was lost")
        result = self._store.txn(compare, ops)
        self.writes += result.ok
        return result


def meddled(store: Store) -> tuple[Meddler, Store]:
    """Return a meddler, also as a store."""
    meddler = Meddler(store)
    return meddler, cast("Store", meddler)


def new_roster(store: Store, name: str) -> Roster:
    """Return the roster of a member that has not joined."""
    return Roster(store, name, LASTS, TIMING)


def member(store: Store, name: str, now: int = 0) -> Roster:
    """Return the roster of a new member that has joined."""
    roster = new_roster(store, name)
    roster.join(f"{name}:7000", now)
    return roster


def dedicated(store: Store, name: str, now: int = 0) -> Roster:
    """Return the roster of a new dedicated owner that has joined."""
    roster = Roster(store, name, LASTS, TIMING, dedicated=True)
    assert roster.join(f"{name}:7000", now).share == 0
    return roster


def members(store: Store, **shares: int) -> list[Roster]:
    """Return rosters of new members with these shares. The first gives the others theirs."""
    first, *others = (member(store, name) for name in shares)
    for other in others:
        if shares[other.member]:
            first.give(other.member, shares[other.member])
    assert shares_in(store) == shares
    return [first, *others]


def shares_in(store: Store) -> dict[str, int]:
    """Return the share of each member that has an entry which can be read."""
    return {name: entry.share for name, entry in read_roster(store).entries.items()}


def owned_in(store: Store) -> int:
    """Return the sum of all shares, and of what nobody owns."""
    roster = read_roster(store)
    return sum(entry.share for entry in roster.entries.values()) + (roster.unowned or 0)


def run_together(count: int, act: Callable[[int], object]) -> None:
    """Run an act with the numbers below ``count``, in threads that start at the same time."""
    failures: list[BaseException] = []
    start = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            start.wait(30)
            act(number)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
