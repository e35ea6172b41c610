"""Lengths of time and points in time as text."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["ago", "seconds_since", "span"]


def seconds_since(time: str | None, at: datetime) -> float | None:
    """Return the seconds from an ISO 8601 time to ``at``; None where the time is not known."""
    if time is None:
        return None
    try:
        then = datetime.fromisoformat(time)
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return (at - then).total_seconds()


def ago(time: str | None, at: datetime) -> str:
    """Return ``just now``, ``12 s ago``, ``3 min ago``, ``2 days ago``; ``?`` where unknown."""
    seconds = seconds_since(time, at)
    if seconds is None:
        return "?"
    if seconds < -2:
        return f"in {span(-seconds)} (clock?)"
    return "just now" if seconds < 1 else f"{span(seconds)} ago"


def span(seconds: float) -> str:
    """Return a length of time in its largest unit."""
    for size, unit in ((86_400, "day"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if unit == 'day' and count != 1 else ''}"
    return f"{seconds:.0f} s"
