"""Buckets of a limit across the cluster that counts per key.

Most keys are rare: a request of one must not wait for other processes. So each process has for each
key a small *part* of the limit of its own, an ordinary token bucket. A key that is asked for more
often has a *wallet* beside it, which somebody else fills (see ``ratectl.cluster``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ratectl.engine.algorithms.pooled import LONG_AGO
from ratectl.engine.algorithms.protocol import FOREVER, NEVER, Algorithm, Extent
from ratectl.engine.algorithms.refunds import Refunds
from ratectl.engine.algorithms.token_bucket import TokenBucket, TokenState

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ratectl.engine.stable_keys import StableKeys

__all__ = ["AnyKeyWallets", "KeyUse", "KeyWallets", "KeyedBucket", "OwnPart"]

_MOST: Final = 1 << 17
"""Most wallets of one limit."""
_MOST_OWED: Final = 1 << 61
_MOST_TIME: Final = 1 << 62
"""No wallet may be spent so late."""


class KeyUse(NamedTuple):
    """A key that was asked for, and what happened to its wallet since it was read. In tokens."""

    number: int
    """Number of the key, for other processes."""
    key: Any
    """Key of the engine."""
    left: int
    spent: int
    missed: int
    """Cost of requests for which there was too little: an estimate."""
    largest: int
    """Cost of the largest of them."""


class AnyKeyWallets(Protocol):
    """Wallets of either engine (see :class:`KeyWallets`)."""

    deadline: int
    until: int

    @property
    def count(self) -> int: ...
    def total(self) -> int: ...
    def name_keys(self, stable_keys: StableKeys, /) -> None: ...
    def collect(self) -> list[Any]: ...
    def deposit(self, key: Any, tokens: int, /) -> bool: ...
    def withdraw(self, key: Any, most: int, /) -> int: ...
    def close(self, key: Any, /) -> tuple[int, int]: ...
    def clear(self) -> None: ...
    def draw(self, key: Any, cost: int, now: int, owed: int, /) -> int: ...
    def left(self, key: Any, /) -> int: ...
    def spend(self, key: Any, cost: int, /) -> None: ...
    def want(self, key: Any, /) -> None: ...


class _Wallet:
    """One wallet, in tokens."""

    __slots__ = ("known", "largest", "left", "missed", "number")

    def __init__(self) -> None:
        self.number: int | None = None
        self.left = 0
        self.known = 0
        """What would be left if nothing had been spent since the wallet was read."""
        self.missed = self.largest = 0


class KeyWallets:
    """Wallets of one limit, by key. One thread fills them, decisions spend: all alone.

    There are none until ``name_keys``: before, nobody would fill them.
    """

    def __init__(self) -> None:
        self.deadline = LONG_AGO
        """Instant (nanoseconds of the engine's clock) from which on no wallet may be spent."""
        self.until = LONG_AGO
        """Instant from which on nothing of the process's own part may be spent."""
        self._wallets: dict[Hashable, _Wallet] = {}
        self._used: dict[Hashable, _Wallet] = {}
        self._stable_keys: StableKeys | None = None

    @property
    def count(self) -> int:
        """Number of wallets."""
        return len(self._wallets)

    def total(self) -> int:
        """Return the tokens in all wallets."""
        return sum(wallet.left for wallet in self._wallets.values())

    # For decisions ------------------------------------------------------------------------------

    def want(self, key: Hashable) -> None:
        """Note that a key was asked for: it gets a wallet, if there is room."""
        wallet = self._wallets.get(key)
        if wallet is None:
            if self._stable_keys is None or len(self._wallets) >= _MOST:
                return
            wallet = self._wallets[key] = _Wallet()
        self._used[key] = wallet

    def draw(self, key: Hashable, cost: int, now: int, owed: int) -> int:
        """Return what would be left after ``cost``; -1: the wallet has less, and it is missed.

        :param owed: tokens that the bucket owes. Nothing is admitted before they are there.
        """
        self.want(key)
        wallet = self._wallets.get(key)
        if wallet is None:
            return -1
        if not owed and now < self.deadline and wallet.left >= cost:
            return wallet.left - cost
        wallet.missed += cost + owed
        wallet.largest = max(wallet.largest, cost)
        return -1

    def left(self, key: Hashable) -> int:
        """Return the tokens in the wallet of a key."""
        wallet = self._wallets.get(key)
        return 0 if wallet is None else wallet.left

    def spend(self, key: Hashable, cost: int) -> None:
        """Take what a draw has found."""
        wallet = self._wallets.get(key)
        if wallet is not None:
            wallet.left -= cost

    # For the thread that fills them -------------------------------------------------------------

    def name_keys(self, stable_keys: StableKeys) -> None:
        """Number keys by this hash, as other processes do. Removes all wallets."""
        self.clear()
        self._stable_keys = stable_keys

    def collect(self) -> list[KeyUse]:
        """Return the keys that were asked for since the last call."""
        used, self._used = self._used, {}
        return [self._use(key, wallet) for key, wallet in used.items()]

    def _use(self, key: Hashable, wallet: _Wallet) -> KeyUse:
        if wallet.number is None:
            assert self._stable_keys is not None
            wallet.number = self._stable_keys.key_of(key if isinstance(key, tuple) else (key,))
        spent, wallet.known = wallet.known - wallet.left, wallet.left
        missed, largest, wallet.missed, wallet.largest = wallet.missed, wallet.largest, 0, 0
        return KeyUse(wallet.number, key, wallet.left, spent, missed, largest)

    def deposit(self, key: Hashable, tokens: int) -> bool:
        """Put tokens into a wallet. Return False if there is none."""
        wallet = self._wallets.get(key)
        if wallet is None:
            return False
        wallet.left += tokens
        wallet.known += tokens
        return True

    def withdraw(self, key: Hashable, most: int) -> int:
        """Take tokens out of a wallet; return how many it had, at most so many."""
        wallet = self._wallets.get(key)
        if wallet is None:
            return 0
        taken = max(0, min(wallet.left, most))
        wallet.left -= taken
        wallet.known -= taken
        return taken

    def close(self, key: Hashable) -> tuple[int, int]:
        """Remove a wallet; return what was left in it, and what was spent since it was read."""
        wallet = self._wallets.pop(key, None)
        self._used.pop(key, None)
        return (0, 0) if wallet is None else (wallet.left, wallet.known - wallet.left)

    def clear(self) -> None:
        """Remove all wallets."""
        self._wallets, self._used = {}, {}


class OwnPart(NamedTuple):
    """The part of each bucket that is a process's own, in ticks (see ``token_bucket``)."""

    per_ns: int
    per_token: int
    capacity: int


class KeyedBucket(TokenBucket):
    """Parameters: the process's own part of each bucket, the wallets, and the size of the limit.

    The state is the level of the own part. Waits are estimates: the time in which the whole limit
    accrues the cost, at least ``least_wait``. A refund goes to the own part if that was never more
    than half full since the charge; the rest may go elsewhere (``refunds``).

    :param capacity: tokens that the limit admits at once.
    :param token_ns: nanoseconds in which one token of the limit accrues, rounded up; 0: none does.
    :param since: instant at which all own parts were empty. None: there is none.
    """

    __slots__ = ("least_wait", "refunds", "since", "token_ns", "wallets")

    starts_full = True

    refunds: Refunds
    wallets: AnyKeyWallets

    def __init__(
        self,
        capacity: int,
        token_ns: int,
        part: OwnPart,
        wallets: AnyKeyWallets,
        least_wait: int,
        refunds: Refunds | None = None,
        since: int | None = None,
    ) -> None:
        self.per_ns, self.per_token, self.full_level = part
        self.half_level = self.full_level // 2
        self.capacity = capacity
        self.token_ns = token_ns
        self.wallets = wallets
        self.least_wait = least_wait
        self.refunds = Refunds() if refunds is None else refunds
        self.since = since
        self._key = (capacity, token_ns, part, id(wallets), since)

    def moved(self, state: TokenState, by: int) -> None:
        """Return None: the next process has other wallets."""

    def full(self, now: int) -> TokenState:
        """Return the part of a key that nobody has asked for."""
        level = self.full_level
        if self.since is not None:
            level = min(level, max(0, now - self.since) * self.per_ns)
        return level, now, now, 0

    def spent(self, used: int, now: int) -> TokenState:
        """Return a bucket from which ``used`` tokens are missing; an empty one if it holds less."""
        return max(0, self.full_level - used * self.per_token), now, now, 0

    def attempt(self, state: TokenState, cost: int, now: int) -> tuple[int, TokenState, int, None]:
        """Take ``cost`` tokens out of the own part (see ``Algorithm.attempt``)."""
        level, at, high_at, _ = state
        if now > at:
            level, at = min(self.full_level, level + (now - at) * self.per_ns), now
        left = level - cost * self.per_token
        if cost <= self.capacity and self.token_ns and now < self.wallets.until and left >= 0:
            high_at = at if level > self.half_level else high_at
            return 0, (left, at, high_at, 0), left // self.per_token, None
        return self.wait(state, cost, now), state, 0, None

    def wait(self, state: TokenState, cost: int, now: int) -> int:  # noqa: ARG002
        """Return the wait of a request that neither the own part nor the wallet has tokens for."""
        if cost > self.capacity or not self.token_ns:
            return NEVER
        return max(self.least_wait, cost * self.token_ns)

    def drawn(
        self, key: Any, cost: int, now: int, wait: int, state: TokenState, *, is_real: bool
    ) -> int:
        """Draw from the wallet of a key what the own part lacks (see ``Algorithm.drawn``).

        A key whose own part is more than half empty gets a wallet before a request is refused.
        """
        if wait == NEVER:
            return -1
        owed = self._owed(state, now) if wait and state[0] < 0 else 0
        if not is_real:
            left = self.wallets.left(key) if now < self.wallets.deadline and not owed else 0
            return left - cost if wait and left >= cost else -1
        if wait:
            return self.wallets.draw(key, cost, min(now, _MOST_TIME), owed)
        if cost and state[0] < self.half_level:
            self.wallets.want(key)
        return -1

    def _owed(self, state: TokenState, now: int) -> int:
        """Return the tokens that the bucket owes: requests were settled with more."""
        return min(max(0, -(self.level(state, now) // self.per_token)), _MOST_OWED)

    def settle(self, state: TokenState, more: int, now: int, since: int, cost: int) -> TokenState:  # noqa: ARG002
        """Charge ``more`` to the own part, even below empty; or refund (see ``Algorithm.settle``).

        What the request cost may have come out of the wallet: so nothing of it is known here. Two
        refunds together might be too much for the room at an earlier time: so after one, others
        need a later charge. A part of one token takes nothing back: half of it is not enough. What
        is owed is no token that anybody has had: a refund takes it away first.
        """
        if more >= 0:
            return super().settle(state, more, now, since, 0)
        level, at, high_at, _ = state
        level, at = self.level(state, now), max(now, at)
        owed = min(-more * self.per_token, max(0, -level))
        state = level + owed, at, high_at, 0
        more += -(-owed // self.per_token)
        if not more or self.full_level <= self.per_token:
            return state
        level, at, high_at, hidden = super().settle(state, more, now, since, 0)
        return level, at, at if level > state[0] else high_at, hidden

    def put_back(self, before: TokenState, after: TokenState, now: int) -> int:
        """Return the tokens that the own part has taken (see ``Algorithm.put_back``)."""
        return -((self.level(before, now) - self.level(after, now)) // self.per_token)

    def filled(self, state: Any, tokens: int, now: int, *, owed: bool) -> tuple[int, TokenState]:
        """Fill the own part with at most so many tokens; return how many it took.

        Only whole tokens count. What is more than full is lost.

        :param owed: only until nothing is owed, after requests that were settled with more.
        """
        level, at = self.level(state, now), self.at(state, now)
        enough = 0 if owed else self.full_level // self.per_token
        missing = enough - level // self.per_token
        taken = max(0, min(tokens, missing))
        *_, high_at, _ = state
        level = min(self.full_level, level + taken * self.per_token)
        return taken, (level, at, at if level > self.half_level else high_at, 0)

    def remaining(self, state: TokenState, now: int) -> int:
        """Return the whole tokens in the own part."""
        left = super().remaining(state, now)
        return left if now < self.wallets.until else 0

    def used(self, state: TokenState, now: int) -> int:
        """Return the tokens that are missing from the own part, rounded up: an estimate."""
        missing = -(-(self.full_level - self.level(state, now)) // self.per_token)
        return min(max(0, missing), self.capacity)

    def reset_after(self, state: TokenState, now: int) -> int:
        """Return an estimate of the time until the bucket is full."""
        return self.used(state, now) * self.token_ns

    def extent(self) -> Extent:
        """See ``Algorithm.extent``."""
        whole = -(-self.full_level // self.per_token)
        return Extent(whole, -(-self.per_token // self.per_ns) if self.per_ns else FOREVER, 0)

    def continues(self, old: Algorithm[Any]) -> bool:
        """Return True if ``old`` has the same wallets."""
        return isinstance(old, KeyedBucket) and old.wallets is self.wallets

    def _converted(
        self, old: TokenBucket, state: TokenState, now: int, *, in_use: bool
    ) -> TokenState:
        level, at = old.level(state, now), old.at(state, now)
        *_, high_at, _ = state
        del in_use
        kept = min(level * self.per_token // old.per_token, self.full_level)
        high = level > old.half_level or kept > self.half_level
        return kept, at, at if high else high_at, 0
