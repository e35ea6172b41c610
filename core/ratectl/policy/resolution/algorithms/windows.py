"""Rules of sliding windows and quotas: whole requests counted in a window."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ratectl.policy import codes
from ratectl.policy.language.rates import UNIT_NS, Rate
from ratectl.policy.language.resets import Resets
from ratectl.policy.resolution.algorithms.protocol import NO_SLOTS, AlgorithmRules, Parameters, sign
from ratectl.policy.resolution.clipping import SHORTEST_MONTH, clip_window
from ratectl.policy.resolution.effective_limit import Problem, month_problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.policy.resolution.clipping import Clipped
    from ratectl.policy.resolution.effective_limit import Limit

__all__ = ["DEFAULT_PRECISION", "QuotaRules", "SlidingWindowRules"]

DEFAULT_PRECISION: Final = 24
"""Cells of a sliding window."""

_MIDNIGHT: Final = Resets(0, 0)
_QUOTA_UNITS: Final = ("s", "min", "h", "day", "week", "month")


class _WindowRules(AlgorithmRules):
    """Rules common to all windows: the rate's count is the capacity."""

    @abstractmethod
    def fitting(self, rate: Rate) -> Rate:
        """Return a window that admits no more than a cap's rate, for a rate without a window."""

    def parameters(
        self, values: Mapping[str, Any], cap: Mapping[str, Any], clips: dict[str, Clipped]
    ) -> Parameters:
        rate: Rate = values["rate"]
        return Parameters(clip_window(rate, cap, clips, self.fitting) if cap else rate)

    def capped_field(self, cap_field: str) -> str:  # noqa: ARG002
        return "rate"

    def capacity(self, limit: Limit) -> int | None:
        return None if limit.rate is None else limit.rate.count

    def counts_no_longer(self, old: Limit, new: Limit) -> bool:
        assert old.rate is not None
        assert new.rate is not None
        return (old.rate.multiple, old.rate.unit) == (new.rate.multiple, new.rate.unit)

    def pace_kept(self, old: Limit, new: Limit) -> Fraction:
        """Return 1 for equal windows, otherwise 0: nothing is known of another length."""
        return Fraction(self.counts_no_longer(old, new))

    def admitted_at_most(self, limit: Limit, span_ns: Fraction) -> int | None:
        assert limit.rate is not None
        windows = math.ceil(span_ns / (limit.rate.window_ns or SHORTEST_MONTH))
        # A calendar window may end within the span, at any instant.
        return (self.capacity(limit) or 0) * (windows + self.calendar)

    def memory_ns(self, limit: Limit) -> float:
        assert limit.rate is not None
        return limit.rate.window_ns or math.inf


class SlidingWindowRules(_WindowRules):
    name = noun = "sliding-window"
    own_fields = frozenset({"rate", "precision", "across", "consistency"})
    why_lacking: ClassVar[Mapping[str, str]] = {
        **NO_SLOTS,
        "burst": "the number in rate is the most that can come at once",
        "resets": "it begins with its first request, not at a time of day",
    }

    def problem(self, values: Mapping[str, Any]) -> Problem | None:
        rate: Rate = values["rate"]
        if rate.unit == "month":
            return month_problem(rate)
        if rate.count is not None or rate.unlimited:
            return None
        return Problem(
            codes.MISFIT,
            "rate",
            f"a sliding-window counts whole requests, {rate} does not",
            f"lengthen the window: {_whole(rate)}",
        )

    def parameters(
        self, values: Mapping[str, Any], cap: Mapping[str, Any], clips: dict[str, Clipped]
    ) -> Parameters:
        precision = values.get("precision", DEFAULT_PRECISION)
        return super().parameters(values, cap, clips)._replace(precision=precision)

    def tightenings(self, old: Limit, new: Limit) -> Iterator[int]:
        yield from super().tightenings(old, new)
        if old.precision and new.precision:  # with fewer cells, more is refused early
            yield sign(new.precision, old.precision)

    def noticed_rate(self, rate: Rate) -> object:
        return "unlimited" if rate.unlimited else (rate.count, rate.window_ns or rate.unit)

    def fitting(self, rate: Rate) -> Rate:
        """Return the same pace over a window of whole requests; a month becomes 31 days."""
        multiple = rate.multiple * rate.denominator
        if rate.unit == "month":
            return Rate(rate.numerator, 1, 31 * multiple, "day")
        return replace(rate, denominator=1, multiple=multiple)


class QuotaRules(_WindowRules):
    """Rules of calendar windows."""

    name = noun = "quota"
    example_field = "rate: 500_000/day"
    own_fields = frozenset({"rate", "resets", "across"})
    across = frozenset({"redis"})
    calendar = True
    why_lacking: ClassVar[Mapping[str, str]] = {
        **NO_SLOTS,
        "burst": "the number in rate is the most that can come at once",
        "consistency": "agents do not share it",
        "precision": "it counts exactly",
    }

    def problem(self, values: Mapping[str, Any]) -> Problem | None:
        rate: Rate = values["rate"]
        if rate.unlimited:
            return None
        if rate.unit not in _QUOTA_UNITS or rate.multiple != 1 or rate.count is None:
            return Problem(
                codes.MISFIT,
                "rate",
                f"a quota counts whole requests in one calendar {', '.join(_QUOTA_UNITS[:-1])} or "
                f"{_QUOTA_UNITS[-1]}, {rate} does not",
                "write a whole number for one of these, like 500_000/day, or use another algorithm",
            )
        return _resets_problem(rate, values["resets"]) if "resets" in values else None

    def parameters(
        self, values: Mapping[str, Any], cap: Mapping[str, Any], clips: dict[str, Clipped]
    ) -> Parameters:
        resets = values.get("resets", _MIDNIGHT)
        return super().parameters(values, cap, clips)._replace(resets=resets)

    def comparable(self, rate: Rate, cap: Rate) -> bool:
        """Return True for one calendar unit: calendar windows differ in length."""
        return (rate.unit, 1) == (cap.unit, cap.multiple)

    def fitting(self, rate: Rate) -> Rate:
        """Return at most this pace, in the shortest calendar window as long as the rate's."""
        if rate.unit in _QUOTA_UNITS and rate.multiple == 1 and rate.count is not None:
            return rate
        span = (rate.window_ns or rate.multiple * SHORTEST_MONTH) * rate.denominator
        for unit in _QUOTA_UNITS:
            length = UNIT_NS.get(unit, SHORTEST_MONTH)
            if length >= span:
                break
        return Rate(rate.numerator * length // span, 1, 1, unit)


def _resets_problem(rate: Rate, resets: Resets) -> Problem | None:
    """Return why a quota of this rate cannot begin at this time."""
    if rate.unit in ("s", "min", "h"):
        wrong = (
            f"a quota per {rate.unit} begins with each {rate.unit}, and resets at no time of day"
        )
    elif resets.weekday is not None and rate.unit != "week":
        wrong = f"a quota per {rate.unit} does not begin on a weekday"
    elif resets.day is not None and rate.unit != "month":
        wrong = f"a quota per {rate.unit} does not begin on a day of the month"
    else:
        return None
    return Problem(
        codes.MISFIT, "resets", wrong, "remove resets, or the day in it, or change the rate's unit"
    )


def _whole(rate: Rate) -> str:
    """Return a rate of the same pace that counts whole requests."""
    multiple = "" if rate.multiple == 1 and rate.denominator == 1 else rate.multiple
    return f"{rate.numerator}/{int(multiple or 1) * rate.denominator}{rate.unit}"
