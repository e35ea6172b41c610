"""Resets: an operator makes the buckets of one key full. No other operation mints tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.engine.buckets.place import Place
from ratectl.engine.control import Busy
from ratectl.engine.deciding import DecidingEngine
from ratectl.runtime.cooperative import release

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.engine.buckets.bucket_set import Group
    from ratectl.engine.buckets.counters import Key
    from ratectl.engine.buckets.resets import ResetCounts
    from ratectl.engine.control import Spent
    from ratectl.engine.limit_plan import Identity

__all__ = ["ResettingEngine"]


class ResettingEngine(DecidingEngine):
    """An engine without ``check``."""

    def reset(
        self,
        scope: str,
        limit: str,
        attributes: Mapping[str, str | None],
        *,
        budget: bool = False,
        now: int | None = None,
    ) -> ResetCounts | None:
        if self.changing:
            raise Busy("this very thread is changing the engine, so it cannot reset a bucket")
        given = dict(attributes)
        done = self._alone(self._reset, (scope, limit, budget), given, now)
        if done is None:
            return None
        counts, found, spent = done
        release(*spent)
        watcher = self._watcher
        if watcher is not None:
            watcher.freed([Place(group, key) for group, key in found])
        mirror = self._mirror
        if mirror is not None:
            mirror.reset(scope, limit, given, budget=budget, now=now)
        return counts

    def _reset(
        self, identity: Identity, attributes: Mapping[str, str | None], now: int | None
    ) -> tuple[ResetCounts, list[tuple[Group, Key]], list[Spent]] | None:
        plan = self._plans.scopes.get(identity[0])
        if plan is None or plan.by_identity(identity) is None:
            return None
        counts, found = self._groups.reset(identity, attributes, self._instant(now))
        # A bucket that was reset has lost what a new key carries over: it has to carry again.
        spent = self._forget() if self._groups.past.changes else []
        return counts, found, spent
