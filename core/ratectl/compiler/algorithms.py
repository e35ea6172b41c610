"""From the limits of policies to the engine's algorithms: one maker for each algorithm."""

from __future__ import annotations

from datetime import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast
from zoneinfo import ZoneInfo

from ratectl.engine.algorithms.calendar import CalendarWindow
from ratectl.engine.algorithms.concurrency import Concurrency
from ratectl.engine.algorithms.quota import Quota
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from ratectl.engine.algorithms.token_bucket import TokenBucket
from ratectl.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratectl.engine.algorithms.calendar import Unit
    from ratectl.engine.algorithms.protocol import Algorithm
    from ratectl.engine.algorithms.quota import WallOffset
    from ratectl.policy.language.rates import Rate
    from ratectl.policy.language.resets import Resets
    from ratectl.policy.resolution.effective_limit import Limit

__all__ = ["engine_algorithm"]

# Equal parameters share one object, which makes comparing generations cheap.


def engine_algorithm(limit: Limit, offset: WallOffset) -> Algorithm[Any]:
    """Return the engine's algorithm of a limit. ``offset`` leads to the wall clock."""
    return _MAKERS[limit.algorithm](limit, offset)


def _token_bucket(limit: Limit, _: WallOffset) -> TokenBucket:
    assert limit.rate is not None
    assert limit.burst is not None
    return _made_token_bucket(limit.rate, limit.burst)


@lru_cache(maxsize=65_536)
def _made_token_bucket(rate: Rate, burst: int) -> TokenBucket:
    return TokenBucket(rate.numerator, rate.denominator * _window_ns(rate), burst)


def _sliding_window(limit: Limit, _: WallOffset) -> SlidingWindow:
    assert limit.rate is not None
    return _made_sliding_window(limit.rate)


@lru_cache(maxsize=65_536)
def _made_sliding_window(rate: Rate) -> SlidingWindow:
    return SlidingWindow(rate.numerator, _window_ns(rate), blocked=not rate.numerator)


def _quota(limit: Limit, offset: WallOffset) -> Quota:
    assert limit.rate is not None
    assert limit.resets is not None
    return _made_quota(limit.rate, limit.resets, offset)


@lru_cache(maxsize=4_096)
def _made_quota(rate: Rate, resets: Resets, offset: WallOffset) -> Quota:
    window = CalendarWindow(
        unit=cast("Unit", rate.unit),
        zone=ZoneInfo(resets.zone),
        at=time(resets.hour, resets.minute),
        weekday=resets.weekday or 0,
        day=resets.day or 1,
    )
    return Quota(rate.numerator, window, offset, blocked=not rate.numerator)


def _concurrency(limit: Limit, _: WallOffset) -> Concurrency:
    assert limit.max is not None
    assert limit.hold is not None
    return _made_concurrency(limit.max, limit.hold.ns)


_made_concurrency = lru_cache(maxsize=4_096)(Concurrency)


def _window_ns(rate: Rate) -> int:
    window = rate.window_ns
    if window is None:
        raise BundleError(f"a rate of {rate} has no fixed length, so no bucket can follow it")
    return window


_MAKERS: Final[Mapping[str, Callable[[Limit, WallOffset], Algorithm[Any]]]] = {
    "token-bucket": _token_bucket,
    "sliding-window": _sliding_window,
    "quota": _quota,
    "concurrency": _concurrency,
}
