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
    from ratectl.policy.resolution.algorithms.protocol import Parameters
    from ratectl.policy.resolution.effective_limit import Limit

__all__ = ["engine_algorithm"]

# Equal parameters share one object, which makes comparing generations cheap.


def engine_algorithm(name: str, of: Parameters | Limit, offset: WallOffset) -> Algorithm[Any]:
    """Return the engine's algorithm of this name. ``offset`` leads to the wall clock."""
    return _MAKERS[name](of, offset)


def _token_bucket(of: Parameters | Limit, _: WallOffset) -> TokenBucket:
    assert of.rate is not None
    assert of.burst is not None
    return _made_token_bucket(of.rate, of.burst)


@lru_cache(maxsize=65_536)
def _made_token_bucket(rate: Rate, burst: int) -> TokenBucket:
    return TokenBucket(rate.numerator, rate.denominator * _window_ns(rate), burst)


def _sliding_window(of: Parameters | Limit, _: WallOffset) -> SlidingWindow:
    assert of.rate is not None
    assert of.precision is not None
    return _made_sliding_window(of.rate, of.precision)


@lru_cache(maxsize=65_536)
def _made_sliding_window(rate: Rate, cells: int) -> SlidingWindow:
    return SlidingWindow(rate.numerator, _window_ns(rate), blocked=not rate.numerator, cells=cells)


def _quota(of: Parameters | Limit, offset: WallOffset) -> Quota:
    assert of.rate is not None
    assert of.resets is not None
    return _made_quota(of.rate, of.resets, offset)


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


def _concurrency(of: Parameters | Limit, _: WallOffset) -> Concurrency:
    assert of.max is not None
    assert of.hold is not None
    return _made_concurrency(of.max, of.hold.ns)


_made_concurrency = lru_cache(maxsize=4_096)(Concurrency)


def _window_ns(rate: Rate) -> int:
    window = rate.window_ns
    if window is None:
        raise BundleError(f"a rate of {rate} has no fixed length, so no bucket can follow it")
    return window


_MAKERS: Final[Mapping[str, Callable[[Parameters | Limit, WallOffset], Algorithm[Any]]]] = {
    "token-bucket": _token_bucket,
    "sliding-window": _sliding_window,
    "quota": _quota,
    "concurrency": _concurrency,
}
