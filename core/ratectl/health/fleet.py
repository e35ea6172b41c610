"""Read the fleet of an environment: its agents, and the kill switches that are on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ratectl.fleet.usage import read_agents, read_beats
from ratectl.history.generations import read_live
from ratectl.kill_switch.switches import known_switches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ratectl.history.generations import Live
    from ratectl.kill_switch.switches import Switches
    from ratectl.records import AgentRecord, Beat
    from ratectl.stores.base import Store

__all__ = ["Fleet", "read_fleet"]


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
        return self.switches.obeyed_by(agent)

    @classmethod
    def of(
        cls, live: Live, agents: Sequence[AgentRecord], beats: Iterable[Beat], switches: Switches
    ) -> Self:
        """Return the fleet of these records. An agent's beats are newer than its report."""
        times = {beat.id: beat.reported for beat in beats}
        seen = {agent.id: max(agent.reported, times.get(agent.id, "")) for agent in agents}
        return cls(live, agents, seen, switches)


def read_fleet(store: Store, warn: Callable[[str], None]) -> Fleet:
    """Return the agents that report to a store. ``warn`` is called for unreadable records."""
    live = read_live(store)
    agents = read_agents(store, warn)
    return Fleet.of(live, agents, read_beats(store, warn), known_switches(store, warn))
