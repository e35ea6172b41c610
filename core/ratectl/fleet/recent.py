"""Usage of one limit over the last minutes: one to fifteen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.runtime.times import seconds_since

if TYPE_CHECKING:
    from ratectl.records import LimitReport, UsageRecord

__all__ = ["MAX_MINUTES", "Recent", "RecentTotal", "recent"]

MAX_MINUTES: Final = 15
"""Minutes that agents report."""


class Recent(NamedTuple):
    """Usage of a limit in one agent over some minutes."""

    rate: float | None
    """Requests per second, admitted or not; None if unknown."""
    refused_rate: float | None
    peak: float | None
    """Use of the fullest bucket, 0 to 1; None if nothing was admitted."""
    whole: bool
    """True if ``peak`` is known for all of these minutes."""


@dataclass(slots=True)
class RecentTotal:
    """Usage of a limit in all agents over some minutes."""

    rate: float | None = None
    """Requests per second in the agents whose rate is known; None if none is."""
    refused_rate: float | None = None
    peak: float | None = None
    """Use of the fullest bucket in any agent, 0 to 1; None if unknown."""
    rated: int = 0
    """Agents whose rate is known."""
    whole: int = 0
    """Agents whose peak is known for all of these minutes."""

    def add(self, recent: Recent) -> None:
        if recent.rate is not None and recent.refused_rate is not None:
            self.rate = (self.rate or 0.0) + recent.rate
            self.refused_rate = (self.refused_rate or 0.0) + recent.refused_rate
            self.rated += 1
        if recent.peak is not None:
            self.peak = max(self.peak or 0.0, recent.peak)
        self.whole += recent.whole


def recent(record: UsageRecord, report: LimitReport, minutes: int) -> Recent:
    """Return the usage of a limit in an agent over the last minutes.

    One minute and fifteen are those of the agent's own rates. For other spans the rates are of
    that number of complete minutes, so they are up to a minute old. An agent that has run for a
    shorter time tells its rates since its start. Agents of older versions know one minute only.
    """
    if minutes == 1:
        peak = None if report.pool else report.peak  # the owner of a pool reports it
        return Recent(*_last_minute(record, report), peak, whole=True)
    peaks = [] if report.pool else _peaks(report, minutes)
    young = minutes == MAX_MINUTES or _is_younger(record, minutes + 1)
    rates = _since_start(report) if young else _of_complete_minutes(report, minutes)
    return Recent(*rates, max(peaks, default=None), whole=bool(report.trend))


def _peaks(report: LimitReport, minutes: int) -> list[float]:
    peaks = [peak for _, _, peak in report.trend[-minutes:] if peak is not None]
    return peaks if report.peak is None else [*peaks, report.peak]


_Rates = tuple[float | None, float | None]


def _last_minute(record: UsageRecord, report: LimitReport) -> _Rates:
    seconds = record.recent_seconds
    if seconds <= 0:
        return None, None
    decided = report.recent_allowed + report.recent_refused
    return decided / seconds, report.recent_refused / seconds


def _since_start(report: LimitReport) -> _Rates:
    """Return the rates over fifteen minutes, or since the agent's start."""
    if len(report.rates) < 3 or len(report.refused_rates) < 3:
        return None, None
    return report.rates[2], report.refused_rates[2]


def _of_complete_minutes(report: LimitReport, minutes: int) -> _Rates:
    complete = report.trend[-minutes - 1 : -1]
    if len(complete) < minutes:
        return None, None
    allowed = sum(minute[0] for minute in complete)
    refused = sum(minute[1] for minute in complete)
    return (allowed + refused) / (60 * minutes), refused / (60 * minutes)


def _is_younger(record: UsageRecord, minutes: int) -> bool:
    """Return True if the agent has counted for less than some minutes."""
    try:
        at = datetime.fromisoformat(record.reported)
    except ValueError:
        return False
    if at.tzinfo is None:
        return False
    seconds = seconds_since(record.since, at)
    return seconds is not None and seconds < 60 * minutes
