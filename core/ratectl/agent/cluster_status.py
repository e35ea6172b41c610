"""State of a process in the cluster, for metrics and explanations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from ratectl.cluster.tally import Tally
from ratectl.cluster.transport.counters import Counters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.engine.limit_plan import GroupName

__all__ = ["STATES", "ClusterStatus", "State"]

State = Literal["joining", "lent", "waiting", "own_share", "alone"]

STATES: Final[tuple[State, ...]] = ("joining", "lent", "waiting", "own_share", "alone")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """State of a process that has limits across the cluster. Counts are since its start."""

    state: State
    """``joining``: it is not in the roster yet. ``lent``: an owner has its share and gives it
    tokens. ``waiting``: it has left an owner, which may still count its share: it admits nothing.
    ``own_share``: it uses its share itself. ``alone``: it counts alone."""
    members: int | None = None
    """Processes in the roster, as far as this one knows; None if it is in none."""
    share: float = 0.0
    """Share of the limits that it may lend or use, 0 to 1."""
    sessions: int | None = None
    """Members that have a session at the owner in this process; None if it is no owner."""
    answered: float | None = None
    """Time of the last answer of an owner (seconds since 1970)."""
    wallets: Mapping[GroupName, int] = field(default_factory=dict)
    """Tokens that it may spend now, by limit."""
    tally: Tally = field(default_factory=Tally)
    transport: Counters = field(default_factory=Counters)
