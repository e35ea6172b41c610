"""Status of a rollout: its record, the agents that take part, and its controller."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratectl.fleet.usage import read_agents, read_beats, read_usage
from ratectl.rollout.differences import Differences
from ratectl.rollout.judge import Judge
from ratectl.rollout.presence import controller_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.history.generations import Live
    from ratectl.records import Controller, RolloutRecord
    from ratectl.rollout.judge import Verdict
    from ratectl.rollout.steps import Underway
    from ratectl.stores.base import Store

__all__ = ["RolloutStatus", "status_of"]


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """A rollout at one moment."""

    record: RolloutRecord
    live: Live
    verdict: Verdict | None = None
    """Agents that take part, and the others; None after the rollout."""
    differences: Differences | None = None
    """Decisions that a candidate in shadow would change; None for other candidates."""
    controller: Controller | None = None
    """Process that controls the rollout now; None if there is none."""


def status_of(
    store: Store, rollout: Underway, warn: Callable[[str], None] | None = None
) -> RolloutStatus:
    """Return the status of a rollout. ``warn`` is called for each report that is unreadable."""
    record = rollout.record
    if record.over:
        return RolloutStatus(record, rollout.live)
    # One look, without comparing refusals: that takes a while.
    verdict = Judge(record).look(
        time.monotonic(), record.percent, read_agents(store), read_beats(store)
    )
    differences = None
    if record.mode == "shadow":
        differences = Differences.of(record, read_usage(store, warn))
    return RolloutStatus(
        record, rollout.live, verdict, differences, controller_of(store, record.id)
    )
