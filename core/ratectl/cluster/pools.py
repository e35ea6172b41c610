"""Limits of one process whose tokens come from the cluster, and their wallets."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.cluster.protocol.capacity import Size, window_size
from ratectl.cluster.protocol.lender import FOREVER
from ratectl.cluster.protocol.timing import MILLISECOND
from ratectl.cluster.protocol.wallets import Purse
from ratectl.engine.algorithms.pooled import LONG_AGO, PooledBucket
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from ratectl.engine.algorithms.token_bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ratectl.cluster.protocol.messages import PoolId
    from ratectl.cluster.protocol.timing import Timing
    from ratectl.engine.algorithms.pooled import AnyWallet
    from ratectl.engine.api import Engine
    from ratectl.engine.limit_plan import GroupName

__all__ = ["EngineWallets", "PooledLimit", "PooledLimits", "UnsharedLimits"]

Local = TokenBucket | SlidingWindow
"""Bucket of a limit that one process alone has."""

_NANO: Final = 10**9
_LONGEST_NAME: Final = 200
_LEAST_WAIT: Final = 5 * MILLISECOND
"""Shortest wait that a refused request is told: about what it takes to get tokens."""
_MOST_TIME: Final = 1 << 61


class PooledLimit(NamedTuple):
    """A limit across the cluster, as this process knows it."""

    name: GroupName
    size: Size
    wallet: AnyWallet


class _Generation:
    """Limits across the cluster of one generation. Some are compiled only when a request comes."""

    def __init__(self, owner: PooledLimits) -> None:
        self._owner = owner
        self.limits: dict[str, PooledLimit] = {}

    def bucket(self, name: GroupName, local: Local) -> PooledBucket:
        """Return the bucket of a limit that would be ``local`` if one process alone had it."""
        wallet = self._owner.add(self, name, local)
        if isinstance(local, SlidingWindow):
            token_ns = -(-local.window_ns // local.capacity) if local.capacity else 0
        else:
            token_ns = -(-local.per_token // local.per_ns) if local.per_ns else 0
        most = _MOST_TIME // max(1, local.capacity)  # a longer wait fits no decision
        return PooledBucket(local.capacity, min(token_ns, most), wallet, _LEAST_WAIT)


class PooledLimits:
    """Limits across the cluster by the name of their pools. The compiler adds them."""

    def __init__(self, engine: Engine, timing: Timing) -> None:
        self._engine = engine
        self._timing = timing
        self._lock = threading.Lock()
        self._wallets: dict[str, AnyWallet] = {}
        self._current = _Generation(self)
        self.changes = 0
        """Number of changes of what :meth:`in_force` returns."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after a change, by any thread. It must not wait."""

    @contextmanager
    def collected(self) -> Iterator[_Generation]:
        """Collect the limits of a generation: they are in force afterwards, unless it fails.

        A request may still compile limits of the generation before: they change nothing.
        """
        coming = _Generation(self)
        yield coming
        with self._lock:
            changed = coming.limits != self._current.limits
            self._current = coming
            self.changes += changed
        if changed:
            self.on_change()

    def add(self, generation: _Generation, name: GroupName, local: Local) -> AnyWallet:
        """Add a limit to a generation; return its wallet."""
        pool = _pool_name(name)
        size = self._size(local)
        with self._lock:
            wallet = self._wallets.get(pool)
            if wallet is None:
                wallet = self._wallets[pool] = self._engine.new_wallet()
            limit = PooledLimit(name, size, wallet)
            known = generation.limits.get(pool) == limit
            generation.limits[pool] = limit
            changed = generation is self._current and not known
            self.changes += changed
        if changed:
            self.on_change()
        return wallet

    def _size(self, local: Local) -> Size:
        if isinstance(local, SlidingWindow):
            return window_size(local.capacity, local.window_ns, self._timing.drift)
        drift = 1_000_000 + self._timing.drift
        rate = local.per_ns * _NANO * _NANO * 1_000_000 // (local.per_token * drift)
        return Size(rate, local.capacity)

    def after_fork_in_child(self) -> None:
        """Replace the lock: a thread of the parent, missing here, may have held it."""
        self._lock = threading.Lock()
        self.on_change = lambda: None
        self.changes += 1

    def end(self) -> None:
        """Let each limit admit one burst more, for requests that come after the agent was closed.

        Nobody fills the wallets any more, and a limiter that has ended must not refuse everything.
        """
        with self._lock:
            limits = list(self._current.limits.values())
        for limit in limits:
            spent = self._engine.spent(limit.name)
            limit.wallet.granted = (
                limit.wallet.granted if spent is None else spent
            ) + limit.size.burst
            limit.wallet.deadline = _MOST_TIME

    def in_force(self) -> Mapping[str, PooledLimit]:
        """Return the limits in force, by the name of the pool."""
        with self._lock:
            return dict(self._current.limits)


