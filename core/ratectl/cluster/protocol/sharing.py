"""How a pool that is short of tokens is shared among the members that want some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.cluster.protocol.capacity import GRAINS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl.cluster.protocol.capacity import Lent
    from ratectl.cluster.protocol.messages import PoolId
    from ratectl.cluster.protocol.pool import Account, Pool

__all__ = ["idle_stock", "share_out"]


def idle_stock(pool: PoolId, lent: Lent, members: int, *, scarce: bool) -> int:
    """Return how many tokens a member should hold while it has no requests.

    A limit with one bucket is used by every member: with a token in its hand a member admits the
    first request at once. Of a limit with many keys, members hold only what they use.
    """
    if pool.key:
        return 0
    tokens = lent.capacity // GRAINS
    if tokens < 2 * members:
        return 1 if tokens >= members else 0
    return 1 if scarce else max(1, tokens // (3 * members))


def share_out(pool: Pool, is_live: Callable[[str], bool]) -> Iterator[str]:
    """Grant what is free, the smallest wishes first; yield the members that got some.

    Max-min fairness (water-filling): nobody gets more than another whose wish is not fulfilled.
    Before that, a member that waits for one large request has its turn: the pool saves for it.
    """
    while (saver := _first_saver(pool, is_live)) is not None:
        member, account = saver
        needs = account.least - account.held
        if pool.free < needs:
            return
        pool.grant(account, needs)
        pool.waiting[member] = pool.waiting.pop(member)  # the others have their turns first
        yield member
    wishes = sorted(
        ((member, account) for member, account in pool.waiting.items() if is_live(member)),
        key=lambda wish: wish[1].missing,
    )
    left = len(wishes)
    for member, account in wishes:
        got = pool.grant(account, min(account.missing, -(-pool.free // left)))
        left -= 1
        if not got:
            continue
        del pool.waiting[member]
        if account.missing:
            pool.waiting[member] = account  # behind those that got nothing
        else:
            account.scarce = False
        yield member


def _first_saver(pool: Pool, is_live: Callable[[str], bool]) -> tuple[str, Account] | None:
    """Return the first member that waits for a larger request than its tokens allow."""
    for member, account in pool.waiting.items():
        if account.held < account.least and is_live(member):
            return member, account
    return None
