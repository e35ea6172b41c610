"""Requests that cost more than a pool has room for.

Of a limit that counts per key, each member keeps a part of each key for first requests. A request
for more than the rest would never be admitted: so for a while, all members lend such a limit whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.cluster.protocol.capacity import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.cluster.protocol.capacity import Lent
    from ratectl.cluster.protocol.messages import PoolId
    from ratectl.cluster.protocol.pool import Account, Pool

__all__ = ["LargeCosts"]


class LargeCosts:
    """Accounts that wait for more than their pools have room for, and limits to lend whole.

    :param whole_for: time (nanoseconds) for which members lend a limit whole after such a request.
    """

    def __init__(self, whole_for: int) -> None:
        self._whole_for = whole_for
        self._pools: dict[str, dict[PoolId, Pool]] = {}
        self._limits: dict[str, tuple[int, int]] = {}
        """Tokens that members lend if they keep their parts, and until when they should not."""

    def note(self, name: PoolId, pool: Pool, account: Account, lent: Lent, now: int) -> None:
        """Take note of the largest request that waits at a member."""
        account.looks_in_vain(lent.most)
        if account.in_vain:
            self._pools.setdefault(name.limit, {})[name] = pool
        if not (name.key and account.least) or 2 * lent.share <= WHOLE:
            return  # one member alone may say that there is such a limit
        most = lent.most * WHOLE // lent.share  # of all members: some have not lent anything yet
        kept, _ = self._limits.get(name.limit, (most, 0))
        kept = min(kept, most)
        if kept < account.least <= 2 * most + 1:
            self._limits[name.limit] = kept, now + self._whole_for

    def changed(self, limit: str, lent: Lent) -> Iterator[tuple[PoolId, str, Account]]:
        """Yield the accounts for which the capacity of a limit has made a difference."""
        for name, pool in self._pools.get(limit, {}).items():
            for member, account in pool.accounts.items():
                if account.looks_in_vain(lent.most):
                    yield name, member, account
        self._forget_unused(limit)

    def whole(self, now: int) -> tuple[str, ...]:
        """Return the limits that members should lend whole."""
        for limit, (_, until) in list(self._limits.items()):
            if now >= until:
                del self._limits[limit]
        return tuple(self._limits)

    def forget_unused(self) -> None:
        """Drop pools in which no account waits in vain any more."""
        for limit in list(self._pools):
            self._forget_unused(limit)

    def _forget_unused(self, limit: str) -> None:
        pools = {
            name: pool
            for name, pool in self._pools.pop(limit, {}).items()
            if any(account.in_vain for account in pool.accounts.values())
        }
        if pools:
            self._pools[limit] = pools
