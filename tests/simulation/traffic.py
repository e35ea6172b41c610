"""Traffic on a healthy cluster: how much of what one central bucket admits is admitted."""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ratectl.cluster.protocol.capacity import GRAINS, WHOLE, Size, size_of
from ratectl.cluster.protocol.lender import Lender
from ratectl.cluster.protocol.messages import OwnerId, PoolId
from ratectl.cluster.protocol.owner import Owner
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND, Timing
from simulation.buckets import Central, CentralWindow, DictWallets, OwnBuckets

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.cluster.protocol.messages import ToMember, ToOwner

ONE: Final = PoolId("one", "")
_BIN: Final = 50 * MS


@dataclass
class Result:
    """Measured figures."""

    used: float
    """Admitted here, of what the central bucket admits, from the third second on."""
    excess: float
    """Tokens beyond burst + rate · window, in the worst window."""
    wrongly_refused: float
    """Requests that the central bucket admits more of, as a part of all requests."""
    converged: list[float] = field(default_factory=list)
    """Seconds after each move of the hot spot until 97 % are used again."""
    messages: float = 0
    """Messages for each second, of both directions."""


@dataclass
class Traffic:
    """A cluster, and the requests for one limit."""

    members: int = 20
    rate: int = 1_000
    burst: int = 1_000
    window: int = 0
    """Nanoseconds in which ``burst`` is admitted; then ``rate`` is what requests come by. 0: a
    token bucket."""
    round_trip: int = 2 * MS
    load: float = 3
    pattern: str = "move"
    """``move``: a tenth of the members gets 90 %, another tenth every ``every`` seconds. ``onoff``:
    a tenth of the members is busy at a time. ``even``: every member alike."""
    seconds: int = 20
    every: int = 10
    lease: int = 500 * MS
    owner_dies_at: int | None = None
    """Second."""
    seed: int = 1

    @property
    def size(self) -> Size:
        """Size of the limit."""
        if self.window:
            return Size(0, self.burst, self.window)
        return size_of(self.rate, SECOND, self.burst, 0)

    def central(self) -> Central | CentralWindow:
        """Return what one central limiter would have."""
        return CentralWindow(self.size) if self.window else Central(self.size)

    def run(self) -> Result:
        return _Run(self).run()


class _Run:
    def __init__(self, of: Traffic) -> None:
        self.of = of
        self.rnd = random.Random(of.seed)
        self.timing = Timing(of.lease, 0)
        size = {"one": of.size}
        self.events: list[tuple[int, int, Callable[[int], None]]] = []
        self.count = self.messages = 0
        self.members: list[tuple[Lender, DictWallets, OwnBuckets]] = []
        self.shares = {f"m{i}": WHOLE // of.members for i in range(of.members)}
        for name, share in self.shares.items():
            own, wallets = OwnBuckets(size, share, 0, True), DictWallets()
            lender = Lender(name, self.timing, wallets, own)
            lender.set_share(share)
            lender.set_sizes(size, (ONE,))
            self.members.append((lender, wallets, own))
        self.owner = self._owner(1, 0)
        for i in range(of.members):
            self.at(self.rnd.randrange(50 * MS), lambda now, i=i: self._timer(i, now))  # type: ignore[misc]
        self.at(0, self._owner_timer)

    def _owner(self, incarnation: int, now: int) -> Owner:
        return Owner(OwnerId("o", incarnation), self.timing, now, lambda m: self.shares[m])

    def at(self, when: int, act: Callable[[int], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (when, self.count, act))

    def _delay(self) -> int:
        return int(self.of.round_trip * 0.5 * self.rnd.uniform(0.8, 1.4))

    def _timer(self, i: int, now: int) -> None:
        self._up(i, self.members[i][0].tick(now, "o"), now)
        self.at(now + 5 * MS, lambda t: self._timer(i, t))

    def _owner_timer(self, now: int) -> None:
        self._down(self.owner.tick(now), now)
        self.at(now + 2 * MS, self._owner_timer)

    def _up(self, i: int, messages: list[ToOwner], now: int) -> None:
        for message in messages:
            self.messages += 1
            self.at(
                now + self._delay(),
                lambda t, m=message: self._down(self.owner.receive(m, t), t),  # type: ignore[misc]
            )

    def _down(self, messages: list[ToMember], now: int) -> None:
        for message in messages:
            self.messages += 1
            i = int(message.member[1:])
            self.at(
                now + self._delay(),
                lambda t, m=message, i=i: self._up(i, self.members[i][0].receive(m, t), t),  # type: ignore[misc]
            )

    def _ask(self, i: int, now: int) -> bool:
        lender, wallets, own = self.members[i]
        allowed = wallets.spend(ONE, 1, now) if lender.lent else own.spend(ONE, 1, now)
        self._up(i, lender.tick(now, "o"), now)
        return allowed

    def run(self) -> Result:
        of = self.of
        arrivals = random.Random(of.seed * 7 + 1)
        central, ruler = of.central(), of.central()
        end = of.seconds * SECOND
        bins = [[0, 0] for _ in range(end // _BIN + 1)]
        here = there = offered = 0
        worst = 0
        hot: list[int] = []
        epoch = -1
        now = 0.0
        while True:
            now += arrivals.expovariate(of.load * of.rate / SECOND)
            t = int(now)
            if t >= end:
                break
            hot, epoch, who = self._who(arrivals, t, hot, epoch)
            while self.events and self.events[0][0] <= t:
                at, _, act = heapq.heappop(self.events)
                act(at)
            if of.owner_dies_at is not None and t >= of.owner_dies_at * SECOND:
                of = self.of = Traffic(**{**of.__dict__, "owner_dies_at": None})
                self.owner = self._owner(2, t)
            ideal = central.now(t) >= GRAINS
            if ideal:
                central.admit(1, t)
            allowed = self._ask(who, t)
            if allowed:
                worst = min(worst, ruler.admit(1, t))
            bins[t // _BIN][0] += allowed
            bins[t // _BIN][1] += ideal
            if t >= 3 * SECOND:
                here, there, offered = here + allowed, there + ideal, offered + 1
        return Result(
            here / there,
            -worst / GRAINS,
            max(0, there - here) / offered,
            self._converged(bins),
            self.messages / of.seconds,
        )

    def _who(
        self, rnd: random.Random, now: int, hot: list[int], epoch: int
    ) -> tuple[list[int], int, int]:
        of = self.of
        size = max(1, of.members // 10)
        if of.pattern == "even":
            return hot, epoch, rnd.randrange(of.members)
        length = of.every * SECOND if of.pattern == "move" else SECOND // 2
        if now // length != epoch:
            epoch = now // length
            others = [i for i in range(of.members) if i not in hot]
            hot = rnd.sample(others, min(size, len(others)))
        if of.pattern == "onoff" or rnd.random() < 0.9:
            return hot, epoch, rnd.choice(hot)
        return hot, epoch, rnd.randrange(of.members)

    def _converged(self, bins: list[list[int]]) -> list[float]:
        if self.of.pattern != "move":
            return []
        step = self.of.every * SECOND // _BIN
        times = []
        for start in range(step, len(bins) - 5, step):
            window: deque[list[int]] = deque(maxlen=4)
            for k in range(start, len(bins)):
                window.append(bins[k])
                if len(window) == 4 and sum(b[0] for b in window) >= 0.97 * sum(
                    b[1] for b in window
                ):
                    times.append((k - 3 - start) * _BIN / SECOND)
                    break
            else:
                times.append(float("inf"))
        return times
