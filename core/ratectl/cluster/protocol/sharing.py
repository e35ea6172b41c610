"""Sharing of a pool that is short of tokens among the members that want some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.cluster.protocol.capacity import GRAINS
from ratectl.cluster.protocol.timing import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ratectl.cluster.protocol.capacity import Lent
    from ratectl.cluster.protocol.pool import Account, LentLimit, Pool
    from ratectl.cluster.protocol.timing import Timing

__all__ = ["common_gap", "fast_gap", "idle_stock", "share_out"]

_POLLS_PER_SECOND: Final = 5_000
"""Polls that an owner answers in a second, about."""


def fast_gap(limits: Iterable[LentLimit], timing: Timing) -> int:
    """Return the gap between polls: a tenth of the time in which the smallest pool fills."""
    gap = timing.gap
    for limit in limits:
        if limit.lent.rate > 0:
            gap = min(gap, limit.lent.capacity // (10 * limit.lent.rate))
    return max(gap, timing.shortest_gap)


def common_gap(fast: int, members: int) -> int:
    """Return the gap between polls that an owner asks its members for: longer if there are many."""
    return max(fast, members * SECOND // _POLLS_PER_SECOND)


def idle_stock(lent: Lent, members: int, *, scarce: bool, free: int = 0, large: int = 0) -> int:
    """Return how many tokens a member should hold while it has no requests.

    With a token in its hand it admits the next request at once. All members together hold a third
    of the tokens; two thirds, if each can hold enough for a large request then.

    :param members: how many may be asked: all, for a limit with one bucket; of one key, those that
        were asked for it lately.
    :param free: whole tokens in the pool. Members hold a part of what is free in a window.
    :param large: largest cost that a member lately had too few tokens for.
    """
    tokens = lent.most
    if tokens < 2 * members:
        return 1 if tokens >= members else 0
    if scarce:
        return 1
    if lent.window:
        tokens = free
    usual, most = max(1, tokens // (3 * members)), tokens // members
    return min(large + usual, max(large, 2 * most // 3)) if large <= most else usual


def share_out(pool: Pool, lent: Lent, is_live: Callable[[str], bool]) -> Iterator[str]:
    """Grant what is free, the smallest wishes first; yield the members that got some.

    Max-min fairness (water-filling): nobody gets more than another whose wish is not fulfilled.
    If there is not one token for each member, the first in line get one. Those that got some
    are last in line then. A member that waits for one large request waits for its turn: when it
    is the first in line, the pool saves for it, and grants nothing to others.

    A window is short as long as somebody waits, and until an eighth of it is free: a token that is
    held without requests is lost to others. In a bucket, others accrue meanwhile.
    """
    most = lent.most
    lasts = pool.short and 8 * pool.level < lent.capacity
    pool.short = lent.window > 0 and (lasts or bool(pool.waiting))
    line = [(member, account) for member, account in pool.waiting.items() if is_live(member)]
    for member, account in line:
        if not account.saves(most):
            break
        needs = account.least - account.held
        if pool.free < needs:
            pool.short = pool.short or needs * GRAINS > pool.room(lent)
            return
        pool.grant(account, needs)
        _to_the_end(pool, member, account, most)
        yield member
    wishes = [(member, account) for member, account in line if not account.saves(most)]
    left = len(wishes)
    if pool.free >= left:
        wishes.sort(key=lambda wish: wish[1].missing(most))
    for member, account in wishes:
        got = pool.grant(account, min(account.missing(most), -(-pool.free // left)))
        left -= 1
        if got:
            _to_the_end(pool, member, account, most)
            yield member


def _to_the_end(pool: Pool, member: str, account: Account, most: int) -> None:
    """Let a member that got tokens wait behind those that got none, if it wants more."""
    del pool.waiting[member]
    account.scarce = account.missing(most) > 0
    if account.scarce:
        pool.waiting[member] = account
