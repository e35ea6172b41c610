"""Horizons: how long what requests left behind may still count, for each name of a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.engine.conditional_limit import LimitChoice

if TYPE_CHECKING:
    from ratectl.engine.algorithms.protocol import Extent
    from ratectl.engine.limit_plan import Identity, LimitPlan

__all__ = ["Horizon"]


class Horizon:
    """Instants until which charges of before some publications count.

    After the last slowdown, whatever was missing then has come back when the largest bucket would
    have filled at the rate since.
    """

    __slots__ = ("_limits", "_most")

    def __init__(self) -> None:
        self._most = 0
        """Largest cost that may be missing from a bucket."""
        self._limits: dict[Identity, tuple[int, int, int]] = {}
        """For each limit: the instant of its last change, and token time and span since."""

    def move(
        self,
        to: Identity,
        old: LimitPlan | LimitChoice | None,
        new: LimitPlan | LimitChoice,
        debt: int,
        now: int,
    ) -> None:
        """Note that charges of limit ``old`` count under ``new`` from now on.

        Without ``old``, these are charges of before the limit went, if any still count. ``debt``:
        the largest cost that was missing beyond a capacity.
        """
        if self.over(now):
            if old is None:
                return
            self._most = 0
            self._limits.clear()
        after = _extent(new)
        before = after if old is None else _extent(old)
        self._most = max(self._most, before.capacity + debt, after.capacity)
        known = self._limits.get(to)
        token, span = after.token_ns, max(before.span_ns, after.span_ns)
        if known is not None:
            since, other, others = known
            span = max(span, since + others - now)
            if since == now:
                token = max(token, other)
        self._limits[to] = (now, token, span)

    def owe(self, cost: int) -> None:
        """Note that so much may be missing from a bucket."""
        self._most = max(self._most, cost)

    def restart(self, now: int) -> int:
        """Note that all that may be missing is missing from now on. Return that cost."""
        for limit, (since, token, span) in self._limits.items():
            self._limits[limit] = (max(since, now), token, span)
        return self._most

    def until(self) -> int:
        """Return the instant from which nothing of before counts."""
        return max(
            (since + max(self._most * token, span) for since, token, span in self._limits.values()),
            default=0,
        )

    def over(self, now: int) -> bool:
        """Return True if nothing of before counts any more."""
        return not self._limits or now >= self.until()


def _extent(limit: LimitPlan | LimitChoice) -> Extent:
    return limit.extent if isinstance(limit, LimitChoice) else limit.algorithm.extent()
