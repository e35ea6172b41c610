"""The protocol of an algorithm's rules: all that policies, caps and comparisons ask of one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from fractions import Fraction

    from ratectl.policy.language.durations import Duration
    from ratectl.policy.language.rates import Rate
    from ratectl.policy.language.resets import Resets
    from ratectl.policy.resolution.clipping import Clipped
    from ratectl.policy.resolution.effective_limit import Limit, Problem

__all__ = ["NO_SLOTS", "AlgorithmRules", "Parameters", "sign"]

NO_SLOTS: Final = {
    "max": "it counts requests when they begin, not how many are in progress",
    "hold": "its requests take no slots",
}
"""Reasons why an algorithm without slots lacks fields (``AlgorithmRules.why_lacking``)."""

_COMMON: Final = frozenset({"algorithm", "per", "absent", "unit", "mode"})


class Parameters(NamedTuple):
    """Parameters of a limit after caps; None for those that its algorithm lacks."""

    rate: Rate | None = None
    burst: int | None = None
    resets: Resets | None = None
    max: int | None = None
    hold: Duration | None = None
    precision: int | None = None


class AlgorithmRules(ABC):
    """Rules of one algorithm for the limits that use it. All methods are pure functions."""

    name: ClassVar[str]
    own_fields: ClassVar[frozenset[str]]
    """Fields of the algorithm beside the common ones."""
    required: ClassVar[str] = "rate"
    """Field without which there is no limit."""
    example_field: ClassVar[str] = "rate: 100/s"
    """The required field as it may be written."""
    noun: ClassVar[str]
    """Name in messages: ``quota``, ``concurrency limit``."""
    why_lacking: ClassVar[Mapping[str, str]]
    """Reason, for messages, why the algorithm lacks a field."""
    across: ClassVar[frozenset[str]] = frozenset({"cluster", "redis"})
    """Values that the field ``across`` may have."""
    calendar: ClassVar[bool] = False
    """True if the windows are those of the calendar."""
    holds_slots: ClassVar[bool] = False
    """True if requests hold slots until they are over."""

    def __init__(self) -> None:
        self.fields: Final = _COMMON | self.own_fields
        """All fields that a limit of this algorithm may have."""

    def takes(self, field: str, value: object) -> bool:
        """Return True if a limit of this algorithm may have this field with this value."""
        return field in self.fields and (field != "across" or value in self.across)

    # From fields to a limit ---------------------------------------------------------------------

    @abstractmethod
    def problem(self, values: Mapping[str, Any]) -> Problem | None:
        """Return why these fields make no limit, though all are fields of the algorithm."""

    @abstractmethod
    def parameters(
        self, values: Mapping[str, Any], cap: Mapping[str, Any], clips: dict[str, Clipped]
    ) -> Parameters:
        """Return the parameters with defaults and caps applied. Add clips to ``clips``.

        ``values`` has the merged fields, and ``cap`` the tightest ``rate`` and ``burst``.
        """

    # Caps ---------------------------------------------------------------------------------------

    @abstractmethod
    def capped_field(self, cap_field: str) -> str | None:
        """Return the field that a cap's ``rate`` or ``burst`` bounds; None if it bounds none."""

    def comparable(self, rate: Rate, cap: Rate) -> bool:  # noqa: ARG002
        """Return True if a limit's rate can be compared with a cap's: months differ in length."""
        return cap.unit != "month"

    # Comparisons --------------------------------------------------------------------------------

    @abstractmethod
    def capacity(self, limit: Limit) -> int | None:
        """Return the cost that a full bucket admits at once; None without a bound."""

    def noticed_rate(self, rate: Rate) -> object:
        """Return a value that is equal for two rates if no request can tell them apart."""
        return "unlimited" if rate.unlimited else (rate.count, rate.multiple, rate.unit)

    def tightenings(self, old: Limit, new: Limit) -> Iterator[int]:
        """Yield 1 for each amount that became tighter, -1 for looser, 0 for equal."""
        if old.rate is not None and new.rate is not None:
            yield old.rate.exceeds(new.rate) - new.rate.exceeds(old.rate)
        before, after = self.capacity(old), self.capacity(new)
        if before is not None and after is not None:
            yield sign(after, before)

    # Estimates of refusals ----------------------------------------------------------------------

    @abstractmethod
    def counts_no_longer(self, old: Limit, new: Limit) -> bool:
        """Return True if a charge counts no longer under ``new`` than under ``old``."""

    @abstractmethod
    def pace_kept(self, old: Limit, new: Limit) -> Fraction:
        """Return the share of the pace of ``old`` that ``new`` surely keeps, from 0 to 1."""

    def admitted_at_most(self, limit: Limit, span_ns: Fraction) -> int | None:  # noqa: ARG002
        """Return the most that a bucket, full at first, admits in a span; None without a bound."""
        return None

    def memory_ns(self, limit: Limit) -> float:  # noqa: ARG002
        """Return the longest time for which a request counts, in nanoseconds; or infinity."""
        return math.inf


def sign(smaller: int, larger: int) -> int:
    """Return 1 if the numbers are in this order, -1 if in the other, 0 if they are equal."""
    return (larger > smaller) - (larger < smaller)
