"""Sentences about kill switches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.runtime.times import ago

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ratectl.kill_switch.switches import Switch
    from ratectl.records import AgentRecord

__all__ = ["by_files", "switch_text"]


def switch_text(switch: Switch, at: datetime) -> str:
    """Return ``limits are open at and below /a: INC-42 (Ada, 3 min ago)``; ``at`` is now."""
    who = switch.author.partition(" <")[0]
    mode = "open" if switch.mode == "open" else "in shadow"
    since = ago(switch.time, at)
    return f"limits are {mode} at and below {switch.scope}: {switch.reason} ({who}, {since})"


def by_files(agents: Sequence[AgentRecord]) -> Iterator[tuple[str, str]]:
    """Yield the id of each agent that obeys a file, and the switches in it as text."""
    for agent in agents:
        own = [f"{obeyed.mode} {obeyed.scope}" for obeyed in agent.panic if obeyed.source == "file"]
        if own:
            yield agent.id, ", ".join(own)
