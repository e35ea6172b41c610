"""Members of a cluster, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl.records import WHOLE_SHARE, owner_shard
from ratectl.runtime.wording import listed
from ratectl_cli.framework.text import Aligned, Column, Styled, Table, bold, dim, paragraph, plural
from ratectl_cli.render import times

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ratectl.environments import Place
    from ratectl.health.cluster import Cluster, ClusterMember
    from ratectl.health.cluster_limits import ClusterLimit
    from ratectl_cli.framework.text import Block

__all__ = [
    "forget_preview", "forgotten_blocks", "status_blocks", "status_data", "without_members",
]  # fmt: skip

_NAMED: Final = 10
_COLUMNS: Final = (
    Column("MEMBER"),
    Column("SHARE", 2, "number"),
    Column("ROLE", 3),
    Column("STATE", 3),
    Column("LAST REPORT", 4),
    Column("ADDRESS", 6, "text", least=16),
    Column("HOST", 7, "text", least=12),
)
_COLOURS: Final = {
    "reporting": "green",
    "dedicated": "green",
    "silent": "yellow",
    "unclear": "yellow",
    "damaged": "red",
}


# Status -------------------------------------------------------------------------------------------


def status_data(
    cluster: Cluster, limits: Sequence[ClusterLimit] | None, generation: int
) -> dict[str, Any]:
    """Return the cluster for programs. Shares are millionths."""
    return {
        "generation": generation or None,
        "degraded": bool(cluster.problems),
        "problems": cluster.problems,
        "owners": [
            {
                "shard": owner_shard(owner.owner),
                "member": owner.member,
                "name": owner.owner,
                "address": owner.address,
            }
            for owner in cluster.owners
        ],
        "members": [_member_data(member) for member in cluster.members],
        "alone": [{"agent": agent, "problem": problem} for agent, problem in cluster.alone.items()],
        "shares": cluster.shares,
        "unowned": cluster.unowned,
        "limits": None
        if limits is None
        else [
            {
                "scope": limit.scope,
                "limit": limit.name,
                "budget": limit.budget,
                "shared": limit.not_shared is None,
                "reason": limit.not_shared,
            }
            for limit in limits
        ],
    }


def _member_data(member: ClusterMember) -> dict[str, Any]:
    return {
        "id": member.id,
        "share": member.share,
        "owner": member.is_owner,
        "dedicated": member.is_dedicated,
        "state": member.state,
        "agent": member.agent,
        "last_seen": member.reported,
        "address": member.address,
        "host": member.host,
        "problem": member.problem,
    }


def status_blocks(
    cluster: Cluster, limits: Sequence[ClusterLimit] | None, now: datetime
) -> Iterator[Block]:
    """Yield the cluster for people."""
    if cluster.members:
        yield Table(_COLUMNS, [_row(member, now) for member in cluster.members])
    for problem in cluster.problems:
        yield paragraph([bold("problem: ", "yellow"), problem])
    yield Aligned([*_summary(cluster), *_limit_rows(limits)])


def _row(member: ClusterMember, now: datetime) -> list[Any]:
    return [
        bold(member.id),
        _share(member),
        "owner" if member.is_owner else "stand-by" if member.is_dedicated else "-",
        Styled(member.state, _COLOURS[member.state]),
        "-" if member.reported is None else times.ago(member.reported, now),
        member.address or "-",
        member.host or "-",
    ]


def _share(member: ClusterMember) -> str:
    if member.share is None:
        return "?"
    return "-" if member.is_dedicated else _percent(member.share)


def _percent(share: int) -> str:
    return f"{100 * share / WHOLE_SHARE:.4g}%"


def _summary(cluster: Cluster) -> Iterator[list[Any]]:
    count = plural(cluster.sharing, "member")
    if not cluster.members:
        yield [dim("members:"), "none"]
        return
    shares = f"{count}, {_percent(cluster.shares)} of all limits"
    if cluster.unowned:
        shares += f"; nobody owns {_percent(cluster.unowned)}"
    dedicated = len(cluster.members) - cluster.sharing
    if dedicated:
        shares += f"; {plural(dedicated, 'dedicated owner')}"
    yield [dim("members:"), shares]
    label = "owner:" if len(cluster.owning) == 1 else "owners:"
    yield [dim(label), listed(cluster.owning, _NAMED) or "none"]


def _limit_rows(limits: Sequence[ClusterLimit] | None) -> Iterator[list[Any]]:
    if limits is None:
        yield [dim("shared:"), "unknown: the live generation cannot be read"]
        return
    shared = [_label(limit) for limit in limits if limit.not_shared is None]
    yield [dim("shared:"), listed(shared, _NAMED) if shared else "no limit"]
    reasons: dict[str, list[str]] = {}
    for limit in limits:
        if limit.not_shared is not None:
            reasons.setdefault(limit.not_shared, []).append(_label(limit))
    for reason, names in reasons.items():
        yield [dim("not shared:"), f"{listed(names, _NAMED)}: {reason}"]


def _label(limit: ClusterLimit) -> str:
    return f"{'budget ' if limit.budget else ''}{limit.name} at {limit.scope}"


def without_members(limits: Sequence[ClusterLimit] | None) -> str:
    """Return what to do where the roster has no member."""
    if limits is not None and any(limit.not_shared is None for limit in limits):
        return "no process has joined: start one that uses this store, ratectl agent run"
    return (
        "no process shares limits: write `across: cluster` in a token bucket or a window, and "
        "publish it"
    )


# Forget -------------------------------------------------------------------------------------------


def forget_preview(
    member: ClusterMember, place: Place, now: datetime, *, force: bool
) -> Iterator[Block]:
    """Yield what a removal is about to do."""
    yield paragraph([bold("remove member"), f" {member.id} from {place}"])
    report = "none: no agent of this name has reported recently"
    if member.reported is not None:
        report = f"{times.ago(member.reported, now)}, by agent {member.agent}"
    share = "unknown: the entry is damaged" if member.share is None else _share(member)
    yield Aligned([("share", share), ("report", report)])
    if force:
        text = "if its process runs, its share is used twice for up to 30 seconds"
        yield paragraph([bold("danger: ", "red"), text])


def forgotten_blocks(member: str, share: int, others: Sequence[str]) -> Iterator[Block]:
    """Yield what was removed."""
    yield paragraph([bold("removed: ", "green"), member])
    heir = "a member that runs takes it over" if others else "the next process that joins gets it"
    yield [dim("share:  "), f"{_percent(share)}: {heir}" if share else "none"]
