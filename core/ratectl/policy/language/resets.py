"""Reset times of quotas: ``00:00 Europe/Berlin``, ``Mon 06:00 UTC``, ``31 00:00``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ratectl.policy.language.rates import written_as_text

if TYPE_CHECKING:
    from pydantic_core import core_schema

__all__ = ["WEEKDAYS", "Resets"]

WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

_FORM = re.compile(
    r"(?:(?P<day>[A-Za-z]{3}|[0-9]{1,2}) +)?(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})"
    r"(?: +(?P<zone>[A-Za-z0-9_+/-]+))?",
    re.ASCII,
)

_WRITTEN: Final = r"^\s*(([A-Za-z]{3}|[0-9]{1,2}) +)?[0-9]{1,2}:[0-9]{2}( +[A-Za-z0-9_+/-]+)?\s*$"
"""Pattern for JSON Schema, without the bounds and the names of zones."""


@dataclass(frozen=True, slots=True)
class Resets:
    """A local time of day in a zone, with a weekday (weeks) or a day of the month (months)."""

    hour: int
    minute: int
    zone: str = "UTC"
    weekday: int | None = None
    """0 is Monday."""
    day: int | None = None
    """1 to 31; in a shorter month the last day."""

    @classmethod
    def parse(cls, value: object) -> Resets:
        """Read the written form.

        :raises ValueError: it is no reset time; the message says what to write.
        """
        if isinstance(value, Resets):
            return value
        if isinstance(value, str):
            return _parse(value)
        raise ValueError('resets is a time, written in quotes like "00:00 Europe/Berlin"')

    def __str__(self) -> str:
        day = "" if self.day is None else f"{self.day} "
        if self.weekday is not None:
            day = f"{WEEKDAYS[self.weekday]} "
        return f"{day}{self.hour:02}:{self.minute:02} {self.zone}"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        return written_as_text(cls.parse, "resets", _WRITTEN)


@lru_cache(maxsize=4_096)
def _parse(text: str) -> Resets:
    match = _FORM.fullmatch(text.strip()) if len(text) <= 80 else None
    if match is None:
        raise ValueError(
            f"{text[:40]!r} is not a time to reset at: write HH:MM and a zone, "
            'like "00:00 Europe/Berlin", with a weekday or a day of the month before it'
        )
    hour, minute = int(match["hour"]), int(match["minute"])
    if hour > 23 or minute > 59:
        raise ValueError(f"{hour:02}:{minute:02} is not a time of day: 00:00 to 23:59")
    zone = match["zone"] or "UTC"
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"unknown time zone {zone!r}: use a name like Europe/Berlin") from None
    weekday, day = _day(match["day"])
    return Resets(hour, minute, zone, weekday, day)


def _day(word: str | None) -> tuple[int | None, int | None]:
    if word is None:
        return None, None
    if word.isdigit():
        if not 1 <= int(word) <= 31:
            raise ValueError(f"{word} is not a day of a month: 1 to 31")
        return None, int(word)
    name = word.capitalize()
    if name not in WEEKDAYS:
        raise ValueError(f"{word!r} is not a weekday: use {', '.join(WEEKDAYS)}")
    return WEEKDAYS.index(name), None
