"""Settings of an agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ratectl.agent.counter_secret import CounterSecret
    from ratectl.agent.failures import Failures
    from ratectl.agent.given import GivenPolicies
    from ratectl.agent.usage.meter import UsageMeter
    from ratectl.agent.wall_clock import WallClock
    from ratectl.central.limits import CentralLimits
    from ratectl.engine.api import Engine
    from ratectl.signing.signatures import Trust

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of an agent, and what its threads use of it."""

    source: str
    wanted_id: str | None
    state_dir: Path
    report_interval: float
    trust: Trust | None
    wall: WallClock
    """Clocks of the engines."""
    open_engine: Callable[[], Engine]
    failures: Failures
    meter: UsageMeter
    central: CentralLimits
    """Limits that a server counts."""
    counters: CounterSecret | None = None
    """Secret of the keys, if buckets outlive the process."""
    given: GivenPolicies | None = None
    """Policies in place of a source."""
