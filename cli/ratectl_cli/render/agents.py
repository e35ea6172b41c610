"""Agents, as text and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl_cli.framework.text import Column, Styled, Table, bold
from ratectl_cli.render import times
from ratectl_cli.render.panic import obeyed_data, obeyed_text, switch_data

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ratectl.health.fleet import Fleet
    from ratectl.records import AgentRecord
    from ratectl_cli.framework.text import Block, Line

__all__ = ["agents_blocks", "fleet_data"]

_COLUMNS: Final = (
    Column("AGENT"),
    Column("GENERATION", 2, "number"),
    Column("STATE", 3),
    Column("PANIC", 4),
    Column("LAST SEEN", 6),
    Column("HOST", 7, "text", least=12),
    Column("PID", 8, "number"),
    Column("ENGINE", 10),
    Column("SWAP MS", 9, "number"),
    Column("ERROR", 5, "text", least=16),
)


def fleet_data(fleet: Fleet) -> dict[str, Any]:
    """Return the agents of an environment for programs."""
    rows = [_agent_data(fleet, agent) for agent in fleet.agents]
    return {
        "generation": fleet.live.generation or None,
        "agents": rows,
        "behind": sum(1 for row in rows if row["behind"]),
        "rejected": sum(1 for row in rows if row["state"] == "rejected"),
        "panic": [switch_data(switch) for switch in fleet.switches.on],
    }


def _agent_data(fleet: Fleet, agent: AgentRecord) -> dict[str, Any]:
    return {
        "id": agent.id,
        "generation": agent.generation or None,
        "behind": fleet.is_behind(agent),
        "candidate": fleet.tries_candidate(agent),
        "state": agent.state,
        "rejected": agent.rejected,
        "error": agent.error,
        "last_seen": fleet.seen[agent.id],
        "applied": agent.applied,
        "swap_ms": agent.swap_ms,
        "started": agent.started,
        "host": agent.host,
        "pid": agent.pid,
        "version": agent.version,
        "engine": agent.engine,
        "errors": agent.errors,
        "panic": obeyed_data(agent),
        "panic_behind": not fleet.obeys(agent),
    }


def agents_blocks(rows: Sequence[Mapping[str, Any]], now: datetime) -> list[Block]:
    """Return the agents for people."""
    if not rows:
        return []
    panic = any(row["panic"] or row["panic_behind"] for row in rows)
    table = Table([column for column in _COLUMNS if panic or column.title != "PANIC"])
    for row in rows:
        generation = str(row["generation"] or "-")
        note = "behind " if row["behind"] else "candidate " if row["candidate"] else ""
        number: Line = [Styled(note, "yellow"), generation] if note else generation
        colour = {"serving": "green", "rejected": "red"}.get(row["state"], "yellow")
        swap = row["swap_ms"]
        table.rows.append(
            (
                bold(row["id"]),
                number,
                Styled(row["state"], colour),
                *((_panic(row),) if panic else ()),
                times.ago(row["last_seen"], now),
                row["host"],
                str(row["pid"]),
                row["engine"],
                "?" if swap is None else f"{swap:.1f}",
                row["error"] or "-",
            )
        )
    return [table]


def _panic(row: Mapping[str, Any]) -> Line:
    """Return the kill switches that an agent obeys."""
    parts = [Styled("not yet", "yellow")] if row["panic_behind"] else []
    if row["panic"]:
        parts.append(Styled(f"{', ' if parts else ''}{obeyed_text(row['panic'])}", "red"))
    return parts or "-"
