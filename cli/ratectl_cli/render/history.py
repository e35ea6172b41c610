"""Generations of the history, as text and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl_cli.framework.text import Column, Styled, Table, bold
from ratectl_cli.render import times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ratectl.records import HistoryEntry
    from ratectl_cli.framework.text import Block, Line

__all__ = ["action_text", "commit_text", "entry_data", "history_blocks", "message_text"]

_COLUMNS: Final = (
    Column("GENERATION", 1, "number"),
    Column("TIME", 2),
    Column("AUTHOR", 5, "text", least=10),
    Column("COMMIT", 7),
    Column("ACTION", 3, least=16),
    Column("CHANGE", 6),
    Column("MESSAGE", 4, "text", least=24),
)


def entry_data(entry: HistoryEntry, *, live: int) -> dict[str, Any]:
    """Return a history entry for programs; ``live`` is the number of the live generation."""
    return {
        "generation": entry.generation,
        "live": entry.generation == live,
        "time": entry.time,
        "author": entry.author,
        "action": entry.action,
        "set": entry.set,
        "rollback_of": entry.rollback_of,
        "message": entry.message,
        "commit": entry.commit,
        "dirty": entry.dirty,
        "summary": entry.summary,
        "passed": entry.passed,
        "bundle": entry.bundle,
    }


def commit_text(entry: HistoryEntry) -> str:
    """Return a short commit such as ``3f2a1bc9d0+``; the + means that the files differed."""
    return f"{entry.commit[:10]}{'+' if entry.dirty else ''}" if entry.commit else "-"


def action_text(entry: HistoryEntry) -> str:
    """Return ``apply``, ``apply of payments`` for a set, or ``rollback to 411``."""
    if entry.rollback_of:
        return f"{entry.action} to {entry.rollback_of}"
    return f"{entry.action} of {entry.set}" if entry.set else entry.action


def message_text(entry: HistoryEntry) -> str:
    """Return the message, and each guard that was passed with its reason."""
    passed = [f"passed {guard}: {reason}" for guard, reason in sorted(entry.passed.items())]
    return "; ".join(filter(None, (entry.message, *passed)))


def history_blocks(
    entries: Sequence[HistoryEntry], live: int, rollouts: Mapping[int, str], now: datetime
) -> list[Block]:
    """Return a table of generations; ``rollouts`` is the state of a rollout by generation."""
    if not entries:
        return []
    table = Table(_COLUMNS)
    for entry in entries:
        number: Line = str(entry.generation)
        if entry.generation == live:
            number = [bold("* ", "green"), bold(entry.generation, "green")]
        table.rows.append(
            (
                number,
                times.ago(entry.time, now),
                entry.author.partition(" <")[0],
                commit_text(entry),
                ", ".join(filter(None, (action_text(entry), rollouts.get(entry.generation)))),
                _summary(entry),
                message_text(entry),
            )
        )
    return [table]


def _summary(entry: HistoryEntry) -> Line:
    signs = (("added", "+", "green"), ("removed", "-", "red"), ("changed", "~", "yellow"))
    parts: list[Styled] = []
    for name, sign, colour in signs:
        number = entry.summary.get(name)
        if number:
            parts.append(Styled(f"{' ' if parts else ''}{sign}{number}", colour))
    return parts or "-"
