"""Rules of token buckets: a rate, and a burst that defaults to one second of the rate."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

from ratectl.policy.language.rates import NS
from ratectl.policy.resolution.algorithms.protocol import NO_SLOTS, AlgorithmRules, Parameters
from ratectl.policy.resolution.clipping import clip_count, clip_rate
from ratectl.policy.resolution.effective_limit import month_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.policy.language.rates import Rate
    from ratectl.policy.resolution.clipping import Clipped
    from ratectl.policy.resolution.effective_limit import Limit, Problem

__all__ = ["TokenBucketRules"]


class TokenBucketRules(AlgorithmRules):
    name = noun = "token-bucket"
    own_fields = frozenset({"rate", "burst", "across", "consistency"})
    why_lacking: ClassVar[Mapping[str, str]] = {
        **NO_SLOTS,
        "precision": "its refusals are exact",
        "resets": "it begins with its first request, not at a time of day",
    }

    def problem(self, values: Mapping[str, Any]) -> Problem | None:
        rate: Rate = values["rate"]
        return month_problem(rate) if rate.unit == "month" else None

    def parameters(
        self, values: Mapping[str, Any], cap: Mapping[str, Any], clips: dict[str, Clipped]
    ) -> Parameters:
        rate: Rate = values["rate"]
        burst = values["burst"] if "burst" in values else _default_burst(rate)
        if cap:
            rate = clip_rate(rate, cap, clips)
            burst = _default_burst(rate) if burst is None else burst
            burst = clip_count("burst", burst, cap, clips)
        return Parameters(rate, None if rate.unlimited else burst)

    def capped_field(self, cap_field: str) -> str:
        return cap_field

    def capacity(self, limit: Limit) -> int | None:
        return limit.burst

    def noticed_rate(self, rate: Rate) -> object:
        """Return the pace: ``60/min`` and ``1/s`` are the same."""
        return "unlimited" if rate.unlimited else rate.per_second

    def counts_no_longer(self, old: Limit, new: Limit) -> bool:
        assert old.rate is not None
        assert new.rate is not None
        return not old.rate.exceeds(new.rate)

    def pace_kept(self, old: Limit, new: Limit) -> Fraction:
        before = None if old.rate is None else old.rate.per_second
        after = None if new.rate is None else new.rate.per_second
        return min(Fraction(1), after / before) if before and after else Fraction(0)

    def admitted_at_most(self, limit: Limit, span_ns: Fraction) -> int | None:
        pace = None if limit.rate is None else limit.rate.per_second
        if limit.burst is None or pace is None:
            return None
        return math.floor(limit.burst + pace * span_ns / NS)

    def memory_ns(self, limit: Limit) -> float:
        """Return the time in which an empty bucket fills."""
        pace = None if limit.rate is None else limit.rate.per_second
        return float(NS * (limit.burst or 0) / pace) if pace else math.inf


def _default_burst(rate: Rate) -> int | None:
    return None if rate.unlimited else max(1, rate.per_second_ceiling)
