"""``ratectl agents``."""

from typing import TYPE_CHECKING, Any

import typer

from ratectl_cli.framework.session import session_of
from ratectl_cli.framework.text import Column, Styled, Table, bold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.history.generations import Live
    from ratectl.records import AgentRecord
    from ratectl_cli.framework.text import Block, Line


def agents(ctx: typer.Context) -> int:
    """List agents and what they enforce.

    An agent that stops reporting is forgotten after some fifteen seconds. While a kill switch is
    on, PANIC shows what each obeys of it (see `ratectl panic`).

    Examples:
      ratectl agents
      ratectl agents -o json | jq '.agents[] | select(.behind)'

    Exit codes:
      0   always, if the store answers
      69  store unreachable
    """
    from ratectl.fleet.usage import read_agents, read_beats
    from ratectl.history.generations import read_live
    from ratectl_cli.prompts.kill_switch import known_switches
    from ratectl_cli.render.panic import switch_data

    session = session_of(ctx)
    with session.store() as store:
        live = read_live(store)
        found = read_agents(store, session.warn)
        seen = {record.id: record.reported for record in read_beats(store, session.warn)}
        switches = known_switches(session, store)
    rows = [agent_data(agent, live, seen, switches.sequence) for agent in found]
    data = {
        "generation": live.generation or None,
        "agents": rows,
        "behind": sum(1 for row in rows if row["behind"]),
        "rejected": sum(1 for row in rows if row["state"] == "rejected"),
        "panic": [switch_data(each) for each in switches.on],
    }
    session.answer("Agents", data, lambda: _blocks(rows))
    if not rows:
        session.say("no agent has reported lately: ratectl agent run")
    return 0


def agent_data(
    agent: "AgentRecord", live: "Live", seen: "Mapping[str, str]", switched: int
) -> dict[str, Any]:
    """An agent for programs. Its usage is reported more often than what it enforces.

    ``switched``: the sequence of the kill switch's record.
    """
    from ratectl_cli.render.panic import obeyed_data

    last = max(agent.reported, seen.get(agent.id, ""))
    candidate = live.candidate
    tries = candidate is not None and agent.rollout == candidate.rollout
    return {
        "id": agent.id,
        "generation": agent.generation or None,
        "behind": agent.generation != live.generation and not tries,
        "candidate": tries,
        "state": agent.state,
        "rejected": agent.rejected,
        "error": agent.error,
        "last_seen": last,
        "applied": agent.applied,
        "swap_ms": agent.swap_ms,
        "started": agent.started,
        "host": agent.host,
        "pid": agent.pid,
        "version": agent.version,
        "engine": agent.engine,
        "errors": agent.errors,
        "panic": obeyed_data(agent),
        "panic_behind": agent.panic_sequence < switched,
    }


def _blocks(rows: "Sequence[Mapping[str, Any]]") -> "list[Block]":
    from ratectl_cli.render import times

    if not rows:
        return []
    titles: tuple[str, ...] = (
        "AGENT", "GENERATION", "STATE", "LAST SEEN", "HOST", "PID", "ENGINE", "SWAP MS", "ERROR"
    )  # fmt: skip
    right = ("GENERATION", "PID", "SWAP MS")
    free = ("AGENT", "HOST", "PANIC", "ERROR")
    panic = any(row["panic"] or row["panic_behind"] for row in rows)
    if panic:
        titles = (*titles[:3], "PANIC", *titles[3:])
    table = Table([Column(title, title in right, title in free) for title in titles])
    at = times.now()
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
                times.ago(row["last_seen"], at),
                row["host"],
                str(row["pid"]),
                row["engine"],
                "?" if swap is None else f"{swap:.1f}",
                row["error"] or "-",
            )
        )
    return [table]


def _panic(row: "Mapping[str, Any]") -> "Line":
    """What an agent obeys of kill switches."""
    from ratectl_cli.render.panic import obeyed_text

    said = [Styled("not yet", "yellow")] if row["panic_behind"] else []
    if row["panic"]:
        said.append(Styled(f"{', ' if said else ''}{obeyed_text(row['panic'])}", "red"))
    return said or "-"


__all__ = ["agent_data", "agents"]
