"""Lines of tables and of aligned rows, as wide as the terminal at most.

Every table of every command is drawn here. In a pipe nothing is shortened, wrapped or hidden.
"""

from __future__ import annotations

from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl_cli.framework.layout import GAP, LAST_CELL, aligned_widths, table_layout
from ratectl_cli.framework.pieces import Styled
from ratectl_cli.framework.styled import (
    cell_of,
    longest_word,
    painted,
    shortened,
    width_of,
    wrapped,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl_cli.framework.layout import Layout
    from ratectl_cli.framework.pieces import Aligned, Column, Table
    from ratectl_cli.framework.styled import Cell
    from ratectl_cli.framework.terminal import Stream

__all__ = ["RowLines", "TableParts", "aligned_lines", "table_lines", "table_parts"]

_INDENT: Final = " " * 4
_ALL: Final = slice(None)


class RowLines(NamedTuple):
    """Lines of a row, and of the heading above it."""

    heading: list[str]
    row: list[str]


class TableParts(NamedTuple):
    """Lines of a table: its titles, its rows, and the note below."""

    head: list[str]
    rows: list[RowLines]
    foot: list[str]


def table_lines(stream: Stream, table: Table) -> Iterator[str]:
    """Yield the lines of a table, and a note about columns that are hidden."""
    parts = table_parts(stream, table)
    yield from parts.head
    for heading, row in parts.rows:
        yield from chain(heading, row)
    yield from parts.foot


def table_parts(stream: Stream, table: Table, shown: slice = _ALL) -> TableParts:
    """Return the lines of a table; ``shown``: rows to draw, in columns as wide as all rows need."""
    titles = [[Styled(stream.plain(column.title), "bold")] for column in table.columns]
    rows = [[cell_of(line, stream) for line in row] for row in table.rows]
    layout = table_layout(table.columns, rows, stream.width)
    head = list(_row_lines(stream, table.columns, layout, titles))
    if stream.terminal:
        width = sum(layout.widths.values()) + GAP * (len(layout.widths) - 1)
        head.append(stream.plain("─") * width)
    drawn = []
    for at, row in list(enumerate(rows))[shown]:
        heading = [cell_of(table.headings[at], stream)] if at in table.headings else []
        above = _flowing(stream, heading) if heading else []
        drawn.append(RowLines(above, list(_row_lines(stream, table.columns, layout, row))))
    return TableParts(head, drawn, _hidden_note(stream, layout))


def _hidden_note(stream: Stream, layout: Layout) -> list[str]:
    if not layout.hidden:
        return []
    note = f"hidden: {', '.join(layout.hidden)} (in a wider terminal, or -o json)"
    return _flowing(stream, [[Styled(stream.plain(note), "dim")]])


def _row_lines(
    stream: Stream, columns: Sequence[Column], layout: Layout, row: Sequence[Cell]
) -> Iterator[str]:
    """Yield the lines of one row: more than one if cells are wrapped."""
    mark = stream.plain("…")
    fitted: list[list[Cell]] = []
    for at, width in layout.widths.items():
        short = columns[at].kind == "text"
        fitted.append([shortened(row[at], width, mark)] if short else wrapped(row[at], width))
    rights = [columns[at].kind == "number" for at in layout.widths]
    for line in zip_longest(*fitted, fillvalue=()):
        yield _line(stream, line, list(layout.widths.values()), rights)


def _line(
    stream: Stream, cells: Sequence[Cell], widths: Sequence[int], rights: Sequence[bool]
) -> str:
    parts = []
    for cell, width, right in zip(cells, widths, rights, strict=True):
        space = " " * (width - width_of(cell))
        text = painted(cell, colour=stream.colour)
        parts.append(space + text if right else text + space)
    return (" " * GAP).join(parts).rstrip(" ")


def aligned_lines(stream: Stream, block: Aligned) -> Iterator[list[str]]:
    """Yield the lines of each row."""
    rows = [[cell_of(line, stream) for line in row] for row in block.rows]
    widths = aligned_widths(rows, stream.width)
    for row in rows:
        if not row:
            yield [""]
        elif widths is None or len(row) == 1:
            yield _flowing(stream, row)
        else:
            yield _aligned_row(stream, row, widths[: len(row) - 1])


def _aligned_row(stream: Stream, row: Sequence[Cell], heads: Sequence[int]) -> list[str]:
    width = stream.width
    if width is None:
        return _side_by_side(stream, row, [*heads, width_of(row[-1])])
    *first, last = row
    word = longest_word(last)
    needs = word if word <= width else min(LAST_CELL, width)
    start = max(at for at in range(len(row)) if not at or _start(heads, at) + needs <= width)
    rest = max(1, width - _start(heads, start))
    if start == len(heads):
        return _side_by_side(stream, row, [*heads, rest])
    space = " " * _start(heads, start)  # for a long word, such as the path of a file
    below = [space + painted(line, colour=stream.colour) for line in wrapped(last, rest)]
    return [line for line in _side_by_side(stream, first, heads) if line] + below


def _start(heads: Sequence[int], at: int) -> int:
    """Return the column of the terminal where the cell at a position starts."""
    return sum(heads[:at]) + GAP * at


def _side_by_side(stream: Stream, row: Sequence[Cell], widths: Sequence[int]) -> list[str]:
    fitted = [wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
    lefts = [False] * len(row)
    return [_line(stream, line, widths, lefts) for line in zip_longest(*fitted, fillvalue=())]


def _flowing(stream: Stream, row: Sequence[Cell]) -> list[str]:
    """Return a row as running text: it has one cell, or there is no room for columns."""
    filled = [cell for cell in row if "".join(piece.text for piece in cell).strip()]
    gap = Styled(" " * GAP)
    text = [piece for cell in filled for piece in (gap, *cell)][1:]
    starts = _INDENT if filled and filled[0] is not row[0] else ""
    width = width_of(text)
    if stream.width is not None and width + len(starts) > stream.width:
        width = max(1, stream.width - len(_INDENT))
    lines = [painted(line, colour=stream.colour) for line in wrapped(text, width)]
    return [f"{_INDENT if at else starts}{line}".rstrip(" ") for at, line in enumerate(lines)]
