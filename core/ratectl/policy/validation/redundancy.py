"""When one bucket makes another pointless: it refuses whatever the other would, and earlier or as
early.

Said only where it is certain. All traffic of the one must draw from a single bucket of the other,
which then bounds what the one can see: in a span t a token bucket admits at most burst + rate·t, a
window n for each time that it fits into t, and n more. A bucket that this bound cannot fill never
refuses.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

from ratectl.policy.language.rates import NS, UNIT_NS

if TYPE_CHECKING:
    from ratectl.policy.language.rates import Rate
    from ratectl.policy.resolution.effective_limit import Limit

__all__ = ["outdone"]

_COUNTED_LONGER: Final = Fraction(9, 8)
"""A sliding window may count a request a sub-window longer than it says: a fifteenth, now."""

_CLOCK_CHANGE_NS: Final = 3 * UNIT_NS["h"]
"""What changing the clocks may add to a day."""


def outdone(limit: Limit, by: Limit) -> bool:
    """Whether ``limit`` refuses nothing that ``by`` admits.

    Every request that ``limit`` counts must draw from ``by`` too: a budget at or above its scope,
    or another limit of the same scope.
    """
    if not (_enforced(limit) and _enforced(by)) or limit.across is not None:
        return False  # limits across the cluster see what other agents admit
    if not set(by.per) <= set(limit.per):
        return False
    if limit.rate is None or by.rate is None:
        return _slots(limit, by)
    if not by.rate.numerator:
        return False  # 0/s closes a subtree for a while: no reason to rewrite what is below
    return _SHAPES[limit.algorithm](limit, by)


def _enforced(limit: Limit) -> bool:
    return limit.mode == "enforce" and not limit.unlimited


def _slots(limit: Limit, by: Limit) -> bool:
    """What the one still holds the other holds as well, unless that lets go of it earlier."""
    if limit.max is None or by.max is None or limit.hold is None or by.hold is None:
        return False
    return by.max <= limit.max and by.hold.ns >= limit.hold.ns


def _rate(limit: Limit) -> Rate:
    assert limit.rate is not None
    return limit.rate


def _bucket(limit: Limit, by: Limit) -> bool:
    """It starts full and follows its own bound exactly: a bound no higher suffices."""
    at_once = _rate(by).count if by.algorithm == "sliding-window" else by.burst
    if at_once is None or limit.burst is None or _rate(by).exceeds(_rate(limit)):
        return False
    return at_once <= limit.burst


def _window(limit: Limit, by: Limit) -> bool:
    if by.algorithm == "sliding-window" and _rate(by).window_ns == _rate(limit).window_ns:
        return _rate(by).numerator <= _rate(limit).numerator  # their sub-windows are the same
    window = _rate(limit).window_ns
    assert window is not None
    return _fits(limit, by, _COUNTED_LONGER * window)


def _quota(limit: Limit, by: Limit) -> bool:
    if by.algorithm == "quota":
        same = (_rate(by).unit, by.resets) == (_rate(limit).unit, limit.resets)
        return same and _rate(by).numerator <= _rate(limit).numerator
    longest = UNIT_NS.get(_rate(limit).unit, 31 * UNIT_NS["day"])
    if _rate(limit).unit not in ("min", "h"):
        longest += _CLOCK_CHANGE_NS
    return _fits(limit, by, Fraction(longest))


def _fits(limit: Limit, by: Limit, span_ns: Fraction) -> bool:
    """Whether what ``by`` admits in any such span is no more than ``limit`` counts to."""
    pace, window = _rate(by).per_second, _rate(by).window_ns
    if by.algorithm == "token-bucket" and by.burst is not None and pace is not None:
        most = by.burst + pace * span_ns / NS
    elif by.algorithm == "sliding-window" and window is not None:
        most = Fraction(_rate(by).numerator * (span_ns // window + 1))
    else:
        return False  # a calendar window may end just before a span and begin anew in it
    return most <= _rate(limit).numerator


_SHAPES: Final = {"token-bucket": _bucket, "sliding-window": _window, "quota": _quota}
