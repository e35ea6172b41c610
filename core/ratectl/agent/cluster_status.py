"""State of a process in the cluster, for metrics and explanations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from ratectl.cluster.keyed import KeyedLimit
from ratectl.cluster.pools import UnsharedLimits
from ratectl.cluster.promise import bound_text, fallback_texts
from ratectl.cluster.protocol.capacity import WHOLE
from ratectl.cluster.tally import Tally
from ratectl.cluster.transport.counters import Counters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.cluster.pools import PooledLimit, PooledLimits
    from ratectl.engine.limit_plan import GroupName

__all__ = ["STATES", "ClusterStatus", "State", "note_alone", "note_of", "status_alone"]

State = Literal["joining", "lent", "waiting", "own_share", "alone"]

_TEXTS: Final[Mapping[State, str]] = {
    "joining": "this one has not joined yet",
    "lent": "this one has lent its share to the owners",
    "waiting": "this one has left an owner, and waits until its share is back",
    "own_share": "an owner does not answer this one, and it uses its own share",
    "alone": "this one cannot join, and counts alone",
}
STATES: Final = tuple(_TEXTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """State of a process that has limits across the cluster. Counts are since its start."""

    state: State
    """``joining``: it is not in the roster yet. ``lent``: the owners have its share and give it
    tokens. ``waiting``: it has left an owner, which may still count its share: it admits nothing of
    that shard. ``own_share``: it uses its share of a shard itself. ``alone``: it counts alone."""
    members: int | None = None
    """Processes in the roster, as far as this one knows; None if it is in none."""
    share: float = 0.0
    """Share of the limits that it may lend or use, 0 to 1."""
    sessions: int | None = None
    """Members that have a session at an owner in this process; None if it is no owner."""
    answered: float | None = None
    """Time of the last answer of an owner (seconds since 1970)."""
    wallets: Mapping[GroupName, int] = field(default_factory=dict)
    """Tokens that it may spend now, by limit."""
    tally: Tally = field(default_factory=Tally)
    transport: Counters = field(default_factory=Counters)


def _label_of(name: GroupName) -> str:
    """Return ``budget fleet @ /``."""
    scope, limit, budget, *_ = name
    return f"{'budget ' if budget else ''}{limit} @ {scope}"


def note_of(limit: PooledLimit | KeyedLimit, drift: int, status: ClusterStatus) -> str:
    """Return what people should know of a limit across the cluster.

    ``drift``: millionths by which the rate of its size is lowered.
    """
    several = status.members is not None and status.members != 1
    count = f"{status.members} processes" if several else "all processes"
    size = limit.whole if isinstance(limit, KeyedLimit) else limit.size
    *_, per, _ = limit.name
    if size.window:
        burst, rate = None, f"{size.burst} in {size.window / 10**9:.6g} s"
    else:
        burst, rate = size.burst, f"{size.rate * (WHOLE + drift) / 10**15:.6g}/s"
    bound = bound_text(burst, rate, per, optimistic=size.added > 0)
    fallback = fallback_texts(size.burst, per, is_window=bool(size.window))
    return (
        f"{_label_of(limit.name)} is one limit for {count} ({_TEXTS[status.state]}), and what is "
        "left is what this one may admit now: "
        f"{'; '.join((bound, *fallback))}"
    )


def status_alone(pools: PooledLimits | UnsharedLimits | None) -> ClusterStatus | None:
    """Return the state of a process that shares no limits; None if it should not share any."""
    is_alone = isinstance(pools, UnsharedLimits) and bool(pools.names)
    return ClusterStatus(state="alone") if is_alone else None


def note_alone(pools: PooledLimits | UnsharedLimits | None, name: GroupName) -> str | None:
    """Return what people should know of a limit in such a process; None for other limits."""
    if not isinstance(pools, UnsharedLimits) or name not in pools.names:
        return None
    return (
        f"{_label_of(name)} is to be one limit for all processes, and counts in this process alone"
    )