def _pool_name(name: GroupName) -> str:
    """Return the name of a pool. A limit may have many overrides; messages need short names."""
    text = json.dumps(name, separators=(",", ":"))
    return text if len(text) <= _LONGEST_NAME else hashlib.sha256(text.encode()).hexdigest()


class UnsharedLimits:
    """Limits across the cluster where processes cannot reach each other: each counts alone.

    :param note: called after each generation with True if there are such limits.
    """

    def __init__(self, note: Callable[[bool], None]) -> None:
        self._note = note
        self._any = False

    def bucket(self, name: GroupName, local: Local) -> Local:  # noqa: ARG002
        """Return the local bucket."""
        self._any = True
        return local

    @contextmanager
    def collected(self) -> Iterator[UnsharedLimits]:
        """Collect the limits of a generation."""
        self._any = False
        yield self
        self._note(self._any)

    def after_fork_in_child(self) -> None:
        """Do nothing: there is no lock."""


class EngineWallets:
    """Wallets whose tokens an engine spends (see ``protocol.wallets.Wallets``).

    Only one thread calls it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.limits: Mapping[str, PooledLimit] = {}
        """Limits in force."""
        self._gone: dict[str, PooledLimit] = {}
        """Limits that were in force, until it is told what was spent of them."""
        self._deadline = LONG_AGO

    def follow(self, limits: Mapping[str, PooledLimit]) -> None:
        """Take over the limits in force. Nothing may be spent of those that are gone."""
        for pool, limit in self.limits.items():
            if pool not in limits:
                limit.wallet.deadline = LONG_AGO
                self._gone[pool] = limit
        for pool, limit in limits.items():
            known = self.limits.get(pool) or self._gone.get(pool)
            if known is None or known.wallet is not limit.wallet:
                limit.wallet.deadline = LONG_AGO
                self._empty(limit)  # what is in it belongs to somebody before, or to a parent
            self._gone.pop(pool, None)
            limit.wallet.deadline = self._deadline
        self.limits = limits

    @property
    def deadline(self) -> int:
        """Instant from which on nothing may be spent."""
        return self._deadline

    @deadline.setter
    def deadline(self, instant: int) -> None:
        self._deadline = instant = min(max(instant, LONG_AGO), _MOST_TIME)
        for limit in self.limits.values():
            limit.wallet.deadline = instant

    def _found(self, pool: PoolId) -> PooledLimit | None:
        return self.limits.get(pool.limit) or self._gone.get(pool.limit)

    def _spent(self, limit: PooledLimit) -> int:
        """Return what was spent. Without a bucket, nothing of what was granted is left."""
        spent = self._engine.spent(limit.name)
        return limit.wallet.granted if spent is None else spent

    def _told(self, limit: PooledLimit) -> int:
        """Return what was spent: it is not refunded any more."""
        wallet, spent = limit.wallet, self._spent(limit)
        if spent > wallet.reported:
            wallet.reported = spent
            spent = self._spent(limit)  # a refund may have come just before
        return spent

    def _empty(self, limit: PooledLimit) -> None:
        limit.wallet.granted = min(limit.wallet.granted, self._told(limit))

    def touched(self) -> tuple[PoolId, ...]:
        """Return nothing: members always hold tokens of limits with one bucket."""
        return ()

    def read(self, pool: PoolId) -> Purse:
        limit = self._found(pool)
        if limit is None:
            return Purse(0, 0, 0, 0)
        spent, wallet = self._told(limit), limit.wallet
        return Purse(max(0, wallet.granted - spent), spent, wallet.missed, wallet.largest)

    def add(self, pool: PoolId, tokens: int) -> None:
        limit = self._found(pool)
        if limit is not None:
            limit.wallet.granted += tokens
            limit.wallet.largest = 0

    def take(self, pool: PoolId, at_most: int) -> int:
        """Take tokens out: those that a decision spends at the same time stay."""
        limit = self._found(pool)
        if limit is None:
            return 0
        wallet, granted = limit.wallet, limit.wallet.granted
        kept = max(min(self._told(limit), granted), granted - min(at_most, FOREVER))
        wallet.granted = kept
        wallet.granted = kept = min(max(kept, self._spent(limit)), granted)
        return granted - kept

    def drop(self, pool: PoolId) -> None:
        """Empty the wallet. Its totals stay: the next draw begins with them."""
        limit = self._found(pool)
        if limit is not None:
            self._empty(limit)
            self._gone.pop(pool.limit, None)
