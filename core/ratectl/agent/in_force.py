"""The limits that decide a request, for headers and explanations."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.engine.algorithms.pooled import PooledBucket
from ratectl.engine.algorithms.protocol import FOREVER
from ratectl.engine.algorithms.quota import Quota

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.central.limits import CentralLimits
    from ratectl.engine.algorithms.protocol import Algorithm
    from ratectl.engine.api import Engine, ScopePlan
    from ratectl.engine.limit_plan import LimitPlan

__all__ = ["LimitInForce", "counted_here", "limits_in_force"]

_NAMED: Final = 5
_SCOPES: Final = 1_000
"""Most scopes that are looked at for limits to name."""

_DAY: Final = 86_400
_SECONDS: Final = {"s": 1, "min": 60, "h": 3_600, "day": _DAY, "week": 7 * _DAY, "month": 31 * _DAY}


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


def counted_here(scopes: Mapping[str, ScopePlan]) -> str | None:
    """Return a sentence that names limits which each process counts for itself; None for none.

    ``scopes``: plans in force. Values that overrides set are not looked at.
    """
    if not scopes:  # nobody knows yet
        return (
            "limits without `across: cluster` count in each process: N processes admit N times as "
            "much"
        )
    names = list(islice(_counted_here(scopes), _NAMED + 1))
    if not names:
        return None
    more = " and others" if len(names) > _NAMED else ""
    text = f"{', '.join(names[:_NAMED])}{more}"
    return f"these limits count in each process, so N processes admit N times as much: {text}"


def _counted_here(scopes: Mapping[str, ScopePlan]) -> Iterator[str]:
    for scope in islice(sorted(scopes), _SCOPES):
        for limit in scopes[scope].deciding({}):
            if limit.scope == scope and not isinstance(limit.algorithm, PooledBucket):
                yield f"{'budget ' if limit.budget else ''}{limit.name} at {scope}"


@lru_cache(1_024)
def _shown(limit: LimitPlan) -> LimitInForce:
    """Describe a plan, which never changes."""
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
