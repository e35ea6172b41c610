"""How long the buckets of a limit may matter, from what documents say of it, without resolving.

What thousands of overrides make of a limit takes as many resolutions, for each scope that inherits
it. A bound needs one look at each document: the largest count may meet the slowest rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.engine.conditional_limit import Extent
from ratectl.policy.language.rates import UNIT_NS
from ratectl.policy.resolution.effective_limit import DEFAULT_HOLD

if TYPE_CHECKING:
    from ratectl.policy.language.model import Cap, LimitFields
    from ratectl.policy.language.rates import Rate

__all__ = ["said_extent"]

_MONTH: Final = 31 * UNIT_NS["day"]


def said_extent(said: LimitFields | Cap) -> Extent:
    """The part that one document has in it: the limit's own fields, or a cap that may clip them."""
    values = said.__dict__
    rate, most, hold = values.get("rate"), values.get("max"), values.get("hold")
    extent = Extent(max(values.get("burst") or 0, most or 0), 0, 0)
    if rate is not None and not rate.unlimited:
        extent = extent.joined(_of_rate(rate))
    if hold is not None or most is not None:
        extent = extent.joined(Extent(0, 0, (hold or DEFAULT_HOLD).ns))
    return extent


def _of_rate(rate: Rate) -> Extent:
    window = rate.window_ns or rate.multiple * _MONTH
    each = -(-window * rate.denominator // rate.numerator) if rate.numerator else 0
    # A burst defaults to what comes in a second. Thrice the window: sub-windows are rounded up, a
    # quota looks two windows ahead, and clocks that are set back make a day longer.
    return Extent(max(1, rate.per_second_ceiling), each, 3 * window)
