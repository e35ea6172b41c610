"""Lines of a live view. No terminal, no store, no clock."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from ratectl.runtime.wording import printable
from ratectl_cli.framework.styled import cell_of, painted, shortened
from ratectl_cli.framework.tables import table_parts
from ratectl_cli.framework.text import Aligned, Styled, bold, dim, lines_of
from ratectl_cli.prompts.live.state import KEYS, position, rows_of
from ratectl_cli.render.hot_keys import hot_keys_table
from ratectl_cli.render.labels import row_label
from ratectl_cli.render.measures import percent_text
from ratectl_cli.render.usage import title_blocks, usage_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ratectl.health.hot_keys import HotKey
    from ratectl.health.usage_report import UsageRow
    from ratectl_cli.framework.screen import Size
    from ratectl_cli.framework.tables import RowLines
    from ratectl_cli.framework.terminal import Stream
    from ratectl_cli.framework.text import Block, Line, Table
    from ratectl_cli.prompts.live.reader import Reading
    from ratectl_cli.prompts.live.state import State

__all__ = ["View", "drawn", "keys_block"]

_MARK: Final = "> "
_PLACE: Final = "  "
_HINTS: Final = "q quit  s sort  / filter  enter open  esc up  k keys  h help"
_LOW: Final = 10
"""Lines of a terminal below which only one line of the title is shown, and no note."""


class View(NamedTuple):
    """Lines of a view, at most as many as the terminal has."""

    lines: list[str]
    page: int
    """Rows that it shows."""


class _Part(NamedTuple):
    """A part of the rows: lines, the positions of the first and of the last row."""

    lines: list[str]
    first: int
    last: int


def drawn(state: State, reading: Reading, stream: Stream, size: Size, now: datetime) -> View:
    """Return what the terminal shows."""
    stream = replace(stream, columns=size.width)
    rows = rows_of(state, reading.report)
    low = size.height < _LOW
    head = _head(state, reading, stream, now, low=low)
    foot = _hints(state, stream)
    room = max(1, size.height - len(head) - 2)
    if state.help:
        body = list(lines_of(stream, [keys_block()]))
        status, page = dim("keys of this view"), state.page
    elif not rows:
        body, status, page = [_nothing(state, reading, stream)], dim("0 rows"), 1
    else:
        part = _rows(state, reading, rows, stream, room, low=low)
        body, page = part.lines, part.last - part.first + 1
        status = _status(state, part, len(rows))
    lines = [*head, *body[:room]]
    lines += [""] * (size.height - 2 - len(lines))
    lines = [*lines[: size.height - 2], _cut(status, stream), foot]
    return View(lines[-size.height :], page)


def keys_block() -> Block:
    """Return what each key does."""
    return Aligned([(bold(keys), text) for keys, text in KEYS])


def _head(state: State, reading: Reading, stream: Stream, now: datetime, *, low: bool) -> list[str]:
    """Return the title, and what is wrong."""
    title = list(lines_of(stream, title_blocks(reading.report, now)))
    problems: list[Line] = []
    if reading.problem is not None:
        problems.append(bold(f"the store cannot be read: {reading.problem}", "red"))
    if reading.warnings:
        more = f" (and {len(reading.warnings) - 1} more)" if len(reading.warnings) > 1 else ""
        problems.append(Styled(f"warning: {reading.warnings[0]}{more}", "yellow"))
    if state.scope != reading.scope:
        problems.append(dim(f"opening {state.scope or 'all scopes'} …"))
    return [*(title[:1] if low else title), *(_cut(line, stream) for line in problems)]


def _rows(
    state: State,
    reading: Reading,
    rows: Sequence[UsageRow] | Sequence[HotKey],
    stream: Stream,
    room: int,
    *,
    low: bool,
) -> _Part:
    """Return the titles of the table and the rows around the selected one."""
    narrower = replace(stream, columns=max(1, (stream.width or 1) - len(_MARK)))
    table = _table(state, reading, rows, narrower)
    at = position(state, rows)
    start = max(0, at - room)
    parts = table_parts(narrower, table, slice(start, at + room))
    head, foot = (parts.head[:1], []) if low else (parts.head, parts.foot)
    head = head if len(head) < room else []
    room = max(1, room - len(head) - len(foot))
    first, last = _window(parts.rows, at - start, max(1, room - bool(table.headings)))
    lines = []
    headings = [key for key in table.headings if key <= start + first]
    if headings and headings[-1] != start + first and room > 1:
        lines.append(_PLACE + _cut(table.headings[headings[-1]], narrower))
    for number in range(first, last + 1):
        heading, row = parts.rows[number]
        lines += [_PLACE + line for line in heading] if room > 1 else []
        mark = _MARK if start + number == at else _PLACE
        lines += [mark + row[0], *(_PLACE + line for line in row[1:])]
    body = [*(_PLACE + line for line in head), *lines[:room], *(_PLACE + line for line in foot)]
    return _Part(body, start + first, start + last)


def _table(
    state: State, reading: Reading, rows: Sequence[UsageRow] | Sequence[HotKey], stream: Stream
) -> Table:
    if state.shows == "keys":
        return hot_keys_table(cast("Sequence[HotKey]", rows), stream)
    limits = cast("Sequence[UsageRow]", rows)
    return usage_table(replace(reading.report, rows=limits, sort=state.sort), stream)


def _window(rows: Sequence[RowLines], at: int, room: int) -> tuple[int, int]:
    """Return the first and the last row that fit around the one at a position."""
    heights = [len(heading) + len(row) for heading, row in rows]
    first = last = at
    left = room - heights[at]
    while True:
        before = first, last
        if last + 1 < len(rows) and heights[last + 1] <= left:
            last += 1
            left -= heights[last]
        if first and heights[first - 1] <= left:
            first -= 1
            left -= heights[first]
        if (first, last) == before:
            return before


def _nothing(state: State, reading: Reading, stream: Stream) -> str:
    if state.filter:
        text = "no row matches the filter"
    elif state.limit is not None:
        text = f"no agent reports a key of {row_label(state.limit)}"
    elif state.shows == "keys":
        text = "no agent reports a key of these limits"
    elif state.near is not None and reading.report.rows:
        text = f"no limit was used {percent_text(state.near)} or more"
    else:
        text = "no agent reports a limit here"
    return _cut(text, stream)


def _status(state: State, part: _Part, count: int) -> Styled:
    shown = f"{part.first + 1}-{part.last + 1} of {count}"
    rows = state.shows if state.limit is None else f"keys of {row_label(state.limit)}"
    parts = [f"{shown} {rows}", f"sort {state.sort}"]
    if state.near is not None and state.shows == "limits":
        parts.append(f"near {percent_text(state.near)}")
    if state.filter:
        parts.append(f"filter {state.filter}")
    return dim(" · ".join(parts))


def _hints(state: State, stream: Stream) -> str:
    if state.typing:
        return _cut([bold("filter: "), printable(state.filter), "_"], stream)
    return _cut(dim(_HINTS), stream)


def _cut(line: Line, stream: Stream) -> str:
    cell = shortened(cell_of(line, stream), stream.width or 1, stream.plain("…"))
    return painted(cell, colour=stream.colour)
