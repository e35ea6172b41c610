"""The limits that decide a request, for headers and explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.engine.algorithms.protocol import FOREVER
from ratectl.engine.algorithms.quota import Quota

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.central.limits import CentralLimits
    from ratectl.engine.algorithms.protocol import Algorithm
    from ratectl.engine.api import Engine
    from ratectl.engine.limit_plan import LimitPlan

__all__ = ["LimitInForce", "limits_in_force"]

_DAY: Final = 86_400
_SECONDS: Final = {"min": 60, "h": 3_600, "day": _DAY, "week": 7 * _DAY, "month": 31 * _DAY}


class LimitInForce(NamedTuple):
    """A limit or budget that decides a request."""

    name: str
    scope: str
    """Declared scope of its buckets."""
    budget: bool
    capacity: int
    """Cost that a full bucket admits at once: the burst, the count of a window, or slots."""
    window: float | None
    """Seconds in which that much passes: of a token bucket, in which it fills; a month has 31 days.
    None for slots, and for a rate of zero."""
    slots: bool
    """True if it counts requests in progress."""
    unit: str
    per: tuple[str, ...]
    shadow: bool
    overrides: tuple[str, ...]
    """Overrides that set its values, such as ``gold@/payments``."""

    @property
    def per_second(self) -> float | None:
        """Cost per second in the long run; None for slots."""
        if self.slots:
            return None
        return self.capacity / self.window if self.window else 0.0


def limits_in_force(
    engine: Engine, central: CentralLimits, scope: str, attributes: Mapping[str, str]
) -> list[LimitInForce] | None:
    """Return the limits that decide a request; None if no policy covers the scope."""
    plans = [engine.plan(scope), central.plan(scope)]
    if plans[0] is None:
        return None
    return [_shown(limit) for plan in plans if plan for limit in plan.deciding(attributes)]


def _shown(limit: LimitPlan) -> LimitInForce:
    return LimitInForce(
        limit.name,
        limit.scope,
        limit.budget,
        limit.algorithm.capacity,
        _window_of(limit.algorithm),
        limit.algorithm.holds,
        limit.unit,
        limit.per,
        limit.shadow,
        limit.overrides,
    )


def _window_of(algorithm: Algorithm[Any]) -> float | None:
    if algorithm.holds:
        return None
    if isinstance(algorithm, Quota):
        return _SECONDS[algorithm.window.unit]
    extent = algorithm.extent()
    span = extent.span_ns or extent.token_ns * extent.capacity
    return None if span >= FOREVER else span / 1e9
