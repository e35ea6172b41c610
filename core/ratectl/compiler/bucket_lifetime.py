"""Bound on the lifetime of a limit's buckets, from the documents that define it.

Thousands of overrides of a limit would take as many resolutions, for each scope that inherits it.
The bound needs one look at each document: it combines the largest count with the slowest rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.engine.algorithms.protocol import FOREVER, Extent
from ratectl.policy.language.rates import UNIT_NS
from ratectl.policy.resolution.algorithms.concurrency import DEFAULT_HOLD

if TYPE_CHECKING:
    from ratectl.policy.language.model import Cap, LimitFields
    from ratectl.policy.language.rates import Rate

__all__ = ["extent_of"]

_MONTH: Final = 31 * UNIT_NS["day"]


def extent_of(declared: LimitFields | Cap) -> Extent:
    """Return the bound for one document: for a limit's own fields, or a cap that may clip them."""
    values = declared.__dict__
    rate, slots, hold = values.get("rate"), values.get("max"), values.get("hold")
    extent = Extent(max(values.get("burst") or 0, slots or 0), 0, 0)
    if rate is not None and not rate.unlimited:
        extent = extent.joined(_of_rate(rate))
    if hold is not None or slots is not None:
        extent = extent.joined(Extent(0, 0, (hold or DEFAULT_HOLD).ns))
    return extent


def _of_rate(rate: Rate) -> Extent:
    window = rate.window_ns or rate.multiple * _MONTH
    token_ns = -(-window * rate.denominator // rate.numerator) if rate.numerator else FOREVER
    # Windows count to the whole number; the default burst is one second of the rate.
    most = max(1, -(-rate.numerator // rate.denominator), rate.per_second_ceiling)
    # Three windows: clocks that are set back make a day longer.
    return Extent(most, token_ns, 3 * window)
