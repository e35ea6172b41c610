"""Bucket of a limit across the cluster: its tokens come from a wallet, and none accrue here.

Somebody else fills the wallet (see ``ratectl.cluster``). A decision only compares: the clock with
the wallet's deadline, and what was spent with what was granted. It never waits, and does no I/O.
"""

from __future__ import annotations

from typing import Any, Protocol

from ratectl.engine.algorithms.protocol import NEVER, Algorithm, Extent
from ratectl.engine.algorithms.refunds import Refunds

__all__ = ["LONG_AGO", "AnyWallet", "PooledBucket", "Wallet"]

LONG_AGO = -(1 << 62)


class AnyWallet(Protocol):
    """A wallet of either engine (see :class:`Wallet`). All attributes are below 2⁶²."""

    deadline: int
    granted: int
    reported: int
    free: int
    missed: int
    largest: int


class Wallet:
    """Tokens that may be spent until a deadline. One thread writes it, decisions read it."""

    __slots__ = ("deadline", "free", "granted", "largest", "missed", "reported")

    def __init__(self) -> None:
        self.deadline = LONG_AGO
        """Instant (nanoseconds of the engine's clock) from which on nothing may be spent."""
        self.granted = 0
        """Total that may be spent since the bucket began."""
        self.reported = 0
        """Total that the writer has seen spent: it is not refunded any more."""
        self.free = 0
        """Tokens that were left elsewhere when the writer last heard of it: an estimate."""
        self.missed = 0
        """Total cost of requests for which the wallet had too little: an estimate, which threads
        that decide at the same time may count too low."""
        self.largest = 0
        """Cost of the largest of them since the writer set this to 0."""


class PooledBucket(Algorithm[int]):
    """Parameters: size of the limit, for answers; the wallet, for decisions.

    The state is what was spent since the bucket began. ``wait`` of a refusal is an estimate: the
    time in which the whole limit accrues the cost, and at least ``least_wait``.

    :param capacity: tokens that the full limit admits at once.
    :param token_ns: nanoseconds in which one token accrues, rounded up; 0 if none ever does.
    :param refunds: what is refunded beyond what the wallet has room for.
    """

    __slots__ = ("_key", "capacity", "least_wait", "refunds", "token_ns", "wallet")

    starts_full = True

    refunds: Refunds

    def __init__(
        self,
        capacity: int,
        token_ns: int,
        wallet: AnyWallet,
        least_wait: int,
        refunds: Refunds | None = None,
    ) -> None:
        if capacity < 0 or token_ns < 0:
            raise ValueError("a rate and a burst are not negative")
        self.capacity = capacity
        self.token_ns = token_ns
        self.wallet = wallet
        self.least_wait = least_wait
        self.refunds = Refunds() if refunds is None else refunds
        self._key = (capacity, token_ns, id(wallet))

    def full(self, now: int) -> int:  # noqa: ARG002
        """Return a bucket that may spend nothing: what was granted before counts as spent."""
        return self.wallet.granted

    def spent(self, used: int, now: int) -> int:  # noqa: ARG002
        """Return a bucket that may spend nothing: what it may spend is up to the wallet."""
        return self.full(now)

    def attempt(self, state: int, cost: int, now: int) -> tuple[int, int, int, None]:
        """Spend ``cost`` if the wallet allows it (see ``Algorithm.attempt``)."""
        wallet, capacity = self.wallet, self.capacity
        left = wallet.granted - state - cost
        if left >= 0 and now < wallet.deadline and cost <= capacity and self.token_ns:
            return 0, state + cost, left if left < capacity else capacity, None  # noqa: FURB136
        if cost > capacity or not self.token_ns:
            return NEVER, state, 0, None
        wallet.missed += cost
        wallet.largest = max(wallet.largest, cost)
        return max(self.least_wait, cost * self.token_ns), state, 0, None

    def settle(self, state: int, more: int, now: int, since: int, cost: int) -> int:  # noqa: ARG002
        """Spend ``more``, even more than was granted; refund only what nobody has heard of yet."""
        return state + max(more, min(0, self.wallet.reported - state))

    def put_back(self, before: int, after: int, now: int) -> int:  # noqa: ARG002
        """Return what nobody had heard of (see ``Algorithm.put_back``)."""
        return before - after

    def remaining(self, state: int, now: int) -> int:
        """Return the tokens in the wallet."""
        wallet = self.wallet
        left = min(wallet.granted - state, self.capacity)
        return max(0, left) if now < wallet.deadline else 0

    def used(self, state: int, now: int) -> int:
        """Return an estimate: what is neither in the wallet nor free elsewhere."""
        return min(
            max(0, self.capacity - self.remaining(state, now) - self.wallet.free), self.capacity
        )

    def reset_after(self, state: int, now: int) -> int:
        """Return an estimate of the time until the whole limit is full."""
        return self.used(state, now) * self.token_ns

    def extent(self) -> Extent:
        """See ``Algorithm.extent``."""
        return Extent(self.capacity, self.token_ns, 0)

    def at(self, state: int, now: int) -> int:  # noqa: ARG002
        """Return ``now``."""
        return now

    def same(self, one: int, other: int, now: int) -> bool:  # noqa: ARG002
        """Return False: totals are kept, so that no bucket stands for another."""
        return False

    def stricter(self, one: int, other: int, now: int) -> int:  # noqa: ARG002
        """Return the larger of two totals."""
        return max(one, other)

    def continues(self, old: Algorithm[Any]) -> bool:
        """Return True if ``old`` has the same wallet: its total goes on."""
        return isinstance(old, PooledBucket) and old.wallet is self.wallet

    def continued(self, old: PooledBucket, state: int, now: int) -> int:  # noqa: ARG002
        """Return the total as it is."""
        return state
