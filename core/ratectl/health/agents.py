"""Checks of agents: their reports, clocks, generations and kill switches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.fleet.usage import read_agents, read_beats, read_usage
from ratectl.health.checks import GRACE_SECONDS, Check
from ratectl.health.fleet import Fleet
from ratectl.health.kill_switches import check_switches
from ratectl.history.generations import read_entry
from ratectl.kill_switch.switches import known_switches
from ratectl.runtime.times import ago, seconds_since

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ratectl.history.generations import Live
    from ratectl.records import AgentRecord
    from ratectl.stores.base import Store

__all__ = ["check_agents"]

_SKEW_SECONDS: Final = 5.0
_STALE_SECONDS: Final = 10.0
"""Least age of a last report that is a problem. Agents report every five seconds by default."""


def check_agents(store: Store, live: Live, at: datetime) -> Iterator[Check]:
    """Check reports, kill switches, clocks and the generation of every agent."""
    unreadable: list[str] = []
    beats = read_beats(store, unreadable.append)
    agents = read_agents(store, unreadable.append)
    read_usage(store, unreadable.append)
    yield from (Check("reports", "warning", problem) for problem in unreadable)
    damage: list[str] = []
    fleet = Fleet.of(live, agents, beats, known_switches(store, damage.append))
    yield from check_switches(fleet, damage, at)
    if not agents:
        yield Check("clock", "skipped", "no agent to compare with")
        yield Check("agents", "warning", "no agent has reported recently")
        return
    yield from _check_clocks(fleet, at)
    fresh = _is_fresh(store, live, at)
    troubles = [check for agent in agents for check in _check_agent(fleet, agent, at, fresh=fresh)]
    yield from troubles
    if not troubles:
        yield Check("agents", "ok", f"{len(agents)} serving generation {live.generation}")


def _is_fresh(store: Store, live: Live, at: datetime) -> bool:
    """Return True if the live generation is so new that agents may still be fetching it."""
    if live.head is None:
        return False
    age = seconds_since(read_entry(store, live.generation).time, at)
    return age is not None and age < GRACE_SECONDS


def _check_clocks(fleet: Fleet, at: datetime) -> Iterator[Check]:
    """Check that no agent has reported from the future."""
    ahead = {
        name: -age
        for name, seen in fleet.seen.items()
        if (age := seconds_since(seen, at)) is not None and age < -_SKEW_SECONDS
    }
    for name, seconds in ahead.items():
        message = f"the clock of agent {name} is {seconds:.0f} s ahead of this machine's"
        yield Check("clock", "warning", message)
    if not ahead:
        yield Check("clock", "ok", "no agent's clock is ahead of this machine's")


def _check_agent(fleet: Fleet, agent: AgentRecord, at: datetime, *, fresh: bool) -> Iterator[Check]:
    """Yield what is wrong with an agent. ``fresh``: the live generation has just been published."""
    name, last = agent.id, fleet.seen[agent.id]
    if agent.state == "rejected":
        yield Check("agents", "failed", f"{name}: {agent.error}")
    elif fleet.is_behind(agent) and not fresh:
        enforced = f"generation {agent.generation}" if agent.generation else "none"
        message = f"{name} enforces {enforced}; generation {fleet.live.generation} is live"
        yield Check("agents", "failed", message)
    elif agent.error:
        yield Check("agents", "warning", f"{name}: {agent.error}")
    age = seconds_since(last, at)
    if age is None or age > max(_STALE_SECONDS, 2 * agent.interval):
        yield Check("agents", "warning", f"{name} was last seen {ago(last, at)}")
