"""Busiest and most refused keys as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.health.hot_keys import keys_of
from ratectl_cli.framework.text import Column, Styled, Table, bold
from ratectl_cli.render.labels import row_label
from ratectl_cli.render.measures import count_text, used_cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.health.hot_keys import HotKey
    from ratectl.health.usage_report import UsageRow
    from ratectl_cli.framework.terminal import Stream
    from ratectl_cli.framework.text import Line

__all__ = ["INDENT", "hot_keys_table", "keys_of_limits_table"]

INDENT: Final = "  "
"""Spaces before rows that stand below a heading."""

_KEY: Final = Column("KEY", 1, "text", least=16)
_LIMIT: Final = Column("LIMIT", 5, least=20)
_SCOPE: Final = Column("SCOPE", 6)
_NUMBERS: Final = (
    Column("REQUESTS", 2, "number"),
    Column("SHARE", 7, "number"),
    Column("REFUSED", 3, "number"),
    Column("USED", 4, "number"),
)


def hot_keys_table(keys: Sequence[HotKey], stream: Stream) -> Table:
    """Return the table of the hottest keys of all limits."""
    table = Table([_KEY, _LIMIT, _SCOPE, *_NUMBERS])
    table.rows.extend(
        [key.key, row_label(key.row), key.row.scope, *_numbers(key, stream)] for key in keys
    )
    return table


def keys_of_limits_table(rows: Sequence[UsageRow], stream: Stream, most: int) -> Table:
    """Return the table of the keys of each limit; on a terminal the limits are headings."""
    grouped = stream.terminal
    table = Table([_KEY, *_NUMBERS] if grouped else [_SCOPE, _LIMIT, _KEY, *_NUMBERS])
    for row in rows:
        keys = keys_of(row, most)
        label = row_label(row)
        if grouped and keys:
            table.headings[len(table.rows)] = bold(f"{label} @ {row.scope}", "cyan")
        where: list[Line] = [] if grouped else [row.scope, label]
        indent = INDENT if grouped else ""
        table.rows.extend([*where, indent + key.key, *_numbers(key, stream)] for key in keys)
    return table


def _numbers(key: HotKey, stream: Stream) -> list[Line]:
    refused = key.refused
    return [
        count_text(key.requests),
        "?" if key.share is None else f"{key.share:.0%}",
        Styled(count_text(refused), "red" if refused and refused.value else ""),
        used_cell(key.used, stream),
    ]
