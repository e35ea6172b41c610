"""Read the fleet of an environment: its agents, and the kill switches that are on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratectl.errors import BundleError
from ratectl.fleet.usage import read_agents, read_beats
from ratectl.history.generations import read_live
from ratectl.kill_switch.switches import Switches, read_switches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ratectl.history.generations import Live
    from ratectl.records import AgentRecord
    from ratectl.stores.base import Store

__all__ = ["Fleet", "known_switches", "read_fleet"]


@dataclass(frozen=True, slots=True)
class Fleet:
    """The agents of an environment at one moment."""

    live: Live
    agents: Sequence[AgentRecord]
    """Agents that reported within their lease, by id."""
    seen: Mapping[str, str]
    """Time of the newest report of each agent (ISO 8601, UTC)."""
    switches: Switches

    def is_behind(self, agent: AgentRecord) -> bool:
        """Return True if an agent enforces neither the live generation nor a candidate."""
        return agent.generation != self.live.generation and not self.tries_candidate(agent)

    def tries_candidate(self, agent: AgentRecord) -> bool:
        """Return True if an agent takes part in the rollout that is under way."""
        candidate = self.live.candidate
        return candidate is not None and agent.rollout == candidate.rollout

    def obeys(self, agent: AgentRecord) -> bool:
        """Return True if an agent knows the newest record of kill switches."""
        return agent.panic_sequence >= self.switches.sequence


def read_fleet(store: Store, warn: Callable[[str], None]) -> Fleet:
    """Return the agents that report to a store. ``warn`` is called for unreadable records."""
    live = read_live(store)
    agents = read_agents(store, warn)
    beats = {record.id: record.reported for record in read_beats(store, warn)}
    seen = {each.id: max(each.reported, beats.get(each.id, "")) for each in agents}
    return Fleet(live, agents, seen, known_switches(store, warn))


def known_switches(store: Store, warn: Callable[[str], None]) -> Switches:
    """Return the switches in a store; none, with a warning, if they cannot be read."""
    try:
        return read_switches(store)
    except BundleError as error:
        warn(str(error))
        return Switches()
