"""Limits of one process whose tokens come from the cluster, and their wallets."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.cluster.keyed import KeyedLimit, own_part
from ratectl.cluster.promise import added_tokens
from ratectl.cluster.protocol.capacity import WHOLE, Size, window_size
from ratectl.cluster.protocol.timing import MILLISECOND
from ratectl.cluster.wholes import Wholes
from ratectl.engine.algorithms.keyed_bucket import KeyedBucket
from ratectl.engine.algorithms.pooled import PooledBucket
from ratectl.engine.algorithms.refunds import Refunds
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from ratectl.engine.algorithms.token_bucket import TokenBucket
from ratectl.engine.stable_keys import StableKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from ratectl.cluster.protocol.timing import Timing
    from ratectl.engine.algorithms.keyed_bucket import AnyKeyWallets
    from ratectl.engine.algorithms.pooled import AnyWallet
    from ratectl.engine.api import Engine
    from ratectl.engine.limit_plan import GroupName

__all__ = ["PooledLimit", "PooledLimits", "UnsharedLimits"]

Local = TokenBucket | SlidingWindow
"""Bucket of a limit that one process alone has."""

_NANO: Final = 10**9
_LONGEST_NAME: Final = 200
_HASH_CHARS: Final = 32
_LEAST_WAIT: Final = 5 * MILLISECOND
"""Shortest wait that a refused request is told: about what it takes to get tokens."""
_MOST_TIME: Final = 1 << 61


class PooledLimit(NamedTuple):
    """A limit with one bucket across the cluster, as this process knows it."""

    name: GroupName
    size: Size
    wallet: AnyWallet
    refunds: Refunds


class _Generation:
    """Limits across the cluster of one generation. Some are compiled only when a request comes."""

    def __init__(self, owner: PooledLimits) -> None:
        self._owner = owner
        self.limits: dict[str, PooledLimit | KeyedLimit] = {}

    def bucket(
        self, name: GroupName, local: Local, *, optimistic: bool = False
    ) -> PooledBucket | KeyedBucket:
        """Return the bucket of a limit that would be ``local`` if one process alone had it.

        :param optimistic: each process may admit a little more than its share.
        """
        *_, per, _ = name
        make = self._owner.keyed_bucket if per else self._owner.bucket
        return make(self, name, local, optimistic=optimistic)


class PooledLimits:
    """Limits across the cluster by the name of their pools. The compiler adds them.

    Buckets of limits that count per key have a part that is the process's own: by its share. A
    change of it is in force after the next generation is collected.
    """

    def __init__(self, engine: Engine, timing: Timing) -> None:
        self._engine = engine
        self._timing = timing
        self._lock = threading.Lock()
        self._wallets: dict[str, AnyWallet] = {}
        self._refunds: dict[str, Refunds] = {}
        self._wallets_by_key: dict[str, AnyKeyWallets] = {}
        self._keys = StableKeys(secrets.token_bytes(16))
        self._share = 0
        self._wholes = Wholes()
        self._current = _Generation(self)
        self.changes = 0
        """Number of changes of what :meth:`in_force` returns."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after a change, by any thread. It must not wait."""
        self.on_share: Callable[[], None] = lambda: None
        """Called when the generation should be collected again. It must not wait."""

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

    # For the compiler ---------------------------------------------------------------------------

    def bucket(
        self, generation: _Generation, name: GroupName, local: Local, *, optimistic: bool
    ) -> PooledBucket:
        """Add a limit with one bucket to a generation; return the bucket."""
        pool = _pool_name(name)
        with self._lock:
            wallet = self._wallets.get(pool)
            if wallet is None:
                wallet = self._wallets[pool] = self._engine.new_wallet()
            size = self._size(name, local, optimistic=optimistic)
            refunds = self._refunds.setdefault(pool, Refunds())
            changed = self._add(generation, pool, PooledLimit(name, size, wallet, refunds))
        if changed:
            self.on_change()
        return PooledBucket(local.capacity, _token_ns(local), wallet, _LEAST_WAIT, refunds)

    def keyed_bucket(
        self, generation: _Generation, name: GroupName, local: Local, *, optimistic: bool
    ) -> KeyedBucket:
        """Add a limit that counts per key to a generation; return its buckets' parameters."""
        pool = _pool_name(name)
        with self._lock:
            limit = generation.limits.get(pool)
            if isinstance(limit, KeyedLimit):  # two shares in one generation would be two limits
                return limit.bucket
            limit = self._keyed(pool, name, local, optimistic=optimistic)
            changed = self._add(generation, pool, limit)
        if changed:
            self.on_change()
        return limit.bucket

    def _keyed(self, pool: str, name: GroupName, local: Local, *, optimistic: bool) -> KeyedLimit:
        wallets = self._wallets_by_key.get(pool)
        if wallets is None:
            wallets = self._wallets_by_key[pool] = self._engine.new_key_wallets()
            wallets.name_keys(self._keys)
        whole, share = self._size(name, local, optimistic=optimistic), self._share
        is_kept = self._wholes.is_kept(pool)
        part = own_part(local, whole, share, self._timing.drift, is_kept=is_kept)
        refunds = self._refunds.setdefault(pool, Refunds())
        bucket = KeyedBucket(
            local.capacity,
            _token_ns(local),
            part,
            wallets,
            _LEAST_WAIT,
            refunds,
            self._wholes.since(pool),
        )
        return KeyedLimit(name, whole, bucket, share, is_kept, self._wholes.is_lent(pool))

    def _size(self, name: GroupName, local: Local, *, optimistic: bool) -> Size:
        """Return the size of a limit, with what each process has beside its share, or keeps."""
        drift = self._timing.drift
        if isinstance(local, SlidingWindow):
            size = window_size(local.capacity, local.window_ns, drift)
        else:
            rate = local.per_ns * _NANO * _NANO * WHOLE
            size = Size(rate // (local.per_token * (WHOLE + drift)), local.capacity)
        *_, per, _ = name
        if optimistic:
            return size._replace(added=added_tokens(is_window=size.window > 0, per=per))
        return size._replace(kept=1) if size.window and per else size

    def _add(self, generation: _Generation, pool: str, limit: PooledLimit | KeyedLimit) -> bool:
        """Return True if what is in force has changed."""
        known = generation.limits.get(pool) == limit
        generation.limits[pool] = limit
        changed = generation is self._current and not known
        self.changes += changed
        return changed

    # The process's own share --------------------------------------------------------------------

    def begin_share(self, share: int, secret: bytes) -> None:
        """Begin to use a share of each key's bucket (millionths).

        :param secret: what all members number keys under.
        """
        with self._lock:
            self._keys = StableKeys(secret)
            self._share = share
            known = list(self._wallets_by_key.values())
        for wallets in known:
            self._engine.with_wallets(partial(wallets.name_keys, self._keys))
        self.on_share()

    def want_share(self, share: int) -> None:
        """Change the share: it is in force after the next generation is collected."""
        with self._lock:
            if share == self._share:
                return
            self._share = share
        self.on_share()

    @property
    def share_in_force(self) -> int:
        """Largest share (millionths) of which some bucket has its own part now."""
        with self._lock:
            return max((each.share for _, each in self._keyed_in_force()), default=0)

    @property
    def is_share_due(self) -> bool:
        """True if the generation should be collected again, because the share has changed."""
        with self._lock:
            return any(self._is_due(pool, each) for pool, each in self._keyed_in_force())

    def _is_due(self, pool: str, limit: KeyedLimit) -> bool:
        wanted = self._share, self._wholes.is_kept(pool), self._wholes.is_lent(pool)
        return wanted != (limit.share, limit.is_kept, limit.is_lent_whole)

    def _keyed_in_force(self) -> list[tuple[str, KeyedLimit]]:
        limits = self._current.limits.items()
        return [(pool, each) for pool, each in limits if isinstance(each, KeyedLimit)]

    # Large costs --------------------------------------------------------------------------------

    def lend_whole(self, pools: AbstractSet[str]) -> None:
        """Keep no part of these limits, and a part of others as soon as ``settle`` is called."""
        with self._lock:
            changed = self._wholes.want(pools & self._current.limits.keys())
        if changed:
            self.on_share()

    @property
    def are_leaving(self) -> bool:
        """True if limits in force are not lent whole any more, and not kept in part yet."""
        with self._lock:
            return self._wholes.are_leaving and not any(
                self._is_due(*each) for each in self._keyed_in_force()
            )

    def settle(self, now: int) -> None:
        """Take note that nobody counts more than is lent by the limits in force."""
        with self._lock:
            changed = self._wholes.settle(now)
        if changed:
            self.on_share()

    # Other threads and the end ------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Replace the lock: a thread of the parent, missing here, may have held it."""
        self._lock = threading.Lock()
        self.on_change = self.on_share = lambda: None
        self._share = 0
        self._wholes = Wholes()
        for refunds in self._refunds.values():
            refunds.take()  # the parent's
        self.changes += 1

    def end(self) -> None:
        """Let each limit admit one burst more, for requests that come after the agent was closed.

        Nobody fills the wallets any more, and a limiter that has ended must not refuse everything.
        """
        with self._lock:
            limits = list(self._current.limits.values())
        for limit in limits:
            if isinstance(limit, KeyedLimit):
                self._end_keyed(limit)
                continue
            spent = self._engine.spent(limit.name)
            limit.wallet.granted = (
                limit.wallet.granted if spent is None else spent
            ) + limit.size.burst
            limit.wallet.deadline = _MOST_TIME

    def _end_keyed(self, limit: KeyedLimit) -> None:
        for _, key, *_ in self._engine.with_wallets(limit.wallets.collect):
            self._engine.with_wallets(partial(limit.wallets.deposit, key, limit.size.burst))
        limit.wallets.deadline = limit.wallets.until = _MOST_TIME

    def names(self) -> Mapping[GroupName, str]:
        """Return the names of the pools of the limits in force."""
        with self._lock:
            return {limit.name: pool for pool, limit in self._current.limits.items()}

    def in_force(self) -> Mapping[str, PooledLimit | KeyedLimit]:
        """Return the limits in force, by the name of the pool."""
        with self._lock:
            return dict(self._current.limits)


def _token_ns(local: Local) -> int:
    """Return the time in which one token accrues (nanoseconds, rounded up); 0: none does.

    In a sliding window nothing accrues; it is an estimate.
    """
    if isinstance(local, SlidingWindow):
        token_ns = -(-local.window_ns // local.capacity) if local.capacity else 0
    else:
        token_ns = -(-local.per_token // local.per_ns) if local.per_ns else 0
    return min(token_ns, _MOST_TIME // max(1, local.capacity))  # a longer wait fits no decision


def _pool_name(name: GroupName) -> str:
    """Return the name of a pool.

    A limit may have many overrides, and messages about many keys name their limit with each.
    """
    text = json.dumps(name, separators=(",", ":"))
    *_, per, _ = name
    if len(text) <= _LONGEST_NAME and not per:
        return text
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARS]


class UnsharedLimits:
    """Limits across the cluster where processes cannot reach each other: each counts alone.

    :param note: called after each generation with True if there are such limits.
    """

    def __init__(self, note: Callable[[bool], None]) -> None:
        self._note = note
        self.names: set[GroupName] = set()
        """Such limits. Some are compiled only when a request comes."""

    def bucket(self, name: GroupName, local: Local, *, optimistic: bool = False) -> Local:
        """Return the local bucket."""
        del optimistic
        self.names.add(name)
        return local

    @contextmanager
    def collected(self) -> Iterator[UnsharedLimits]:
        """Collect the limits of a generation."""
        self.names = set()
        yield self
        self._note(bool(self.names))

    def after_fork_in_child(self) -> None:
        """Do nothing: there is no lock."""
