"""Points in time, as people say them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from ratectl.runtime.times import ago, seconds_since, span

__all__ = ["ago", "now", "now_ns", "seconds_since", "span", "wait"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def now_ns() -> int:
    """The same in nanoseconds since 1970, as exceptions are told by."""
    return (now() - _EPOCH) // timedelta(microseconds=1) * 1_000


def wait(nanoseconds: int) -> str:
    """A wait, never shown shorter than it is."""
    for size, unit in ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")):
        if nanoseconds >= size:
            thousandths = -(-nanoseconds * 1000 // size)
            return f"{thousandths / 1000:g} {unit}"
    return f"{nanoseconds} ns"
