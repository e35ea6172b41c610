"""Read the cluster of an environment: members, their shares and reports, and the owner."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from ratectl.cluster.entries import read_hints, read_roster
from ratectl.cluster.sharding import SHARD_NAMES
from ratectl.fleet.usage import read_agents, read_beats
from ratectl.health.checks import Check
from ratectl.health.cluster_limits import cluster_limits
from ratectl.history.generations import live_entry, read_tree
from ratectl.history.trees import tree_to_compare
from ratectl.policy.validation.cluster_bursts import small_bursts
from ratectl.records import ID_PARTS, WHOLE_SHARE, agent_part
from ratectl.runtime.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from ratectl.cluster.entries import Entry, RosterState
    from ratectl.health.cluster_limits import ClusterLimit
    from ratectl.history.generations import Live
    from ratectl.records import OwnerHint
    from ratectl.stores.base import Store

__all__ = ["Cluster", "ClusterMember", "check_cluster", "limits_of", "read_cluster"]

_NAMED: Final = 10

State = Literal["reporting", "silent", "unclear", "damaged", "dedicated"]


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """A member's entry, and the newest report of the agent in its process."""

    id: str
    state: State
    """By reports, because one reading of the roster does not tell if an entry is renewed.
    ``silent``: no agent of this name has reported recently. ``unclear``: one has, and there are
    several members of this name, of which at most one can run. ``dedicated``: no agent belongs to
    it."""
    share: int | None
    """Millionths; None if the entry is damaged."""
    is_owner: bool
    address: str
    host: str
    agent: str | None
    """Id of the agent that reports for it."""
    reported: str | None
    """Time of its newest report (ISO 8601, UTC)."""
    problem: str | None = None
    """What this agent says about its limits across the cluster; None if all is well."""

    @property
    def is_dedicated(self) -> bool:
        """True if it owns limits or stands by, and never has a share: ``ratectl cluster run``."""
        return self.state == "dedicated"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster of an environment at one moment."""

    members: Sequence[ClusterMember]
    """By id."""
    owners: Sequence[OwnerHint]
    """Owners of the shards by the newest hints."""
    unnamed: Sequence[str]
    """Shards of which no owner is named."""
    shares: int
    """Sum of the shares of all members that can be read, in millionths."""
    unowned: int | None
    """Share that no member owns; None if the record is absent or damaged."""
    records: Sequence[str]
    """Sentences about damaged records."""
    alone: Mapping[str, str] = field(default_factory=dict)
    """What agents without a member say about their limits across the cluster, by agent."""

    @property
    def sharing(self) -> int:
        """Number of members that share the limits: dedicated owners are none of them."""
        return sum(not member.is_dedicated for member in self.members)

    @property
    def owning(self) -> list[str]:
        """Members that are named as owners, each once."""
        return list(dict.fromkeys(owner.member for owner in self.owners))

    @property
    def problems(self) -> list[str]:
        """Sentences about all that is wrong, the most important first."""
        return [
            *self._owner_problems(),
            *self.records,
            *self._reported(),
            *self._silent(),
            *self._ended(),
        ]

    def _owner_problems(self) -> Iterator[str]:
        if not self.members:
            return
        if self.unnamed:
            where = f" for shard {listed(self.unnamed, _NAMED)}" if self.owners else ""
            yield (
                f"no owner is named{where}, and a member without an owner uses its own share only: "
                "members that run name one within seconds"
            )
        members = {member.id for member in self.members}
        for owner in self.owning:
            if owner not in members:
                yield (
                    f"the owner that is named, {owner}, is no member any more: members that run "
                    "name another within seconds"
                )
        if self.unowned is not None and not self.records:
            total = self.shares + self.unowned
            if total < WHOLE_SHARE:
                yield (
                    f"the shares of all members are {total} of {WHOLE_SHARE} millionths: the rest "
                    "is lost, and limits admit less"
                )

    def _reported(self) -> Iterator[str]:
        """Yield what agents report, each problem once."""
        told: dict[str, list[str]] = {}
        for member in self.members:
            if member.problem is not None:
                told.setdefault(member.problem, []).append(f"member {member.id}")
        for agent, problem in self.alone.items():
            told.setdefault(problem, []).append(f"agent {agent}")
        for problem, names in told.items():
            verb = "reports" if len(names) == 1 else "report"
            yield f"{listed(names, _NAMED)} {verb}: {problem}"

    def _silent(self) -> Iterator[str]:
        silent = [member.id for member in self.members if member.state == "silent"]
        if silent:
            yield (
                f"no agent reports for {listed(silent, _NAMED)}: the process has ended, is cut off "
                "from the store, or has just begun; within a minute, a member that runs takes over "
                "the share of one that has ended"
            )

    def _ended(self) -> Iterator[str]:
        """Yield what members hold of which others of the same agent run, or none does."""
        unclear = [member for member in self.members if member.state == "unclear"]
        share = sum(member.share or 0 for member in unclear)
        if share:
            yield (
                f"of {listed([member.id for member in unclear], _NAMED)}, one of each name runs at "
                f"most: up to {share / WHOLE_SHARE:.0%} of all limits is not used. Within a "
                "minute, members that run take over the shares of those that have ended"
            )


def read_cluster(store: Store, warn: Callable[[str], None]) -> Cluster:
    """Return the cluster of a store. ``warn`` is called for reports that cannot be read.

    :raises StoreError: the store does not answer.
    """
    roster, reports = read_roster(store), _reports(store, warn)
    parts = {agent_part(name) for name in _names(roster)}
    alone = {
        report.agent: report.problem
        for report in reports.values()
        if report.problem is not None and parts.isdisjoint(_parts_of(report.agent))
    }
    if roster.is_empty:
        return Cluster((), (), (), 0, roster.unowned, roster.problems, alone)
    hints, damaged_hints = read_hints(store)
    named = {name: hint.owner for name, hint in hints.items() if hint.owner is not None}
    owners = [named[name] for name in SHARD_NAMES if name in named]
    unnamed = [name for name in SHARD_NAMES if name not in named]
    members = _members(roster, {owner.member for owner in owners}, reports)
    shares = sum(entry.share for entry in roster.entries.values())
    problems = (*roster.problems, *damaged_hints)
    return Cluster(members, owners, unnamed, shares, roster.unowned, problems, alone)


class _Report(NamedTuple):
    """Newest report of an agent."""

    agent: str
    reported: str
    problem: str | None


def _reports(store: Store, warn: Callable[[str], None]) -> dict[str, _Report]:
    """Return the newest report of each agent, by what its members' ids begin with."""
    times = {beat.id: beat.reported for beat in read_beats(store, warn)}
    found = [
        _Report(agent.id, max(agent.reported, times.get(agent.id, "")), agent.cluster)
        for agent in read_agents(store, warn)
    ]
    return {part: report for report in found for part in _parts_of(report.agent)}


