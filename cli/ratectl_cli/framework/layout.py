"""Widths of the columns of a table, and the columns that a narrow terminal has no room for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl_cli.framework.styled import longest_part, longest_word, width_of
from ratectl_cli.framework.terminal import cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl_cli.framework.pieces import Column
    from ratectl_cli.framework.styled import Cell

__all__ = ["GAP", "LAST_CELL", "Layout", "aligned_widths", "table_layout"]

GAP: Final = 2
"""Spaces between columns."""

_LONG_WORD: Final = 32
"""Columns are hidden so that no part of a word is divided, up to this length."""

LAST_CELL: Final = 28
"""Columns that the last cell of an aligned row gets at least, if there are as many."""

_SHORT_WORD: Final = 16
"""A last cell of one word that is no longer than this stays beside its row."""


class Layout(NamedTuple):
    """Columns that are shown, by position, and their widths; titles of those that are hidden."""

    widths: dict[int, int]
    hidden: list[str]


class _Size(NamedTuple):
    """Widths that a column may have."""

    full: int
    """Width at which nothing is shortened or wrapped."""
    least: int
    """Width below which other columns are hidden instead."""


def table_layout(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None
) -> Layout:
    """Return the widths at which a table fits; ``width`` is None if there is no bound.

    Texts are shortened first, then other cells are wrapped, then columns are hidden.
    """
    full = [
        max([cells(column.title), *(width_of(row[at]) for row in rows)])
        for at, column in enumerate(columns)
    ]
    if width is None or sum(full) <= _room(width, len(full)):
        return Layout(dict(enumerate(full)), [])
    sizes = [
        _size(column, full[at], [row[at] for row in rows]) for at, column in enumerate(columns)
    ]
    shown = list(range(len(columns)))
    while len(shown) > 1 and sum(sizes[at].least for at in shown) > _room(width, len(shown)):
        last = max(columns[at].rank for at in shown[1:])
        shown = [at for at in shown if not at or columns[at].rank < last]
    hidden = [column.title for at, column in enumerate(columns) if at not in shown]
    return Layout(_spread(columns, sizes, shown, _room(width, len(shown))), hidden)


def _size(column: Column, full: int, cells_: Sequence[Cell]) -> _Size:
    if column.kind == "number":
        return _Size(full, full)
    least = min(full, max(column.least, cells(column.title)))
    if column.kind == "text":
        return _Size(full, least)
    parts = max((longest_part(cell) for cell in cells_ if width_of(cell) > least), default=0)
    return _Size(full, max(least, min(parts, _LONG_WORD)))


def _room(width: int, columns: int) -> int:
    return width - GAP * (columns - 1)


def _spread(
    columns: Sequence[Column], sizes: Sequence[_Size], shown: Sequence[int], room: int
) -> dict[int, int]:
    """Return widths that add up to at most ``room``, if numbers allow it."""
    widths = {
        at: sizes[at].full if columns[at].kind == "number" else min(sizes[at].full, room)
        for at in shown
    }
    for kind in ("text", "whole"):
        bounds = {at: sizes[at].least for at in shown if columns[at].kind == kind}
        _narrow(widths, bounds, room)
    others = {at: 1 for at in shown if columns[at].kind != "number"}
    _narrow(widths, others, room)  # the first column alone does not fit
    return widths


def aligned_widths(rows: Sequence[Sequence[Cell]], width: int | None) -> list[int] | None:
    """Return the widths of all columns but each row's last cell, which takes the rest of a line.

    None: there is no room for columns.
    """
    count = max((len(row) for row in rows), default=0)
    columns = [[row[at] for row in rows if len(row) > at + 1] for at in range(count)]
    widths = {at: max(map(width_of, column), default=0) for at, column in enumerate(columns)}
    if width is not None and count > 1:
        texts = [row[-1] for row in rows if len(row) == count]
        # A single long word that does not fit goes below its row instead; see ``tables``.
        last = max((width_of(text) for text in texts if not _is_long_word(text)), default=0)
        room = _room(width, count) - min(last, LAST_CELL)
        if sum(widths.values()) > room:
            parts = [max(map(longest_part, column), default=0) for column in columns]
            widths = {at: min(full, max(room, parts[at])) for at, full in widths.items()}
            _narrow(widths, dict(enumerate(parts)), room)
        if sum(widths.values()) > room:
            return None
    return list(widths.values())


def _is_long_word(cell: Cell) -> bool:
    return _SHORT_WORD < width_of(cell) == longest_word(cell)


def _narrow(widths: dict[int, int], bounds: dict[int, int], room: int) -> None:
    """Make the widest columns narrower, down to their bounds, until all fit into ``room``."""
    while sum(widths.values()) > room:
        wide = [at for at, bound in bounds.items() if widths[at] > bound]
        if not wide:
            return
        widths[max(wide, key=lambda at: widths[at])] -= 1
