"""Numbers of limits and keys in cells: a sum that may lack agents says so, an unknown one is ?."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.fleet.usage import NEAR
from ratectl.runtime.wording import percent
from ratectl_cli.framework.text import Styled
from ratectl_cli.render.sparkline import gauge_line

if TYPE_CHECKING:
    from ratectl.fleet.usage import LimitTotal
    from ratectl.health.hot_keys import Count
    from ratectl_cli.framework.terminal import Stream
    from ratectl_cli.framework.text import Line

__all__ = ["count_text", "near_text", "percent_text", "rate_text", "trend_text", "used_cell"]

_BAR: Final = 10


def used_cell(used: float | None, stream: Stream, *, partial: bool = False) -> Line:
    """Return the use of a bucket, 0 to 1, with a bar on a terminal.

    ``partial``: it may be more, as not all agents report all of it.
    """
    if used is None:
        return "?"
    colour = "red" if used >= 1 else "yellow" if used >= NEAR else "green"
    text = _at_least(percent(used), partial=partial and used < 1)
    if not stream.terminal:
        return Styled(text, colour)
    full = int(used * _BAR)  # only a full bucket has a full bar
    return [Styled("█" * full + "░" * (_BAR - full), colour), f" {text:>4}"]


def percent_text(share: float) -> str:
    """Return ``80%`` or ``82.5%``."""
    return f"{100 * share:.6g}%"


def rate_text(total: LimitTotal) -> str:
    """Return the requests per second over the minutes of the report."""
    rate, partial = total.recent.rate, total.recent.rated < total.agents
    if rate is None or (partial and not rate):
        return "?"
    return _at_least("<0.1" if 0 < rate < 0.05 else f"{rate:.1f}", partial=partial)


def near_text(total: LimitTotal) -> str:
    """Return the number of keys that use most of their bucket."""
    if total.is_unknown:
        return "?"
    partial = total.detailed < total.agents
    if not total.detailed or (partial and not total.near_keys):
        return "?"
    return _at_least(str(total.near_keys), partial=partial)


def trend_text(total: LimitTotal, minutes: int, stream: Stream) -> str:
    """Return the use of the fullest bucket in each of the last minutes."""
    if not total.trending:
        return "?"
    peaks = [peak for _, _, peak in total.trend[-minutes:]]
    return gauge_line(peaks, symbols=stream.symbols)


def count_text(count: Count | None) -> str:
    """Return ``1200`` for an exact count, ``1200±30``, or ``~1200`` where no bound is known."""
    if count is None:
        return "?"
    if count.error is None:
        return f"~{count.value}"
    return f"{count.value}±{count.error}" if count.error else str(count.value)


def _at_least(text: str, *, partial: bool) -> str:
    return f"≥{text}" if partial else text
