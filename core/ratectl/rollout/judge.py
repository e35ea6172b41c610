"""Judge of a rollout: compares the agents that take part with those that do not.

Decisions use the agents' reports (their records, and signs of life with counts of requests) and the
judge's own monotonic clock, so wrong clocks of agents do not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.fleet.membership import included

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.records import AgentRecord, Beat, RolloutRecord

__all__ = ["Group", "Judge", "Verdict"]

_LATE_SECONDS: Final = 4.0
"""A report is late this long after two report intervals."""

_LEAST_PATIENCE: Final = 8.0
"""Shortest silence that counts as a death, for agents with short report intervals."""

_ERRORS: Final = 4.0
"""Standard errors that two shares must differ by, besides the band: with so many looks, a smaller
difference may be chance."""

_FEW: Final = 50
"""Least number of requests to compare a share of."""

_BLIND_SECONDS: Final = 3.0
"""After so long without a look, the judge cannot tell which agents were silent meanwhile."""


class Group(NamedTuple):
    """Agents with or without the candidate, and their decisions since this stage began."""

    agents: int = 0
    requests: int = 0
    refused: int = 0

    @property
    def share(self) -> float | None:
        """Refused requests in percent; None without requests."""
        return 100 * self.refused / self.requests if self.requests else None


class Verdict(NamedTuple):
    """Result of one look at the agents' reports."""

    trouble: str | None
    """Why the rollout must be aborted; None if there is no reason."""
    expected: Sequence[str]
    """Agents that report and belong to this stage."""
    joined: Sequence[str]
    """Agents that run the candidate."""
    unheard: Sequence[str]
    """Joined agents not heard from since polling resumed."""
    candidates: Group
    others: Group

    @property
    def missing(self) -> list[str]:
        """Agents that belong to this stage and have not joined."""
        return sorted(set(self.expected) - set(self.joined))


@dataclass(slots=True)
class _Agent:
    """The judge's memory of one agent."""

    heard: float
    """Time at which its last report was seen."""
    interval: float = 2.0
    """Seconds between its reports."""
    report: tuple[str, str] | None = None
    """When it began to count, and when it last reported (its own times)."""
    unheard: bool = True
    """True until a new report is seen, after the first look and after a gap between looks."""
    counting: bool = False
    """True if ``before`` is of this stage."""
    before: tuple[int, int] = (0, 0)
    """Numbers of requests and refusals when the stage began."""
    joined: bool = False
    requests: int = 0
    refused: int = 0


class Judge:
    """Judges a rollout by repeated looks at the reports, and remembers what it compares."""

    def __init__(self, rollout: RolloutRecord) -> None:
        self._id = rollout.id
        self._generation = rollout.generation
        self._enough = max(_FEW, rollout.min_requests)
        self._band = rollout.band
        self._known: dict[str, _Agent] = {}
        self._looked: float | None = None
        self.compared = False
        """True once there were enough requests to compare in this stage."""
        self._trouble: str | None = None
        """First reason to abort. It stays, even if the agent that caused it disappears."""

    def begin_stage(self) -> None:
        """Start the counts of a new stage."""
        self.compared = False
        for agent in self._known.values():
            agent.counting, agent.requests, agent.refused = False, 0, 0

    def look(
        self,
        now: float,
        percent: float,
        agents: Sequence[AgentRecord],
        beats: Sequence[Beat],
    ) -> Verdict:
        """Judge by the reports at ``now`` (monotonic seconds), in a stage of ``percent``."""
        blind = self._looked is None or now - self._looked > _BLIND_SECONDS
        self._looked = now
        reports = {each.id: each for each in beats}
        joined: list[str] = []
        for record in agents:
            agent = self._known.setdefault(record.id, _Agent(now))
            self._listen(agent, record, reports.get(record.id), now)
            if blind:
                agent.heard, agent.unheard = now, True
            if agent.joined:
                joined.append(record.id)
        there = {record.id for record in agents}
        self._trouble = self._trouble or self._rejection(agents) or self._death(there, now)
        for gone in set(self._known) - there:
            del self._known[gone]
        candidates, others = self._group(joined=True), self._group(joined=False)
        self._trouble = self._trouble or self._difference(candidates, others)
        return Verdict(
            self._trouble,
            [each.id for each in agents if included(self._id, each.id, percent)],
            joined,
            [name for name in joined if self._known[name].unheard],
            candidates,
            others,
        )

    def _listen(self, agent: _Agent, record: AgentRecord, beat: Beat | None, now: float) -> None:
        agent.interval = record.interval
        joined = record.rollout == self._id
        if joined != agent.joined:
            # Its earlier decisions belong to the other group.
            agent.joined, agent.counting, agent.requests, agent.refused = joined, False, 0, 0
            agent.heard = now
        if beat is None or (joined and beat.generation != self._generation):
            return
        said = (beat.since, beat.reported)
        if said != agent.report:
            agent.heard, agent.unheard = now, agent.report is None
        if not agent.counting or (agent.report and agent.report[0] != beat.since):
            agent.before, agent.counting = (beat.requests, beat.refused), True
        agent.report = said
        agent.requests = beat.requests - agent.before[0]
        agent.refused = beat.refused - agent.before[1]

    def _rejection(self, agents: Sequence[AgentRecord]) -> str | None:
        for each in agents:
            if each.rejected == self._generation:
                return f"{each.id} rejects it: {each.error}"
        return None

    def _death(self, there: set[str], now: float) -> str | None:
        """Return the problem of a joined agent that went silent; None if there is none.

        An agent that ends normally removes its records in time.
        """
        for name, agent in self._known.items():
            silent = now - agent.heard
            patience = max(_LEAST_PATIENCE, 2 * agent.interval + _LATE_SECONDS)
            if agent.joined and silent > patience:
                gone = "" if name in there else ", and is gone"
                return f"{name} took the candidate, and has not reported for {silent:.0f} s{gone}"
        return None

    def _difference(self, candidates: Group, others: Group) -> str | None:
        one, other = candidates.share, others.share
        if self._band is None or one is None or other is None:
            return None
        if min(candidates.requests, others.requests) < self._enough:
            return None
        self.compared = True
        if abs(one - other) <= max(self._band, _chance(candidates, others)):
            return None
        return (
            f"agents that run it refuse {one:.1f}% of {candidates.requests} requests, the others "
            f"{other:.1f}% of {others.requests}: more than {self._band:g} points apart"
        )

    def _group(self, *, joined: bool) -> Group:
        members = [agent for agent in self._known.values() if agent.joined == joined]
        return Group(
            len(members),
            sum(agent.requests for agent in members),
            sum(agent.refused for agent in members),
        )


def _chance(one: Group, other: Group) -> float:
    """Return the difference in percentage points that two equal shares may show by chance."""
    share = (one.refused + other.refused) / (one.requests + other.requests)
    return 100 * _ERRORS * math.sqrt(share * (1 - share) * (1 / one.requests + 1 / other.requests))
