"""Refunds that are wrong in one place. The simulation must find every one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl.cluster.protocol.cooling import Cooling
from ratectl.cluster.protocol.pool import Account, Pool
from ratectl.cluster.protocol.timing import FOREVER

if TYPE_CHECKING:
    import pytest

_refund = Pool.refund


def refunds_a_full_pool(patch: pytest.MonkeyPatch) -> None:
    def refund(self: Pool, *args: Any) -> None:
        self.high_at = -FOREVER
        _refund(self, *args)

    patch.setattr(Pool, "refund", refund)


def refunds_again(patch: pytest.MonkeyPatch) -> None:
    def refund(self: Pool, account: Account, *args: Any) -> None:
        account.refunded //= 2
        _refund(self, account, *args)

    patch.setattr(Pool, "refund", refund)


def frees_what_was_spent_later(patch: pytest.MonkeyPatch) -> None:
    free = Cooling.free

    def later(self: Cooling, grains: int, spent_at: int, window: int) -> int:
        return free(self, grains, spent_at + window, window)

    patch.setattr(Cooling, "free", later)


BUCKETS: Final = {
    "refunds a full pool": refunds_a_full_pool,
    "refunds again": refunds_again,
}
WINDOWS: Final = {"frees what was spent later": frees_what_was_spent_later}
