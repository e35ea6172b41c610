"""Parameters of a limit, in exact numbers, and the calendar that quotas count by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NS: Final = 10**9
SECONDS: Final = {"s": 1, "min": 60, "h": 3_600, "day": 86_400, "week": 604_800}
RESETS: Final = {"00:00 UTC": 0, "06:00 Europe/Berlin": 5 * 3_600}
"""Seconds after midnight in UTC. No clock of a zone changes in the weeks that stories play in."""


@dataclass(frozen=True)
class Tokens:
    rate: Fraction
    """Tokens for each nanosecond."""
    capacity: int
    kind = "tokens"

    @property
    def shape(self) -> Any:
        return self.kind

    def refill(self, span: Span) -> Fraction:
        return self.rate * span.elapsed


@dataclass(frozen=True)
class Window:
    capacity: int
    length: int
    """Nanoseconds."""
    kind = "window"

    @property
    def shape(self) -> Any:
        return (self.kind, self.length)

    def refill(self, span: Span) -> Fraction:
        return Fraction(self.capacity * (span.elapsed // self.length))


@dataclass(frozen=True)
class Quota:
    capacity: int
    unit: int
    """Nanoseconds of a calendar window: a minute, an hour or a day."""
    shift: int
    """Nanoseconds from midnight in UTC to the start of a day's window."""
    kind = "quota"

    @property
    def shape(self) -> Any:
        return (self.kind, self.unit, self.shift)

    def index(self, wall: int) -> int:
        return (wall - self.shift) // self.unit

    def end(self, index: int) -> int:
        return (index + 1) * self.unit + self.shift

    def refill(self, span: Span) -> Fraction:
        return Fraction(self.capacity * (self.index(span.wall_end) - self.index(span.wall)))


@dataclass(frozen=True)
class Slots:
    capacity: int
    hold: int
    """Nanoseconds."""
    kind = "slots"

    @property
    def shape(self) -> Any:
        return (self.kind, self.hold)

    def refill(self, span: Span) -> Fraction:
        return Fraction(self.capacity * (span.elapsed // self.hold))


Rule = Tokens | Window | Quota | Slots


@dataclass(frozen=True)
class Span:
    """A stretch of time under one rule: by time that passed, and by the wall clock's furthest."""

    rule: Rule
    start: int
    end: int
    wall: int
    wall_end: int

    @property
    def elapsed(self) -> int:
        return self.end - self.start


OWN: Final = {
    "token-bucket": {"rate", "burst"},
    "sliding-window": {"rate"},
    "quota": {"rate", "resets"},
    "concurrency": {"max", "hold"},
}
"""Fields that an algorithm has of its own."""


def rule(fields: Mapping[str, Any]) -> Rule | None:
    """Return the rule of merged fields; None if it refuses nothing."""
    if fields.get("mode", "enforce") != "enforce" or fields.get("rate") == "unlimited":
        return None
    algorithm = fields.get("algorithm", "token-bucket")
    if algorithm == "concurrency":
        return Slots(fields["max"], _duration(fields.get("hold", "60s")) * NS)
    number, _, unit = fields["rate"].partition("/")
    count, seconds = int(number), _duration(unit)
    if algorithm == "sliding-window":
        return Window(count, seconds * NS)
    if algorithm == "quota":
        shift = RESETS[fields.get("resets", "00:00 UTC")] if unit == "day" else 0
        return Quota(count, seconds * NS, shift * NS)
    pace = Fraction(count, seconds)
    return Tokens(pace / NS, fields.get("burst", max(1, math.ceil(pace))))


def _duration(written: str) -> int:
    digits = written.rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(digits or 1) * SECONDS[written[len(digits) :]]
