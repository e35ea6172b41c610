"""How the agents that take part in a rollout fare, beside those that do not.

Judged by what agents report: their own records, and signs of life with what they have decided.
Times are the judge's own (monotonic), so it does not matter whose clock is right.
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
"""A report may come so much later than two intervals after the last one."""

_LEAST_PATIENCE: Final = 8.0
"""Nobody is given less time than that, however often it reports."""

_ERRORS: Final = 4.0
"""Standard errors by which shares have to differ as well: less is chance, looked at so often."""

_FEW: Final = 50
"""Requests that say nothing yet about a share of them."""

_BLIND_SECONDS: Final = 3.0
"""Who has not looked for so long cannot tell who was silent meanwhile."""


class Group(NamedTuple):
    """Agents of one kind, and what they have decided since this stage began."""

    agents: int = 0
    requests: int = 0
    refused: int = 0

    @property
    def share(self) -> float | None:
        """Refused, in percent; None where nothing was decided."""
        return 100 * self.refused / self.requests if self.requests else None


class Verdict(NamedTuple):
    """How it stands."""

    trouble: str | None
    """Why it must not go on; None where nothing speaks against it."""
    expected: Sequence[str]
    """Agents that are to take part and are there."""
    joined: Sequence[str]
    """Those of them that do."""
    unheard: Sequence[str]
    """Those of these of whom nobody knows whether they live: after a time of not looking."""
    candidates: Group
    others: Group

    @property
    def missing(self) -> list[str]:
        """Agents that are to take part and do not."""
        return sorted(set(self.expected) - set(self.joined))


@dataclass(slots=True)
class _Agent:
    """What is known of one agent."""

    heard: float
    """When its last report was seen."""
    interval: float = 2.0
    """Seconds between its reports."""
    report: tuple[str, str] | None = None
    """When it began to count, and when it last reported."""
    unheard: bool = True
    """Whether no report of it was seen to come since somebody has been looking."""
    counting: bool = False
    """Whether ``before`` is of this stage."""
    before: tuple[int, int] = (0, 0)
    """Requests and refusals when the stage began."""
    joined: bool = False
    requests: int = 0
    refused: int = 0


class Judge:
    """Looks at reports again and again, and remembers what it needs to compare them."""

    def __init__(self, rollout: RolloutRecord) -> None:
        self._id = rollout.id
        self._generation = rollout.generation
        self._enough = max(_FEW, rollout.min_requests)
        self._band = rollout.band
        self._known: dict[str, _Agent] = {}
        self._looked: float | None = None
        self.compared = False
        """Whether there was enough to compare by, in this stage."""
        self._trouble: str | None = None
        """What was found once is not forgotten, whatever becomes of who caused it."""

    def begin_stage(self) -> None:
        """Count from now on."""
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
        """Judge by the reports at ``now`` (monotonic seconds) in a stage of so many percent."""
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
            # What it decided on the other side says nothing about this one.
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
        """One that takes part and went silent. Who signs off in good order does so in time."""
        for name, agent in self._known.items():
            silent = now - agent.heard
            patience = max(_LEAST_PATIENCE, 2 * agent.interval + _LATE_SECONDS)
            if agent.joined and silent > patience:
                gone = "" if name in there else ", and is gone"
                return f"{name} took it, was not heard of for {silent:.0f} s{gone}"
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
    """By how many points two shares may well differ that are the same."""
    share = (one.refused + other.refused) / (one.requests + other.requests)
    return 100 * _ERRORS * math.sqrt(share * (1 - share) * (1 / one.requests + 1 / other.requests))
