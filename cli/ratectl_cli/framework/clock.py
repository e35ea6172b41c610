"""The time of day, which commands read once and pass on."""

from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["now", "now_ns"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def now_ns() -> int:
    """Return the time in nanoseconds since 1970, UTC."""
    return (now() - _EPOCH) // timedelta(microseconds=1) * 1_000
