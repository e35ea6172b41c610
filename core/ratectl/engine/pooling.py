"""Totals that were spent of limits across the cluster, which fill their wallets again."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ratectl.engine.algorithms.keyed_bucket import KeyedBucket, KeyWallets
from ratectl.engine.algorithms.pooled import LONG_AGO, PooledBucket, Wallet
from ratectl.engine.limit_plan import LimitPlan
from ratectl.engine.waiting import WaitingEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.engine.algorithms.keyed_bucket import AnyKeyWallets
    from ratectl.engine.algorithms.pooled import AnyWallet
    from ratectl.engine.buckets.counters import Key
    from ratectl.engine.limit_plan import GroupName

__all__ = ["PoolingEngine"]

T = TypeVar("T")


class PoolingEngine(WaitingEngine):
    """An engine without ``check``."""

    _wallets: tuple[AnyWallet, ...] = ()
    _key_wallets: tuple[AnyKeyWallets, ...] = ()

    def new_wallet(self) -> AnyWallet:
        wallet = self._made_wallet()
        self._wallets = (*self._wallets, wallet)
        return wallet

    def _made_wallet(self) -> AnyWallet:
        return Wallet()

    def new_key_wallets(self) -> AnyKeyWallets:
        wallets = self._made_key_wallets()
        self._key_wallets = (*self._key_wallets, wallets)
        return wallets

    def _made_key_wallets(self) -> AnyKeyWallets:
        return KeyWallets()

    def with_wallets(self, work: Callable[[], T]) -> T:
        return self._alone(work)

    def keep_tokens(
        self, name: GroupName, key: Key, now: int | None = None, *, owed: bool = False
    ) -> int:
        return self._alone(self._keep_tokens, name, key, now, owed)

    def _keep_tokens(self, name: GroupName, key: Key, now: int | None, owed: bool) -> int:
        group = self._groups.made(name)
        if group is None or not isinstance(group.algorithm, KeyedBucket):
            return 0
        algorithm = group.algorithm
        instant = self._instant(now)
        if instant >= algorithm.wallets.deadline:
            return 0  # they are void: an owner may have taken them for spent long ago
        state, serial = group.find(key, instant)
        if not serial:
            return 0
        left = algorithm.wallets.left(key)
        kept, state = algorithm.filled(state, left, instant, owed=owed)
        if kept:
            algorithm.wallets.withdraw(key, kept)
            group.write(key, state, serial)
        return kept

    def after_fork_in_child(self) -> None:
        for wallet in self._wallets:
            wallet.deadline = LONG_AGO  # its tokens are the parent's
        for wallets in self._key_wallets:
            wallets.deadline = wallets.until = LONG_AGO
        super().after_fork_in_child()

    def spent(self, name: GroupName, now: int | None = None) -> int | None:
        return self._alone(self._spent, name, now)

    def _spent(self, name: GroupName, now: int | None) -> int | None:
        instant = self._instant(now)
        group = self._groups.made(name)
        if group is None:
            scope = self._plans.scopes.get(name[0])
            plan = scope and scope.by_identity(name[:3])
            if not isinstance(plan, LimitPlan) or plan.group_name != name:
                return None
            group = self._groups.group(plan)
        if group.ended is not None or not isinstance(group.algorithm, PooledBucket):
            return None
        key = group.key({})
        state, serial = group.find(key, instant)
        if not serial:
            group.keep(key, state)
        spent: int = state  # type: ignore[assignment]
        return spent
