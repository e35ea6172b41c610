"""Rollouts, as text and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl_cli.framework.text import Column, Styled, Table, bold, dim, paragraph, plural
from ratectl_cli.render import times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ratectl.records import Controller, RolloutRecord
    from ratectl.rollout import Differences, Group, RolloutStatus, Verdict
    from ratectl_cli.framework.recommended import Selector
    from ratectl_cli.framework.text import Block

__all__ = ["agents_text", "controller_text", "rollout_blocks", "rollout_data", "traffic_text"]

_COLOURS = {"promoted": "green", "aborted": "red", "paused": "yellow"}
_NOBODY: Final = Styled("no process controls it, so no more agents join", "yellow")


def agents_text(verdict: Verdict) -> str:
    """Return a count such as ``2 of 4 agents``."""
    there = verdict.candidates.agents + verdict.others.agents
    return f"{len(verdict.joined)} of {plural(there, 'agent')}"


def traffic_text(group: Group) -> str:
    """Return a share such as ``1.5% of 300 requests refused``."""
    if group.share is None:
        return "no requests yet"
    return f"{group.share:.1f}% of {plural(group.requests, 'request')} refused"


def _controller_data(controller: Controller | None) -> dict[str, Any] | None:
    if controller is None:
        return None
    return {"host": controller.host, "pid": controller.pid, "since": controller.since}


def controller_text(controller: Controller, now: datetime) -> str:
    """Return ``process 4711 on node-a, started 3 min ago``."""
    return f"{controller}, started {times.ago(controller.since, now)}"


def _differences_data(differences: Differences | None) -> dict[str, Any] | None:
    if differences is None:
        return None
    return {
        "agents": differences.agents,
        "requests": differences.requests,
        "newly_refused": differences.newly_refused,
        "newly_allowed": differences.newly_allowed,
        "limits": [
            {"scope": scope, "limit": limit, "newly_refused": refused, "newly_allowed": allowed}
            for (scope, limit), (refused, allowed) in differences.limits
        ],
    }


def rollout_data(status: RolloutStatus) -> dict[str, Any]:
    """Return how a rollout stands, for programs."""
    record, verdict = status.record, status.verdict
    return {
        "generation": record.generation,
        "base": record.base,
        "live": status.live.generation or None,
        "id": record.id,
        "mode": record.mode,
        "state": record.state,
        "reason": record.reason or None,
        "by": record.by or None,
        "stages": record.stages,
        "stage": record.stage,
        "percent": record.percent,
        "bake_seconds": record.bake_seconds,
        "min_requests": record.min_requests,
        "band": record.band,
        "author": record.author,
        "started": record.started,
        "updated": record.updated,
        "agents": None if verdict is None else _verdict_data(verdict),
        "controller": _controller_data(status.controller),
        "shadow": _differences_data(status.differences),
    }


def _verdict_data(verdict: Verdict) -> dict[str, Any]:
    return {
        "expected": list(verdict.expected),
        "joined": list(verdict.joined),
        "candidates": _group_data(verdict.candidates),
        "others": _group_data(verdict.others),
        "trouble": verdict.trouble,
    }


def _group_data(group: Group) -> dict[str, Any]:
    return {"agents": group.agents, "requests": group.requests, "refused": group.refused}


def rollout_blocks(
    status: RolloutStatus, now: datetime, *, selector: Selector, quiet: bool
) -> Iterator[Block]:
    """Yield how a rollout stands, for people. ``selector``: options to repeat."""
    record, verdict, differences = status.record, status.verdict, status.differences
    state = bold(record.state, _COLOURS.get(record.state, "cyan"))
    how = "evaluated beside" if record.mode == "shadow" else "tried beside"
    where = "" if record.over or record.mode == "shadow" else f" at {record.percent:g}%"
    by = f" by {record.by}" if record.by else ""
    yield [
        bold(f"generation {record.generation}"), f", {how} generation {record.base}: ", state,
        f"{where}{by}",
    ]  # fmt: skip
    if record.reason:
        yield paragraph([dim("because:  "), record.reason])
    if record.mode != "shadow":
        yield paragraph([dim("stages:   "), _stages(record)])
        if not record.over:
            yield [
                dim("control:  "),
                controller_text(status.controller, now) if status.controller else _NOBODY,
            ]
    if differences is not None and not record.over:
        yield from _difference_blocks(differences, verdict)
    elif verdict is not None and not record.over:
        yield [dim("agents:   "), agents_text(verdict)]
        if verdict.missing:
            yield paragraph([dim("missing:  "), ", ".join(verdict.missing[:10])])
    if verdict is not None and verdict.trouble and not record.over:
        yield paragraph([dim("trouble:  "), Styled(verdict.trouble, "red")])
    if quiet:
        return
    if record.state == "promoted" and status.live.generation == record.generation:
        yield [dim("undo:     "), f"ratectl rollback{selector.changing} --to {record.base}"]
    elif not record.over:
        go_on = "promote" if record.mode == "shadow" else "run"
        yield [dim("continue: "), f"ratectl rollout {go_on}{selector.changing}"]
        yield [dim("end it:   "), f"ratectl rollout abort{selector.changing} --reason …"]


def _difference_blocks(differences: Differences, verdict: Verdict | None) -> Iterator[Block]:
    there = differences.agents
    if verdict is not None:
        there = max(there, verdict.candidates.agents + verdict.others.agents)
    asked = plural(differences.requests, "request")
    yield [
        dim("agents:   "),
        f"evaluated in {differences.agents} of {plural(there, 'agent')}, {asked}",
    ]
    for number, what in (
        (differences.newly_refused, "refused that are allowed now"),
        (differences.newly_allowed, "allowed that are refused now"),
    ):
        share = f" ({number / differences.requests:.2%})" if differences.requests else ""
        yield paragraph([dim("would be: "), f"{number}{share} {what}"])
    if differences.limits:
        table = Table(
            [
                Column("SCOPE"),
                Column("LIMIT", 2),
                Column("REFUSED", 3, "number"),
                Column("ALLOWED", 4, "number"),
            ]
        )
        table.rows += [
            (scope or "-", limit or "-", str(refused), str(allowed))
            for (scope, limit), (refused, allowed) in differences.limits
        ]
        yield table


def _stages(record: RolloutRecord) -> str:
    shares = ", ".join(f"{share:g}%" for share in record.stages)
    band = "any difference" if record.band is None else f"{record.band:g} points apart at most"
    requests = plural(record.min_requests, "request")
    return f"{shares}; each {record.bake_seconds:g} s and {requests}, {band}"
