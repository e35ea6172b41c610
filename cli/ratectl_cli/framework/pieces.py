"""Pieces of text to print: styled text, lines, tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Block", "Column", "Line", "Piece", "Styled", "Table"]


class Styled(NamedTuple):
    """Text and its style: words such as ``bold red``."""

    text: str
    style: str = ""


Piece = str | Styled
Line = Piece | Sequence[Piece]


class Column(NamedTuple):
    """Title of a column, and its alignment; columns of free text may wrap."""

    title: str
    right: bool = False
    wraps: bool = False


@dataclass(slots=True)
class Table:
    """Rows under titles."""

    columns: Sequence[Column]
    rows: list[Sequence[Line]] = field(default_factory=list)


Block = Line | Table
