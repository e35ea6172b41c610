"""Findings about policy files: the place, the line, what is wrong with it, how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl_cli.framework.terminal import cells
from ratectl_cli.framework.text import Styled, bold, dim, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ratectl.diagnostics import Diagnostic, Span
    from ratectl_cli.framework.terminal import Stream
    from ratectl_cli.framework.text import Block

__all__ = ["count", "diagnostic_blocks", "diagnostic_data", "place_blocks", "tally"]

_COLOURS: Final = {"error": "red", "warning": "yellow"}
_LONGEST_LINE: Final = 160
_BEFORE: Final = 60
_MOST: Final = 100


def diagnostic_blocks(
    found: Sequence[Diagnostic], stream: Stream, *, unfold: bool = False
) -> Iterator[Block]:
    """Each finding with its source line, separated by empty lines.

    Of very many only the first are shown, errors before warnings; ``unfold`` shows all.
    """
    shown = found
    if len(found) > _MOST and not unfold:
        shown = sorted(found, key=lambda each: each.severity != "error")[:_MOST]
    for each in shown:
        yield from _one(each, stream)
        yield ""
    if len(shown) < len(found):
        yield f"and {len(found) - len(shown)} more: -v shows them, -o json holds them"
        yield ""


def count(found: Iterable[Diagnostic], severity: str) -> int:
    """How many findings are of one severity."""
    return sum(1 for each in found if each.severity == severity)


def tally(found: Sequence[Diagnostic]) -> str:
    """``2 errors and 1 warning``."""
    errors, warnings = count(found, "error"), count(found, "warning")
    parts = [plural(errors, "error")] if errors else []
    parts += [plural(warnings, "warning")] if warnings else []
    return " and ".join(parts) or "no findings"


def diagnostic_data(found: Diagnostic) -> dict[str, Any]:
    """A finding for programs."""
    span = found.span
    return {
        "code": found.code,
        "severity": found.severity,
        "message": found.message,
        "file": span.file,
        "line": span.line or None,
        "column": span.column or None,
        "end_column": span.end_column or None,
        "hint": found.hint,
        "notes": list(found.notes),
        "source_line": found.source_line,
    }


def _one(found: Diagnostic, stream: Stream) -> Iterator[Block]:
    colour = _COLOURS[found.severity]
    yield [bold(f"{found.severity}[{found.code}]", colour), bold(f": {found.message}")]
    yield from place_blocks([(found.span, found.hint or "")], found.source_line, stream, colour)
    shown = found.source_line is not None
    margin = " " * (len(str(found.span.line)) if shown else 0)
    for note in [f"hint: {found.hint}" if found.hint and not shown else "", *found.notes]:
        if note:
            yield [dim(f"{margin} = "), note]


def place_blocks(
    marks: Sequence[tuple[Span, str]], source_line: str | None, stream: Stream, colour: str
) -> Iterator[Block]:
    """A place and its line, where that is known; ``marks`` are places in it, each with a remark."""
    span = marks[0][0]
    number = str(span.line) if source_line is not None else ""
    margin = " " * len(number)
    yield [f"{margin} ", dim("--> "), str(span)]
    if source_line is None:
        return
    yield dim(f"{margin} |")
    shown = None
    for at, remark in marks:
        line, before, width = _excerpt(source_line, at, stream.symbols)
        if line != shown:  # of a very long line each place has its own part
            yield [dim(f"{number} |"), f" {line}" if line else ""]
            shown = line
        caret = f" {' ' * before}{'^' * width}"
        yield [dim(f"{margin} |"), Styled(caret, f"bold {colour}"), f" {remark}" if remark else ""]


def _excerpt(source: str, span: Span, symbols: bool) -> tuple[str, int, int]:
    """The line (cut around the place if it is very long), columns before the mark, and its width.

    A tab is shown as one space: then no terminal disagrees about columns.
    """
    line = source.replace("\t", " ")
    start = min(max(span.column - 1, 0), len(line))
    end = max(start + 1, min(span.end_column - 1, len(line)))
    more = "…" if symbols else "..."
    lead = ""
    if len(line) > _LONGEST_LINE:
        cut = max(0, min(start - _BEFORE, len(line) - _LONGEST_LINE))
        lead = more if cut else ""
        tail = more if cut + _LONGEST_LINE < len(line) else ""
        line = line[cut : cut + _LONGEST_LINE]
        start, end = start - cut, min(end - cut, _LONGEST_LINE)
    else:
        tail = ""
    marked = line[start:end] or "^"
    return lead + line + tail, cells(lead + line[:start]), max(1, cells(marked))
