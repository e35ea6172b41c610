"""Points in time and durations, for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from ratectl.runtime.times import ago, seconds_since, span

__all__ = ["ago", "data_age", "span", "utc", "wait"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def data_age(oldest: str | None, at: datetime) -> str:
    """Return ``data 3 s old``; ``oldest``: the time of the oldest report, None without reports."""
    if oldest is None:
        return "no data"
    age = seconds_since(oldest, at)
    return "data of unknown age" if age is None else f"data {span(max(0.0, age))} old"


def utc(nanoseconds: int) -> str:
    """Return a time since 1970 as ``2026-11-28 21:29:00``, in UTC."""
    return f"{_EPOCH + timedelta(seconds=nanoseconds // 10**9):%Y-%m-%d %H:%M:%S}"


def wait(nanoseconds: int) -> str:
    """Return a wait such as ``1.5 s``, rounded up: it is never shown shorter than it is."""
    for size, unit in ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")):
        if nanoseconds >= size:
            thousandths = -(-nanoseconds * 1000 // size)
            return f"{thousandths / 1000:g} {unit}"
    return f"{nanoseconds} ns"
