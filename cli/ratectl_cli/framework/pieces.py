"""Pieces of text to print: styled text, lines, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = ["Aligned", "Block", "Column", "Line", "Piece", "Styled", "Table"]


class Styled(NamedTuple):
    """Text and its style: words such as ``bold red``."""

    text: str
    style: str = ""


Piece = str | Styled
Line = Piece | Sequence[Piece]


class Column(NamedTuple):
    """Title of a column, and what may happen to it on a narrow terminal."""

    title: str
    rank: int = 1
    """1 is the most important. The columns of the greatest rank are hidden first, all together."""
    kind: Literal["number", "whole", "text"] = "whole"
    """``number``: aligned at the right, never cut, never wrapped. ``whole``: never cut, but wrapped
    between words and parts of paths. ``text``: shortened with ``…``."""
    least: int = 32
    """Width down to which cells may be shortened or wrapped before columns are hidden."""


@dataclass(slots=True)
class Table:
    """Rows under titles; each row has a cell for every column. The first column is never hidden."""

    columns: Sequence[Column]
    rows: list[Sequence[Line]] = field(default_factory=list)
    headings: dict[int, Line] = field(default_factory=dict)
    """Lines above rows, by position of the row: the rows from there on belong to it."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """Rows in aligned columns without titles. The last cell of a row takes the rest of the line.

    Nothing is shortened or hidden on a narrow terminal: cells are wrapped between words.
    """

    rows: Sequence[Sequence[Line]]
    below: Mapping[int, Sequence[Block]] = field(default_factory=dict)
    """Blocks to print below a row, by its position."""


Block = Line | Table | Aligned
