"""Text to print: styled pieces, lines and tables, independent of the output stream.

On a terminal a table is drawn by Rich; in a pipe it is plain aligned text, never cut, so that
tools can read it. Every piece is made safe when it is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl_cli.framework.pieces import Block, Column, Line, Piece, Styled, Table
from ratectl_cli.framework.terminal import cells, pad, safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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


_CODES: Final = {
    "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36",
}  # fmt: skip


def bold(text: object, colour: str = "") -> Styled:
    """Return important text."""
    return Styled(str(text), f"bold {colour}".strip())


def dim(text: object) -> Styled:
    """Return less important text."""
    return Styled(str(text), "dim")


def plural(count: int, noun: str) -> str:
    """Return ``1 scope``, ``2 scopes``, ``0 matches``."""
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
        from ratectl_cli.framework.drawing import draw_table

        draw_table(stream, table.columns, [[_pieces(cell) for cell in row] for row in table.rows])
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


def aligned(rows: Sequence[Sequence[Piece]], gap: str = "  ") -> list[Line]:
    """Return rows of pieces as lines with aligned columns; the last column is not padded."""
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
