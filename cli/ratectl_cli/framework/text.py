"""Text to print: styled pieces, lines and tables, independent of the output stream.

On a terminal, tables are as wide as it is at most; in a pipe nothing is cut, so that tools can read
it. Every piece is made safe when it is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl_cli.framework.pieces import Aligned, Block, Column, Line, Piece, Styled, Table
from ratectl_cli.framework.styled import cell_of, painted
from ratectl_cli.framework.tables import aligned_lines, table_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ratectl_cli.framework.terminal import Stream

__all__ = [
    "Aligned",
    "Block",
    "Column",
    "Line",
    "Piece",
    "Styled",
    "Table",
    "bold",
    "dim",
    "lines_of",
    "paragraph",
    "plural",
    "show",
]


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
    for line in lines_of(stream, blocks):
        stream.write(line + "\n")


def lines_of(stream: Stream, blocks: Iterable[Block]) -> Iterator[str]:
    """Yield the lines of blocks as they are written to the stream."""
    for block in blocks:
        if isinstance(block, Table):
            yield from table_lines(stream, block)
        elif isinstance(block, Aligned):
            for at, lines in enumerate(aligned_lines(stream, block)):
                yield from lines
                yield from lines_of(stream, block.below.get(at, ()))
        else:
            text = painted(cell_of(block, stream), colour=stream.colour)
            yield text.rstrip(" ")


def paragraph(line: Line) -> Aligned:
    """Return a text that is wrapped between words on a terminal."""
    return Aligned([[line]])
