"""Text to show, before it is known where: styled pieces, lines and tables.

On a terminal a table is drawn by Rich; in a pipe it is plain aligned text, whole whatever its
width, so that tools can read it. Every piece is made safe on its way out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl_cli.framework.terminal import cells, pad, safe

if TYPE_CHECKING:
    from ratectl_cli.framework.terminal import Stream

__all__ = [
    "Block",
    "Column",
    "Line",
    "Piece",
    "Styled",
    "Table",
    "aligned",
    "bold",
    "dim",
    "plural",
    "show",
]


class Styled(NamedTuple):
    """Text and how it looks: words such as ``bold red``."""

    text: str
    style: str = ""


Piece = str | Styled
Line = Piece | Sequence[Piece]

_CODES: Final = {
    "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36",
}  # fmt: skip


class Column(NamedTuple):
    """A column's title; numbers read better on the right, free text may be wrapped."""

    title: str
    right: bool = False
    wraps: bool = False


@dataclass(slots=True)
class Table:
    """Rows under titles."""

    columns: Sequence[Column]
    rows: list[Sequence[Line]] = field(default_factory=list)


Block = Line | Table


def bold(text: object, colour: str = "") -> Styled:
    """Text that matters."""
    return Styled(str(text), f"bold {colour}".strip())


def dim(text: object) -> Styled:
    """Text that can be passed over."""
    return Styled(str(text), "dim")


def plural(count: int, noun: str) -> str:
    """``1 scope``, ``2 scopes``, ``0 matches``."""
    ending = "" if count == 1 else "es" if noun.endswith(("ch", "s")) else "s"
    return f"{count} {noun}{ending}"


def show(stream: Stream, blocks: Iterable[Block]) -> None:
    """Write lines and tables."""
    for block in blocks:
        if isinstance(block, Table):
            _show_table(stream, block)
        else:
            stream.write(_painted(_pieces(block), stream.colour).rstrip(" ") + "\n")


def _pieces(line: Line) -> list[Styled]:
    parts: Sequence[Piece] = [line] if isinstance(line, (str, Styled)) else line
    return [
        Styled(safe(part.text), part.style) if isinstance(part, Styled) else Styled(safe(part))
        for part in parts
    ]


def _painted(pieces: Iterable[Styled], colour: bool) -> str:
    return "".join(_paint(piece) if colour and piece.style else piece.text for piece in pieces)


def _paint(piece: Styled) -> str:
    codes = ";".join(_CODES[word] for word in piece.style.split())
    return f"\x1b[{codes}m{piece.text}\x1b[0m" if piece.text else ""


def _show_table(stream: Stream, table: Table) -> None:
    if stream.terminal:
        _draw(stream, table)
        return
    titles = [_pieces(bold(column.title)) for column in table.columns]
    rows = [titles, *([_pieces(cell) for cell in row] for row in table.rows)]
    plain = [["".join(piece.text for piece in cell) for cell in row] for row in rows]
    widths = [max(cells(row[at]) for row in plain) for at in range(len(table.columns))]
    for row, texts in zip(rows, plain, strict=True):
        parts = []
        for at, column in enumerate(table.columns):
            space = " " * (widths[at] - cells(texts[at]))
            painted = _painted(row[at], stream.colour)
            parts.append(space + painted if column.right else painted + space)
        stream.write("  ".join(parts).rstrip(" ") + "\n")


def _draw(stream: Stream, table: Table) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(
        file=stream.file,
        force_terminal=True,
        no_color=not stream.colour,
        color_system="standard" if stream.colour else None,
        highlight=False,
        width=stream.width,
    )
    drawn = RichTable(
        box=box.SIMPLE_HEAD if stream.symbols else box.ASCII2,
        header_style="bold",
        pad_edge=False,
        show_edge=False,
    )
    for column in table.columns:
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=not column.wraps,
        )
    for row in table.rows:
        drawn.add_row(*(Text.assemble(*_pieces(cell)) for cell in row))
    console.print(drawn)


def aligned(rows: Sequence[Sequence[Piece]], gap: str = "  ") -> list[Line]:
    """Rows of pieces as lines whose columns line up; the last column is never padded."""
    count = max((len(row) for row in rows), default=0)
    widths = [
        max((cells(safe(_text(row[at]))) for row in rows if len(row) > at + 1), default=0)
        for at in range(count)
    ]
    return [
        [piece for at, cell in enumerate(row) for piece in _cell(cell, widths[at], gap)]
        for row in rows
    ]


def _text(piece: Piece) -> str:
    return piece.text if isinstance(piece, Styled) else piece


def _cell(piece: Piece, width: int, gap: str) -> list[Piece]:
    text = safe(_text(piece))
    space = pad(text, width)[len(text) :] + gap
    return [Styled(text, piece.style) if isinstance(piece, Styled) else text, space]
