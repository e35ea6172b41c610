"""Rollouts, as text and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl_cli.framework.text import Column, Styled, Table, bold, dim, plural
from ratectl_cli.render import times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.records import Controller, RolloutRecord
    from ratectl.rollout import Differences, Group, RolloutStatus, Verdict
    from ratectl_cli.framework.text import Block

__all__ = ["agents_text", "controller_text", "rollout_blocks", "rollout_data", "traffic_text"]

_COLOURS = {"promoted": "green", "aborted": "red", "paused": "yellow"}
_NOBODY: Final = Styled("nobody controls it, so nobody new takes part", "yellow")


def agents_text(verdict: Verdict) -> str:
    """Return a count such as ``2 of 4 agents``."""
    there = verdict.candidates.agents + verdict.others.agents
    return f"{len(verdict.joined)} of {plural(there, 'agent')}"


def traffic_text(group: Group) -> str:
    """Return a share such as ``1.5% of 300 requests refused``."""
    if group.share is None:
        return "no requests yet"
    return f"{group.share:.1f}% of {plural(group.requests, 'request')} refused"


def _controller_data(found: Controller | None) -> dict[str, Any] | None:
    return None if found is None else {"host": found.host, "pid": found.pid, "since": found.since}


def controller_text(found: Controller) -> str:
    """``process 4711 on node-a, which began 3 min ago``."""
    return f"{found}, which began {times.ago(found.since, times.now())}"


def _differences_data(found: Differences | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "agents": found.agents,
        "requests": found.requests,
        "newly_refused": found.newly_refused,
        "newly_allowed": found.newly_allowed,
        "limits": [
            {"scope": scope, "limit": limit, "newly_refused": refused, "newly_allowed": allowed}
            for (scope, limit), (refused, allowed) in found.limits
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


def rollout_blocks(status: RolloutStatus, *, quiet: bool) -> Iterator[Block]:
    """Yield how a rollout stands, for people."""
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
        yield [dim("because:  "), record.reason]
    if record.mode != "shadow":
        yield [dim("stages:   "), _stages(record)]
        if not record.over:
            yield [
                dim("control:  "),
                controller_text(status.controller) if status.controller else _NOBODY,
            ]
    if differences is not None and not record.over:
        yield from _difference_blocks(differences, verdict)
    elif verdict is not None and not record.over:
        yield [dim("agents:   "), agents_text(verdict)]
        if verdict.missing:
            yield [dim("missing:  "), ", ".join(verdict.missing[:10])]
    if verdict is not None and verdict.trouble and not record.over:
        yield [dim("trouble:  "), Styled(verdict.trouble, "red")]
    if quiet:
        return
    if record.state == "promoted" and status.live.generation == record.generation:
        yield [dim("undo:     "), f"ratectl rollback --to {record.base}"]
    elif not record.over:
        go_on = "promote" if record.mode == "shadow" else "run"
        yield [dim("go on:    "), f"ratectl rollout {go_on}"]
        yield [dim("end it:   "), "ratectl rollout abort --reason …"]


def _difference_blocks(found: Differences, verdict: Verdict | None) -> Iterator[Block]:
    there = found.agents
    if verdict is not None:
        there = max(there, verdict.candidates.agents + verdict.others.agents)
    asked = plural(found.requests, "request")
    yield [dim("agents:   "), f"evaluated in {found.agents} of {plural(there, 'agent')}, {asked}"]
    for number, what in (
        (found.newly_refused, "refused that pass"),
        (found.newly_allowed, "let pass that are refused"),
    ):
        share = f" ({number / found.requests:.2%})" if found.requests else ""
        yield [dim("would be: "), f"{number}{share} {what}"]
    if found.limits:
        table = Table(
            [Column("SCOPE"), Column("LIMIT"), Column("REFUSED", True), Column("LET PASS", True)]
        )
        table.rows += [
            (scope or "-", limit or "-", str(refused), str(allowed))
            for (scope, limit), (refused, allowed) in found.limits
        ]
        yield table


def _stages(record: RolloutRecord) -> str:
    shares = ", ".join(f"{each:g}%" for each in record.stages)
    band = "any difference" if record.band is None else f"{record.band:g} points apart at most"
    requests = plural(record.min_requests, "request")
    return f"{shares}; each {record.bake_seconds:g} s and {requests}, {band}"
