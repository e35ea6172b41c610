"""Rates: ``<number>/<duration>``, such as ``100/s``, ``50/30s``, ``0.5/s`` or ``500_000/day``.

A rate keeps the window it was written with: ``60/min`` and ``1/s`` are the same pace for a token
bucket, but different promises for a sliding window. All arithmetic is on integers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import PydanticCustomError, core_schema

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "DIGITS", "MAX_COUNT", "MAX_PER_SECOND", "NS", "UNIT_NS", "WORDS", "Rate", "written_as_text",
]  # fmt: skip

NS: Final = 1_000_000_000

UNIT_NS: Final = {
    "s": NS,
    "min": 60 * NS,
    "h": 3_600 * NS,
    "day": 86_400 * NS,
    "week": 604_800 * NS,
}
"""Nanoseconds in each unit of fixed length. ``month`` has none: its length varies."""

WORDS: Final = {
    "s": "s", "sec": "s", "second": "s", "seconds": "s",
    "min": "min", "minute": "min", "minutes": "min",
    "h": "h", "hr": "h", "hour": "h", "hours": "h",
    "d": "day", "day": "day", "days": "day",
    "w": "week", "week": "week", "weeks": "week",
    "month": "month", "months": "month",
}  # fmt: skip
"""Accepted spellings of each unit."""

MAX_COUNT: Final = 10**12
"""Largest number before the slash."""

MAX_PER_SECOND: Final = 10**9
"""Fastest rate: one per nanosecond."""

DIGITS: Final = "[0-9]+(?:_[0-9]+)*"
"""Pattern of whole numbers; single underscores may part their digits."""

_MAX_MULTIPLE: Final = 10**6
_MAX_CHARS: Final = 64  # longest rate in range; bounds the texts in the cache
_NUMBER = rf"(?P<count>{DIGITS})(?:\.(?P<decimals>[0-9]{{1,9}}))?"
_RATE = re.compile(rf"{_NUMBER} */ *(?P<multiple>[1-9][0-9]*)? *(?P<unit>[A-Za-z]+)", re.ASCII)
_MEANT = re.compile(
    r"(?P<count>[0-9][0-9_,]*(?:\.[0-9]+)?)\s*(?P<thousands>k)?\s*(?:requests?|reqs?|r|hits?)?"
    r"\s*(?:/|per|each|every|an?|p)\s*(?P<unit>[a-z]+)",
    re.ASCII | re.IGNORECASE,
)
"""Form of texts that are no rate and probably mean one: ``100 per second``, ``5k/s``, ``20rps``."""
_FIXED, _CALENDAR = (
    "|".join(word for word, unit in WORDS.items() if (unit == "month") is calendar)
    for calendar in (False, True)
)
_WRITTEN: Final = (
    rf"^(unlimited|\s*{DIGITS}(\.[0-9]{{1,9}})? */ *"
    rf"(([1-9][0-9]{{0,6}})? *({_FIXED})|1? *({_CALENDAR}))\s*)$"
)
"""Pattern for JSON Schema, without the bounds: a pattern cannot compare."""


@dataclass(frozen=True, slots=True)
class Rate:
    """``numerator/denominator`` requests per ``multiple`` × ``unit``.

    ``unit`` is a key of ``UNIT_NS`` or ``month``; ``unlimited`` is written ``rate: unlimited``.
    """

    numerator: int
    denominator: int
    multiple: int
    unit: str
    unlimited: bool = False
    _pace: tuple[int, int] = field(init=False, compare=False, repr=False)
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        window = self.window_ns or self.multiple * 28 * UNIT_NS["day"]
        pace = Fraction(self.numerator * NS, self.denominator * window)
        object.__setattr__(self, "_pace", (pace.numerator, pace.denominator))
        identity = (self.numerator, self.denominator, self.multiple, self.unit, self.unlimited)
        object.__setattr__(self, "_hash", hash(identity))

    def __hash__(self) -> int:
        return self._hash  # rates are keys of caches that are used for every scope of a tree

    @classmethod
    def parse(cls, value: object) -> Rate:
        """Read the written form.

        :raises ValueError: it is no rate; the message says what to write.
        """
        if isinstance(value, Rate):
            return value
        if isinstance(value, str):
            return _parse(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise ValueError(f"a rate needs a duration: write {value}/s, {value}/min, …")
        raise ValueError(f"a rate is written like 100/s, not {type(value).__name__}")

    @property
    def window_ns(self) -> int | None:
        """The written duration in nanoseconds; None for calendar months and ``unlimited``."""
        unit = UNIT_NS.get(self.unit)
        return None if unit is None or self.unlimited else unit * self.multiple

    @property
    def count(self) -> int | None:
        """The number before the slash if it is a whole number, else None."""
        return self.numerator if self.denominator == 1 and not self.unlimited else None

    @property
    def per_second(self) -> Fraction | None:
        """Exact pace; None for ``unlimited``. A month is taken as 28 days: the fastest pace."""
        return None if self.unlimited else Fraction(*self._pace)

    @property
    def per_second_ceiling(self) -> int:
        """The pace per second, rounded up; meaningless for ``unlimited``."""
        numerator, denominator = self._pace
        return -(-numerator // denominator)

    def exceeds(self, other: Rate) -> bool:
        """Return True if this pace is faster than that of ``other`` (per second, exactly)."""
        if self.unlimited or other.unlimited:
            return not other.unlimited
        mine, theirs = self._pace, other._pace
        return mine[0] * theirs[1] > theirs[0] * mine[1]

    def __str__(self) -> str:
        if self.unlimited:
            return "unlimited"
        multiple = "" if self.multiple == 1 else str(self.multiple)
        return f"{decimal(self.numerator, self.denominator)}/{multiple}{self.unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        return written_as_text(_quickly, "rate", _WRITTEN)


def written_as_text(
    parse: Callable[[object], object], kind: str, pattern: str
) -> core_schema.CoreSchema:
    """Return the schema of a value that is text in documents and bundles.

    ``kind`` names its errors; ``pattern`` is its pattern in the JSON Schema.
    """

    def validate(value: object) -> object:
        try:
            return parse(value)
        except ValueError as error:
            raise PydanticCustomError(kind, "{reason}", {"reason": str(error)}) from None

    return core_schema.no_info_plain_validator_function(
        validate,
        serialization=core_schema.to_string_ser_schema(),
        json_schema_input_schema=core_schema.str_schema(pattern=pattern),
    )


def _quickly(value: object) -> Rate:
    return _parse(value) if value.__class__ is str else Rate.parse(value)


def decimal(numerator: int, denominator: int) -> str:
    """Return exact decimals of a fraction whose denominator divides a power of ten."""
    whole, rest = divmod(numerator, denominator)
    if not rest:
        return str(whole)
    digits = ""
    while rest:
        digit, rest = divmod(rest * 10, denominator)
        digits += str(digit)
    return f"{whole}.{digits}"


@lru_cache(maxsize=65_536)
def _parse(text: str) -> Rate:
    if text == "unlimited":
        return Rate(0, 1, 1, "s", unlimited=True)
    match = _RATE.fullmatch(text.strip()) if len(text) <= _MAX_CHARS else None
    if match is None:
        raise ValueError(f"{_shown(text)} is not a rate: write {_meant(text)}")
    unit = _unit(match["unit"], text)
    digits = match["count"].replace("_", "")
    decimals = match["decimals"] or ""
    if len(digits) > 16 or len(match["multiple"] or "") > 7:
        raise ValueError(f"{_shown(text)} is out of range: at most {MAX_COUNT} per duration")
    number = Fraction(int(digits + decimals), 10 ** len(decimals))
    multiple = int(match["multiple"] or 1)
    rate = Rate(number.numerator, number.denominator, multiple, unit)
    if number > MAX_COUNT or multiple > _MAX_MULTIPLE or (rate.per_second or 0) > MAX_PER_SECOND:
        raise ValueError(
            f"{_shown(text)} is out of range: at most {MAX_COUNT} per duration and 10^9/s"
        )
    if unit == "month" and multiple != 1:
        raise ValueError("a rate cannot count several months: write <number>/month")
    return rate


def _meant(text: str) -> str:
    """Return the rate that a text probably means, or the form of rates."""
    match = _MEANT.fullmatch(text.strip()) if len(text) <= _MAX_CHARS else None
    unit = WORDS.get(match["unit"].lower()) if match else None
    if match is None or unit is None:
        return "<number>/<duration>, like 100/s"
    count = re.sub("[,_]+", "_", match["count"]).strip("_").replace("_.", ".")
    return f"{Fraction(count) * 1000 if match['thousands'] else count}/{unit}"


def _unit(word: str, text: str) -> str:
    """Return the unit that a word of the rate ``text`` names."""
    if word == "m":
        count = text.partition("/")[0].strip()
        raise ValueError(f"'m' could be a minute or a month: write {count}/min or {count}/month")
    if word == "ms":
        raise ValueError("the smallest duration is a second: 100/ms is 100000/s")
    unit = WORDS.get(word)
    if unit is None and word.lower() in WORDS:
        raise ValueError(f"unknown duration {_shown(word)}: write {_meant(text)}")
    if unit is None:
        raise ValueError(f"unknown duration {_shown(word)}: use s, min, h, day, week or month")
    return unit


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "…")
