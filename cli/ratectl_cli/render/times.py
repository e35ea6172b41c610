"""Points in time, as people say them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["ago", "now", "now_ns", "seconds_since", "span", "wait"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def now_ns() -> int:
    """The same in nanoseconds since 1970, as exceptions are told by."""
    return (now() - _EPOCH) // timedelta(microseconds=1) * 1_000


def seconds_since(time: str, at: datetime) -> float | None:
    """Seconds from an ISO 8601 time to ``at``; None where the time is not readable."""
    try:
        then = datetime.fromisoformat(time)
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return (at - then).total_seconds()


def ago(time: str | None, at: datetime) -> str:
    """``just now``, ``12 s ago``, ``3 min ago``, ``2 days ago``; ``?`` where unknown."""
    seconds = None if time is None else seconds_since(time, at)
    if seconds is None:
        return "?"
    if seconds < -2:
        return f"in {span(-seconds)} (clock?)"
    return "just now" if seconds < 1 else f"{span(seconds)} ago"


def span(seconds: float) -> str:
    """A length of time in its largest unit."""
    for size, unit in ((86_400, "day"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if unit == 'day' and count != 1 else ''}"
    return f"{seconds:.0f} s"


def wait(nanoseconds: int) -> str:
    """A wait, never shown shorter than it is."""
    for size, unit in ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")):
        if nanoseconds >= size:
            thousandths = -(-nanoseconds * 1000 // size)
            return f"{thousandths / 1000:g} {unit}"
    return f"{nanoseconds} ns"
