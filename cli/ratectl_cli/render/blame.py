"""The generations that last changed the values at a scope, as text and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl_cli.framework.text import Column, Table, bold
from ratectl_cli.render import times
from ratectl_cli.render.history import action_text, commit_text, message_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ratectl.history.blame import Blamed

__all__ = ["blame_data", "blame_table"]

_COLUMNS: Final = (
    Column("LIMIT", least=20),
    Column("FIELD", 2),
    Column("VALUE", 3),
    Column("GENERATION", 4, "number"),
    Column("TIME", 6),
    Column("AUTHOR", 7, "text", least=10),
    Column("COMMIT", 8),
    Column("CHANGE", 5, "text", least=16),
)


def blame_data(values: Sequence[Blamed]) -> list[dict[str, Any]]:
    """Return each value with its generation, for programs."""
    return [
        {
            "limit": blamed.limit,
            "field": blamed.field,
            "value": blamed.value,
            "condition": blamed.condition,
            "generation": blamed.entry.generation,
            "certain": blamed.certain,
            "time": blamed.entry.time,
            "author": blamed.entry.author,
            "commit": blamed.entry.commit,
            "message": blamed.entry.message,
        }
        for blamed in values
    ]


def blame_table(values: Sequence[Blamed], now: datetime) -> Table:
    """Return each value with its generation, for people; ``≤ 7`` is generation 7 or an earlier."""
    table = Table(_COLUMNS)
    last = ""
    for blamed in values:
        entry, name = blamed.entry, blamed.limit or "-"
        table.rows.append(
            (
                bold(name) if name != last else "",
                blamed.field,
                f"{blamed.value} by {blamed.condition}" if blamed.condition else blamed.value,
                f"{'' if blamed.certain else '≤ '}{entry.generation}",
                times.ago(entry.time, now),
                entry.author.partition(" <")[0],
                commit_text(entry),
                message_text(entry) or action_text(entry),
            )
        )
        last = name
    return table
