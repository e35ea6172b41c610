"""Parameters of limits for the server's scripts, whose numbers are doubles: exact up to 2^53.

Times are whole microseconds. A token bucket is counted in units, so that each tick adds a whole
number of them. Where units that are exact would exceed the bound, the rate is rounded down: the
server never admits more than the engine would.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ratectl.engine.algorithms.concurrency import Concurrency
from ratectl.engine.algorithms.quota import Quota
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from ratectl.engine.algorithms.token_bucket import TokenBucket

if TYPE_CHECKING:
    from ratectl.engine.algorithms.protocol import Algorithm

__all__ = ["MOST", "algorithm_name", "most_more", "parameters"]

MOST: Final = 1 << 52
"""Largest number of units in a bucket, and largest cost that a script is told."""

_TICKS: Final = tuple(10**power for power in range(10))
"""Lengths of a tick in microseconds, up to about 17 minutes."""

_EXACT_ENOUGH: Final = 10**6
"""Units per tick from which on rounding loses less than a millionth of the rate."""


def algorithm_name(algorithm: Algorithm[Any]) -> str:
    """Return the name of an algorithm in the scripts."""
    if isinstance(algorithm, TokenBucket):
        return "token"
    if isinstance(algorithm, SlidingWindow):
        return "sliding"
    return "quota" if isinstance(algorithm, Quota) else "slots"


def parameters(algorithm: Algorithm[Any], wall_us: int) -> tuple[object, ...]:
    """Return the parameters of a limit for the scripts (see algorithms.lua), after the capacity.

    ``wall_us``: about the server's time, in microseconds since 1970, for calendar windows.
    """
    if isinstance(algorithm, TokenBucket):
        return _token_units(algorithm.per_ns, algorithm.per_token, algorithm.capacity)
    if isinstance(algorithm, SlidingWindow):
        return _window(algorithm)
    if isinstance(algorithm, Quota):
        return _starts(algorithm, wall_us), int(algorithm.blocked)
    assert isinstance(algorithm, Concurrency)
    return (max(1, algorithm.hold_ns // 1000),)


def most_more(algorithm: Algorithm[Any]) -> int:
    """Return the largest correction of a cost that keeps the numbers of a script exact."""
    if isinstance(algorithm, TokenBucket):
        units = _token_units(algorithm.per_ns, algorithm.per_token, algorithm.capacity)
        return MOST // units[1]
    return MOST // 4


@lru_cache(maxsize=65_536)
def _token_units(per_ns: int, per_token: int, burst: int) -> tuple[int, int, int]:
    """Return units per tick, units per token, and the length of a tick in microseconds."""
    rate = Fraction(per_ns * 1000, per_token)
    bound = MOST // max(1, burst)
    for tick in _TICKS[:7]:
        exact = rate * tick
        if exact.denominator <= bound and exact.numerator <= MOST:
            return exact.numerator, exact.denominator, tick
    for tick in _TICKS:
        units = rate * tick * bound // 1
        if units >= _EXACT_ENOUGH:
            break
    return min(units, MOST), bound, tick


def _window(algorithm: SlidingWindow) -> tuple[int, ...]:
    cells = algorithm.cells
    quantum = -(-algorithm.capacity // cells)
    # Rounded up to the microsecond: a window never ends early.
    length = -(-algorithm.window_ns // 1000)
    return length, cells, algorithm.exact, quantum, int(algorithm.blocked)


def _starts(algorithm: Quota, wall_us: int) -> list[int]:
    """Return the starts of four calendar windows (microseconds), the second holds ``wall_us``."""
    start, end = algorithm.window.around(wall_us * 1000)
    before, _ = algorithm.window.around(start - 1)
    _, after = algorithm.window.around(end)
    return [each // 1000 for each in (before, start, end, after)]
