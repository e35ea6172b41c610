"""One cell of a table as styled pieces of safe text: measured, shortened, wrapped, painted."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from ratectl.runtime.wording import printable
from ratectl_cli.framework.pieces import Styled
from ratectl_cli.framework.terminal import cells, clusters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ratectl_cli.framework.pieces import Line, Piece
    from ratectl_cli.framework.terminal import Stream

    Cell = Sequence[Styled]

__all__ = ["cell_of", "longest_part", "longest_word", "painted", "shortened", "width_of", "wrapped"]

_CODES: Final = {
    "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36",
}  # fmt: skip

_SEPARATORS: Final = "/,;=|-_."
"""Characters after which a long word without spaces may go on in the next line."""


def cell_of(line: Line, stream: Stream) -> list[Styled]:
    """Return a line as pieces that are safe to show, in characters that the stream has."""
    parts: Sequence[Piece] = [line] if isinstance(line, (str, Styled)) else line
    styled = (part if isinstance(part, Styled) else Styled(part) for part in parts)
    return [Styled(stream.plain(printable(part.text)), part.style) for part in styled]


def width_of(cell: Cell) -> int:
    """Return the columns that a cell takes on a terminal."""
    return sum(cells(piece.text) for piece in cell)


def painted(cell: Cell, *, colour: bool) -> str:
    """Return the text of a cell, with its colours or without."""
    return "".join(_paint(piece) if colour and piece.style else piece.text for piece in cell)


def _paint(piece: Styled) -> str:
    codes = ";".join(_CODES[word] for word in piece.style.split())
    return f"\x1b[{codes}m{piece.text}\x1b[0m" if piece.text else ""


# Shortening -------------------------------------------------------------------------------------


def shortened(cell: Cell, width: int, mark: str) -> Cell:
    """Return a cell that takes at most ``width`` columns; ``mark`` stands for what is left out.

    The end is between words if that keeps half of the width, and never inside a number.
    """
    if width_of(cell) <= width:
        return cell
    letters = _letters(cell)
    end = room = 0
    for letter in letters:
        room += cells(letter.text)
        if room > width - cells(mark):
            break
        end += 1
    kept = letters[: _good_end([letter.text for letter in letters], end)]
    style = kept[-1].style if kept else letters[0].style
    return [*_joined(kept), Styled(mark, style)]


def _good_end(letters: Sequence[str], end: int) -> int:
    """Return the best place for an end at or before ``end``."""
    between = next((at for at in range(end, 0, -1) if " " in (letters[at], letters[at - 1])), 0)
    if between * 2 < end:
        between = end
        while between and letters[between - 1].isdigit() and _in_number(letters[between]):
            between -= 1
    while between and letters[between - 1] == " ":
        between -= 1
    return between


def _in_number(letter: str) -> bool:
    return letter.isdigit() or letter in ".,_%"


# Wrapping ---------------------------------------------------------------------------------------


def longest_word(cell: Cell) -> int:
    """Return the width of the widest word."""
    return max(map(width_of, _words(cell)), default=0)


def longest_part(cell: Cell) -> int:
    """Return the width of the widest part that is not wrapped if there is room for it."""
    return max((width_of(part) for word in _words(cell) for part in _parts(word)), default=0)


def wrapped(cell: Cell, width: int) -> list[Cell]:
    """Return the lines of a cell, of at most ``width`` columns each.

    Words that are longer than a line are divided at separators, such as the ``/`` of a scope.
    """
    if width_of(cell) <= width:
        return [cell]
    lines: list[list[Styled]] = [[]]
    used = 0
    for word in _words(cell):
        room = width_of(word)
        if used + room <= width:
            lines[-1] += word
            used += room
        elif _is_space(word):
            lines.append([])
            used = 0
        else:
            for chunk in _chunks(word, width):
                if used and used + width_of(chunk) > width:
                    lines.append([])
                    used = 0
                lines[-1] += chunk
                used += width_of(chunk)
    return [_joined(line) for line in map(_stripped, lines) if line] or [[]]


def _chunks(word: Cell, width: int) -> Iterator[Cell]:
    """Yield the word, in parts if it is longer than a line, and these in letters if needed."""
    if width_of(word) <= width:
        yield word
        return
    for part in _parts(word):
        if width_of(part) <= width:
            yield part
        else:
            yield from ([letter] for letter in part)


def _words(cell: Cell) -> Iterator[list[Styled]]:
    """Yield words and the spaces between them, as letters."""
    for _, letters in groupby(_letters(cell), lambda letter: letter.text == " "):
        yield list(letters)


def _parts(word: Cell) -> Iterator[list[Styled]]:
    """Yield the parts of a word, each with the separator at its end. Numbers are not divided."""
    part: list[Styled] = []
    for at, letter in enumerate(word):
        part.append(letter)
        around = [other.text for other in (*word[at - 1 : at], *word[at + 1 : at + 2])]
        in_number = len(around) == 2 and all(text.isdigit() for text in around)
        if letter.text in _SEPARATORS and len(part) > 1 and not in_number:
            yield part
            part = []
    if part:
        yield part


def _stripped(line: list[Styled]) -> list[Styled]:
    end = len(line)
    while end and line[end - 1].text == " ":
        end -= 1
    return line[:end]


def _is_space(word: Cell) -> bool:
    return word[0].text == " "


def _letters(cell: Cell) -> list[Styled]:
    """Return a cell in pieces of one letter, with the marks that combine with it."""
    return [Styled(text, piece.style) for piece in cell for text, _ in clusters(piece.text)]


def _joined(letters: Iterable[Styled]) -> list[Styled]:
    """Return pieces that are as long as their style allows."""
    return [
        Styled("".join(letter.text for letter in group), style)
        for style, group in groupby(letters, lambda letter: letter.style)
    ]
