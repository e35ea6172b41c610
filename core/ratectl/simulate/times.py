"""Reader of times in logs: gives nanoseconds since 1970 (UTC)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from ratectl.simulate.calls import Unusable
from ratectl.traffic.request import MONTHS, NS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.simulate.model import TimeFormat

__all__ = ["LATEST_NS", "instant", "reader_of"]

LATEST_NS: Final = 2**63 - 1
"""Latest time that is represented, in the year 2262."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CLF = re.compile(
    r"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)([0-5]\d)", re.ASCII
)
_DECIMAL = re.compile(r"\d{1,20}(?:\.\d{1,20})?", re.ASCII)
_UNITS: Final = {"unix": NS, "unix_ms": 10**6, "unix_us": 10**3, "unix_ns": 1}


def instant(at: int) -> int:
    """Return the instant if it can be replayed.

    :raises Unusable: it is before 1970 or after 2262.
    """
    if not 0 <= at <= LATEST_NS:
        raise Unusable("the time is before 1970 or after 2262")
    return at


def reader_of(form: TimeFormat) -> Callable[[str], int]:
    """Return a function that reads times in this format; it raises ``Unusable`` for others."""
    if form == "iso":
        return _iso
    if form == "clf":
        return _clf
    unit = _UNITS[form]

    def number(text: str) -> int:
        if not _DECIMAL.fullmatch(text):
            raise Unusable(f"the time is not a number of the form {form}")
        return instant(int(Decimal(text) * unit))

    return number


def _iso(text: str) -> int:
    """Read ISO 8601; a time without a zone is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Unusable("the time is not of the form iso") from None
    return _since(at if at.tzinfo else at.replace(tzinfo=UTC))


def _clf(text: str) -> int:
    match = _CLF.fullmatch(text)
    if match is None:
        raise Unusable("the time is not of the form clf")
    day, month, year, hour, minute, second, sign, hours, minutes = match.groups()
    try:
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        zone = timezone(-offset if sign == "-" else offset)
        at = datetime(
            int(year), MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second),
            tzinfo=zone,
        )  # fmt: skip
    except ValueError:
        raise Unusable("the time does not exist") from None
    return _since(at)


def _since(at: datetime) -> int:
    since = at - _EPOCH
    return instant((since.days * 86_400 + since.seconds) * NS + since.microseconds * 1000)