def _parts_of(agent: str) -> set[str]:
    return {agent[:length] for length in ID_PARTS}


def _members(
    roster: RosterState, owners: AbstractSet[str], reports: Mapping[str, _Report]
) -> list[ClusterMember]:
    members = []
    counts = Counter(map(agent_part, _names(roster)))
    for name in sorted({*roster.entries, *roster.damaged}):
        entry = roster.entries.get(name)
        is_dedicated = entry is not None and entry.is_dedicated
        part = agent_part(name)
        report = None if is_dedicated else reports.get(part)
        state = _state(entry, report, counts[part])
        members.append(
            ClusterMember(
                id=name,
                state=state,
                share=None if entry is None else entry.share,
                is_owner=name in owners,
                address="" if entry is None else entry.record.address,
                host="" if entry is None else entry.record.host,
                agent=None if report is None else report.agent,
                reported=None if report is None else report.reported,
                problem=report.problem if report is not None and state == "reporting" else None,
            )
        )
    return members


def _names(roster: RosterState) -> list[str]:
    """Return the members for which agents report."""
    agents = [name for name, entry in roster.entries.items() if not entry.is_dedicated]
    return [*agents, *roster.damaged]


def _state(entry: Entry | None, report: _Report | None, members: int) -> State:
    if entry is None:
        return "damaged"
    if entry.is_dedicated:
        return "dedicated"
    if report is None:
        return "silent"
    return "reporting" if members == 1 else "unclear"


def limits_of(store: Store, live: Live, now_ns: int) -> list[ClusterLimit]:
    """Return the limits of the live generation with ``across: cluster``; none without one.

    :raises RatectlError: the generation cannot be read.
    """
    if live.head is None:
        return []
    return cluster_limits(read_tree(store, live_entry(store, live)), now_ns)


def check_cluster(store: Store, live: Live) -> Iterator[Check]:
    """Check the members of the cluster and the bursts of its limits.

    Yield nothing if there are no members, and none is missed.
    """
    cluster = read_cluster(store, lambda _: None)
    problems = cluster.problems
    tree = tree_to_compare(store, live, lambda _: None)
    if tree is not None:
        problems += map(str, small_bursts(tree.tree, cluster.sharing))
    yield from (Check("cluster", "warning", problem) for problem in problems)
    if cluster.members and not problems:
        count = cluster.sharing
        text = "1 member" if count == 1 else f"{count} members"
        owners = "owner" if len(cluster.owning) == 1 else "owners"
        yield Check("cluster", "ok", f"{text}, {owners} {listed(cluster.owning, _NAMED)}")
