"""Terms of a reservation: how long it may wait for its turn, and when and how it expires."""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple, Self

from ratectl.agent.line import FOREVER
from ratectl.agent.waiting import checked_wait
from ratectl.errors import UsageError

__all__ = ["Terms"]

_SECOND: Final = 1_000_000_000


class Terms(NamedTuple):
    """Terms of one reservation."""

    wait: float | None
    """Seconds to wait in line; None: without limit."""
    span: int
    """Nanoseconds until it expires."""
    refunds: bool
    """True if an expiry gives back what was not used."""

    @classmethod
    def of(cls, wait: float | None, expires: float, on_expiry: Literal["keep", "refund"]) -> Self:
        """:raises UsageError: an argument cannot be used."""
        number = isinstance(expires, int | float) and not isinstance(expires, bool)
        if not number or not expires > 0:
            raise UsageError(f"expires is a number of seconds above 0, not {expires!r}")
        if on_expiry not in ("keep", "refund"):
            raise UsageError(f"on_expiry is 'keep' or 'refund', not {on_expiry!r}")
        long = expires >= FOREVER // _SECOND
        span = FOREVER if long else math.ceil(expires * _SECOND)
        return cls(checked_wait(wait), span, on_expiry == "refund")
