"""Refunds that are wrong in one place. The simulation must find every one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl.cluster.protocol.cooling import Cooling
from ratectl.cluster.protocol.pool import Account, Pool
from ratectl.cluster.protocol.timing import FOREVER

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


_refund = Pool.refund


def _before_each(change: Callable[[Pool], None]) -> Callable[[pytest.MonkeyPatch], None]:
    def patch(patch: pytest.MonkeyPatch) -> None:
        def refund(self: Pool, *args: Any, **more: Any) -> None:
            change(self)
            _refund(self, *args, **more)

        patch.setattr(Pool, "refund", refund)

    return patch


def _was_never_full(pool: Pool) -> None:
    pool.high_at = -FOREVER


def refunds_again(patch: pytest.MonkeyPatch) -> None:
    def refund(self: Pool, account: Account, refunded: int, *args: Any, **more: Any) -> None:
        account.refunded //= 2
        _refund(self, account, refunded, *args, **more)

    patch.setattr(Pool, "refund", refund)


def frees_what_was_spent_later(patch: pytest.MonkeyPatch) -> None:
    free = Cooling.free

    def later(self: Cooling, grains: int, spent_at: int, window: int) -> int:
        return free(self, grains, spent_at + window, window)

    patch.setattr(Cooling, "free", later)


BUCKETS: Final = {
    "refunds a full pool": _before_each(_was_never_full),
    "refunds again": refunds_again,
}
WINDOWS: Final = {"frees what was spent later": frees_what_was_spent_later}
