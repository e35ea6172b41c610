"""Agents that were waited for after a change, as text and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.runtime.wording import listed
from ratectl_cli.framework.text import bold, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.fleet.convergence import Outcome, Standing
    from ratectl_cli.framework.text import Block

__all__ = ["Waited", "agents_blocks", "agents_data"]

_NAMED: Final = 10


class Waited(NamedTuple):
    """Result of waiting for agents: how they stand, and seconds that were allowed."""

    outcome: Outcome
    standing: Standing
    seconds: float


def agents_data(waited: Waited | None) -> dict[str, Any] | None:
    """Return the agents for programs; None if none were waited for."""
    if waited is None:
        return None
    standing = waited.standing
    return {
        "outcome": waited.outcome,
        "running": [agent.id for agent in standing.running],
        "rejected": [{"id": agent.id, "error": agent.error} for agent in standing.rejected],
        "behind": [{"id": agent.id, "generation": agent.generation} for agent in standing.behind],
    }


def agents_blocks(waited: Waited | None) -> Iterator[Block]:
    """Yield the agents for people; nothing if none were waited for."""
    if waited is None:
        return
    standing = waited.standing
    if waited.outcome == "nobody":
        yield [bold("no agent is running: agents enforce it when they start", "yellow")]
        return
    after = f" after {waited.seconds:.0f} s" if waited.outcome == "timeout" else ""
    yield f"it runs in {len(standing.running)} of {plural(standing.there, 'agent')}{after}"
    for agent in standing.rejected:
        yield [bold("rejected ", "red"), f"by {agent.id}: {agent.error}"]
    if waited.outcome == "timeout":
        behind = [f"{agent.id} (generation {agent.generation})" for agent in standing.behind]
        yield f"not yet: {listed(behind, _NAMED)}"
