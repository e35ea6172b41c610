"""Rules of concurrency limits: a number of slots, and the time for which one may be held."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ratectl.policy import codes
from ratectl.policy.language.durations import Duration
from ratectl.policy.language.rates import NS
from ratectl.policy.resolution.algorithms.protocol import AlgorithmRules, Parameters, sign
from ratectl.policy.resolution.clipping import clip_count
from ratectl.policy.resolution.effective_limit import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.policy.resolution.clipping import Clipped
    from ratectl.policy.resolution.effective_limit import Limit

__all__ = ["DEFAULT_HOLD", "ConcurrencyRules"]

DEFAULT_HOLD: Final = Duration(60 * NS)

MOST_ON_SERVER: Final = 100_000
"""Largest ``max`` with ``across: redis``."""


class ConcurrencyRules(AlgorithmRules):
    name = "concurrency"
    noun = "concurrency limit"
    own_fields = frozenset({"max", "hold", "across"})
    across = frozenset({"redis"})
    required = "max"
    example_field = "max: 50"
    holds_slots = True
    why_lacking: ClassVar[Mapping[str, str]] = {
        "rate": "it counts requests in progress, not requests per time",
        "burst": "max is the most admitted at once",
        "consistency": "agents do not share it",
        "precision": "slots are counted exactly",
        "resets": "a slot is free when its request is over",
    }

    def problem(self, values: Mapping[str, Any]) -> Problem | None:
        if values.get("across") != "redis" or values["max"] <= MOST_ON_SERVER:
            return None
        return Problem(
            codes.MISFIT,
            "max",
            f"a server keeps each slot of a limit across: redis, and {values['max']} are too many",
            f"write at most {MOST_ON_SERVER}, or remove across: redis",
        )

    def parameters(
        self, values: Mapping[str, Any], cap: Mapping[str, Any], clips: dict[str, Clipped]
    ) -> Parameters:
        slots = clip_count("max", values["max"], cap, clips)
        hold = values.get("hold", DEFAULT_HOLD)
        return Parameters(max=slots, hold=hold)

    def capped_field(self, cap_field: str) -> str | None:
        return "max" if cap_field == "burst" else None

    def capacity(self, limit: Limit) -> int | None:
        return limit.max

    def tightenings(self, old: Limit, new: Limit) -> Iterator[int]:
        yield from super().tightenings(old, new)
        if old.hold and new.hold:  # a longer hold is tighter: a leaked slot is missing for longer
            yield sign(old.hold.ns, new.hold.ns)

    def counts_no_longer(self, old: Limit, new: Limit) -> bool:
        return old.hold == new.hold

    def pace_kept(self, old: Limit, new: Limit) -> Fraction:  # noqa: ARG002
        """Return 0: slots have no pace."""
        return Fraction(0)
