"""Instants of the wall clock as documents write them: ISO 8601, always with a zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ratectl.policy.language.rates import written_as_text

if TYPE_CHECKING:
    from pydantic_core import core_schema

__all__ = ["Instant"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WRITTEN: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r" ?(Z|[+-][0-9]{2}:[0-9]{2}|[A-Za-z][A-Za-z0-9_+/-]*)$"
)
_FORM: Final = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})(?:[Tt ](?P<time>[0-9:.]+))?"
    r" ?(?P<zone>Z|z|[+-][0-9]{2}:?[0-9]{2}|[A-Za-z][A-Za-z0-9_+/-]*)?",
    re.ASCII,
)
_HINT: Final = "write a date, a time and a zone, like 2026-11-30T00:00+01:00"


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """Nanoseconds since 1970-01-01T00:00Z; written to the microsecond at most."""

    ns: int

    @classmethod
    def parse(cls, value: object) -> Instant:
        """Read the written form; its zone is an offset, ``Z``, or a name.

        A local time that occurs twice means its first occurrence. A local time that a change of the
        clocks skips is an error.

        :raises ValueError: it is no instant; the message says what to write.
        """
        if isinstance(value, Instant):
            return value
        if isinstance(value, str):
            return _parse(value)
        raise ValueError(f"not a date with a time: {_HINT}")

    @property
    def utc(self) -> datetime:
        """The instant as a ``datetime`` in UTC."""
        return _EPOCH + timedelta(microseconds=self.ns // 1000)

    def __str__(self) -> str:
        at = self.utc
        if at.microsecond:
            return at.isoformat().replace("+00:00", "Z")
        return at.strftime("%Y-%m-%dT%H:%M:%SZ" if at.second else "%Y-%m-%dT%H:%MZ")

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        return written_as_text(cls.parse, "instant", _WRITTEN)


@lru_cache(maxsize=4_096)
def _parse(text: str) -> Instant:
    match = _FORM.fullmatch(text.strip()) if len(text) <= 80 else None
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a date with a time: {_HINT}")
    if match["time"] is None:
        zone = match["zone"] or "Z"
        written = f"{match['date']}T00:00{zone if zone[0] in 'Zz+-' else f' {zone}'}"
        raise ValueError(f"{text[:40]!r} has no time: add a time and a zone: {written}")
    zone = match["zone"]
    if zone is None:
        raise ValueError(f"{text[:40]!r} has no zone: add a zone: {text.strip()}Z (Z is UTC)")
    try:
        local = datetime.fromisoformat(f"{match['date']}T{match['time']}")
        if zone[0] in "+-":
            local = datetime.fromisoformat(f"{match['date']}T{match['time']}{zone}")
        else:
            local = local.replace(tzinfo=UTC if zone in "Zz" else ZoneInfo(zone))
    except (ZoneInfoNotFoundError, OSError):
        raise ValueError(f"unknown time zone {zone!r}: use a name like Europe/Berlin") from None
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is not a date with a time: {error}") from None
    if not 1970 < local.year < 2262:
        raise ValueError(f"{text[:40]!r} is out of range: write a year from 1971 to 2261")
    at = local.astimezone(UTC)
    if at.astimezone(local.tzinfo).replace(tzinfo=None) != local.replace(tzinfo=None):
        raise ValueError(f"{text[:40]!r} is skipped by a change of the clocks: write another time")
    return Instant((at - _EPOCH) // timedelta(microseconds=1) * 1_000)
