"""A cluster of a few members and one owner, for tests that direct every request."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from ratectl.cluster.protocol.capacity import GRAINS, WHOLE, Size, size_of
from ratectl.cluster.protocol.lender import Lender
from ratectl.cluster.protocol.messages import OwnerId, PoolId
from ratectl.cluster.protocol.owner import Owner
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND, Timing
from simulation.buckets import Central, DictWallets, OwnBuckets

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from ratectl.cluster.protocol.messages import ToMember, ToOwner

ONE = PoolId("one", "")
KEYED = PoolId("keyed", "a")
TIMING = Timing(60 * MS, 0, 2 * MS, 300 * MS)


def limits(rate: int, burst: int) -> dict[str, Size]:
    """Return two limits of so many tokens a second."""
    size = size_of(rate, SECOND, burst, 0)
    return {"one": size, "keyed": size}


class SmallCluster:
    """Members lend to one owner. Every message takes as long as every other.

    :param loss: random messages are lost, and others take up to ten times as long.
    """

    def __init__(
        self,
        members: int,
        rate: int,
        burst: int,
        *,
        delay: int = MS,
        timing: Timing = TIMING,
        loss: random.Random | None = None,
    ) -> None:
        self.now = 0
        self.delay = delay
        self.loss = loss
        self.cut: set[str] = set()
        """Members that no message reaches, and that no message leaves."""
        self._count = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self.sizes = limits(rate, burst)
        self.shares = {f"m{i}": WHOLE // members for i in range(members)}
        self.owner = Owner(OwnerId("o", 1), timing, 0, lambda member: self.shares.get(member, 0))
        self.members: list[Lender] = []
        self.wallets: list[DictWallets] = []
        self.own: list[OwnBuckets] = []
        for name, share in self.shares.items():
            own, wallets = OwnBuckets(self.sizes, share, 0, True), DictWallets()
            lender = Lender(name, timing, wallets, own)
            lender.set_share(share)
            lender.set_sizes(self.sizes, (ONE,))
            self.members.append(lender)
            self.wallets.append(wallets)
            self.own.append(own)
        self.central = {pool: Central(self.sizes[pool.limit]) for pool in (ONE, KEYED)}

    def ask(self, i: int, pool: PoolId, cost: int = 1) -> bool:
        """Send a request to a member; fail if one central bucket would not have admitted it."""
        if self.members[i].lent:
            allowed = self.wallets[i].spend(pool, cost, self.now)
        else:
            allowed = self.own[i].spend(pool, cost, self.now)
        if allowed:
            assert self.central[pool].admit(cost, self.now) >= 0
        self._tick(i)
        return allowed

    def run(self, duration: int, each: Callable[[int], None] = lambda step: None) -> None:
        """Let time pass. Every millisecond the members and the owner do what is due.

        :param each: called with the number of each millisecond.
        """
        for step in range(duration // MS):
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            self._down(self.owner.tick(self.now))
            for i in range(len(self.members)):
                self._tick(i)
            each(step)
            self.now += MS

    def tokens(self, pool: PoolId) -> float:
        """Return the tokens in the pool and in all wallets."""
        limit = self.owner.limits[pool.limit]
        level = limit.pool(pool.key, self.now).level / GRAINS
        return level + sum(wallets.live(pool, self.now) for wallets in self.wallets)

    def _tick(self, i: int) -> None:
        self.up(i, self.members[i].tick(self.now, "o"))

    def up(self, i: int, messages: list[ToOwner]) -> None:
        for message in messages:
            self._later(f"m{i}", lambda m=message: self._down(self.owner.receive(m, self.now)))

    def _down(self, messages: list[ToMember]) -> None:
        for message in messages:
            i = int(message.member[1:])
            self._later(
                message.member,
                lambda m=message, i=i: self.up(i, self.members[i].receive(m, self.now)),
            )

    def _later(self, member: str, act: Callable[[], None]) -> None:
        delay = self.delay
        if self.loss is not None:
            if self.loss.random() < 0.1:
                return
            delay *= self.loss.randint(1, 10)
        if member not in self.cut:
            self._count += 1
            heapq.heappush(self._events, (self.now + delay, self._count, act))
