"""Limits across the cluster that count per key: what one process has of them.

Of each key of a token bucket, half of the burst and a fiftieth of the rate is never lent: each
member has its share of that, for first requests. Of a sliding window, each member keeps one place.
The rest is lent to owners, which fill wallets of the keys that are asked for more often. Both
together are one limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.cluster.protocol.capacity import WHOLE, Size
from ratectl.cluster.protocol.cooling import cooled_after
from ratectl.cluster.protocol.wallets import Purse
from ratectl.cluster.sharding import shard_of_key
from ratectl.engine.algorithms.keyed_bucket import OwnPart
from ratectl.engine.algorithms.sliding_window import SlidingWindow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.engine.algorithms.keyed_bucket import AnyKeyWallets, KeyedBucket
    from ratectl.engine.algorithms.refunds import Refund, Refunds
    from ratectl.engine.algorithms.token_bucket import TokenBucket
    from ratectl.engine.api import Engine
    from ratectl.engine.limit_plan import GroupName

__all__ = ["KeyPurses", "KeyedLimit", "first_deadline", "lent_size", "own_part"]

_BURST_PART: Final = 2
_RATE_PART: Final = 50
_FINE: Final = 1_000
"""Ticks of an own part are finer than those of a whole bucket: it fills more slowly."""
_MOST_TICKS: Final = 1 << 61
_EMPTY: Final = Purse(0, 0, 0, 0)


class KeyedLimit(NamedTuple):
    """A limit that counts per key, as this process knows it."""

    name: GroupName
    whole: Size
    """Size of the limit."""
    bucket: KeyedBucket
    share: int
    """Share (millionths) of each bucket that the process has."""
    is_kept: bool = True
    """The process keeps a part of its share of each key,"""
    is_lent_whole: bool = False
    """or lends all of it, or neither."""

    @property
    def size(self) -> Size:
        """Size of what is lent."""
        return lent_size(self.whole, is_whole=self.is_lent_whole)

    @property
    def refunds(self) -> Refunds:
        """Refunds by key that the own parts had no room for."""
        return self.bucket.refunds

    @property
    def wallets(self) -> AnyKeyWallets:
        """Wallets by key."""
        return self.bucket.wallets


def lent_size(size: Size, *, is_whole: bool = False) -> Size:
    """Return what is lent of a limit. What processes have beside their shares is not lent."""
    if size.window:
        return size._replace(added=0, kept=0 if is_whole else size.kept)
    kept = 0 if is_whole else size.burst // _BURST_PART
    own_rate = -(-size.rate // _RATE_PART) if kept or size.added else 0
    return Size(size.rate - own_rate, size.burst - kept)


def own_part(
    local: TokenBucket | SlidingWindow, size: Size, share: int, drift: int, *, is_kept: bool = True
) -> OwnPart:
    """Return a member's own part of each bucket of a limit, in ticks.

    :param local: the bucket if one process alone had the limit.
    :param size: the size of that. If processes have tokens beside their shares, the part is at
        least as large.
    :param share: millionths.
    :param drift: how much faster than true time the clock may run, in millionths.
    :param is_kept: otherwise the process keeps no part of its share.
    """
    least = size.added if share else 0
    if isinstance(local, SlidingWindow):
        # A bucket of one token that fills in a window is a window of one place. It fills no sooner
        # than a place of a pool is free again: for refunds, one stands for the other.
        place = least or (size.kept_of(share) if is_kept else 0)
        window = cooled_after(size.window)
        return OwnPart(1, window, place * window)
    fine = _FINE if local.per_token * _FINE <= _MOST_TICKS else 1
    kept = local.capacity // _BURST_PART if is_kept else 0
    own_rate = local.per_ns * fine * share // (_RATE_PART * (WHOLE + drift))
    rate = own_rate if kept or least else 0
    ticks = local.per_token * fine
    return OwnPart(rate, ticks, max(kept * ticks * share // WHOLE, least * ticks))


def first_deadline(tokens: Sequence[int], deadlines: Sequence[int]) -> int:
    """Return the instant at which the first tokens of a wallet are void.

    :param tokens: tokens of each shard in the wallet. A shard without tokens does not count.
    :param deadlines: instants at which the tokens of each shard are void.
    """
    pairs = zip(tokens, deadlines, strict=True)
    return min([deadline for held, deadline in pairs if held] or deadlines)


@dataclass(slots=True)
class _KeyPurse:
    """A wallet as its filling thread knows it. Totals in tokens."""

    key: Any
    shard: int
    left: int = 0
    spent: int = 0
    missed: int = 0
    largest: int = 0


class KeyPurses:
    """Wallets of one limit, by the numbers of keys as texts. Only one thread uses it.

    What is left in a wallet is what was left when it was read: decisions go on spending. So what
    is reported as spent may be too little for a while, and never too much.
    """

    def __init__(self, engine: Engine, limit: KeyedLimit, deadlines: Sequence[int]) -> None:
        """``deadlines``: see ``first_deadline``. After a change, call ``set_deadline``."""
        self.limit = limit
        self._engine = engine
        self._deadlines = deadlines
        self._purses: dict[str, _KeyPurse] = {}
        self._held = [0] * len(deadlines)
        """Tokens of each shard in all wallets."""
        self.refunds: list[tuple[int, str, Refund]] = []
        """Refunds that ``collect`` has found: the shard and the text of each key."""

    def set_deadline(self) -> None:
        """Let all tokens be spent until the first of them are void."""
        self.limit.wallets.deadline = first_deadline(self._held, self._deadlines)

    def collect(self) -> list[tuple[int, str]]:
        """Read the wallets of the keys that were asked for since the last call.

        :return: the shard and the text of each key.
        """
        refunds = self._engine.with_wallets(self._take_refunds) if self.limit.refunds else {}
        found = self._engine.with_wallets(self.limit.wallets.collect)
        collected = [self._collected(*use) for use in found]
        for (shard, text), (_, key, *_) in zip(collected, found, strict=True) if refunds else ():
            if key in refunds:
                self.refunds.append((shard, text, refunds[key]))
        return collected

    def _take_refunds(self) -> dict[Any, Refund]:
        refunds = self.limit.refunds.take()
        for key in refunds:
            self.limit.wallets.want(key)
        return refunds

    def _collected(
        self, number: int, key: Any, left: int, spent: int, missed: int, largest: int
    ) -> tuple[int, str]:
        text = f"{number:x}"
        purse = self._purses.get(text)
        if purse is None:
            shard = shard_of_key(number, len(self._held))
            purse = self._purses[text] = _KeyPurse(key, shard)
        if purse.key == key:  # another key with the same number has no tokens of its own
            self._change(purse, left - purse.left)
            purse.spent += spent
        purse.missed += missed
        purse.largest = max(purse.largest, largest)
        if missed and left:  # it has tokens, and was refused: it may owe some
            self._move(purse, owed=True)
        return purse.shard, text

    def _change(self, purse: _KeyPurse, tokens: int) -> None:
        purse.left += tokens
        self._hold(purse.shard, tokens)

    def _hold(self, shard: int, tokens: int) -> None:
        before = self._held[shard]
        self._held[shard] = before + tokens
        if not before or not before + tokens:
            self.set_deadline()

    def read(self, key: str) -> Purse:
        """Return the state of a wallet (see ``protocol.wallets.Wallets``)."""
        purse = self._purses.get(key)
        if purse is None:
            return _EMPTY
        return Purse(purse.left, purse.spent, purse.missed, purse.largest)

    def add(self, key: str, tokens: int) -> None:
        """Put tokens into a wallet. Without a wallet they are lost, and count as spent."""
        purse = self._purses.get(key)
        if purse is None:
            return
        wallets = self.limit.wallets
        purse.largest = 0
        self._change(purse, tokens)  # before they may be spent: the deadline may be another then
        if not self._engine.with_wallets(lambda: wallets.deposit(purse.key, tokens)):
            self._change(purse, -tokens)
            purse.spent += tokens

    def take(self, key: str, at_most: int) -> int:
        """Take tokens out of a wallet; return how many it had, at most so many."""
        purse = self._purses.get(key)
        if purse is None or at_most <= 0:
            return 0
        wallets = self.limit.wallets
        taken = self._engine.with_wallets(lambda: wallets.withdraw(purse.key, at_most))
        self._change(purse, -taken)
        return taken

    def keep(self, key: str) -> None:
        """Fill the process's own part of a key out of its wallet: what that takes is spent."""
        purse = self._purses.get(key)
        if purse is not None:
            self._move(purse, owed=False)

    def _move(self, purse: _KeyPurse, *, owed: bool) -> None:
        kept = self._engine.keep_tokens(self.limit.name, purse.key, owed=owed)
        self._change(purse, -kept)
        purse.spent += kept

    def drop(self, key: str) -> None:
        """Remove a wallet, and its totals."""
        purse = self._purses.pop(key, None)
        if purse is not None:
            wallets = self.limit.wallets
            self._engine.with_wallets(lambda: wallets.close(purse.key))
            self._hold(purse.shard, -purse.left)
