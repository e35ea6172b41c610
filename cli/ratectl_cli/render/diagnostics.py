"""Findings about policy files, as text and as data: place, source line, message, hint."""

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
    findings: Sequence[Diagnostic], stream: Stream, *, unfold: bool = False
) -> Iterator[Block]:
    """Yield finding finding with its source line, separated by empty lines.

    Of more than 100 findings only the first are shown, errors before warnings. ``unfold`` shows
    all.
    """
    shown = findings
    if len(findings) > _MOST and not unfold:
        shown = sorted(findings, key=lambda finding: finding.severity != "error")[:_MOST]
    for finding in shown:
        yield from _one(finding, stream)
        yield ""
    if len(shown) < len(findings):
        yield f"and {len(findings) - len(shown)} more: -v shows them, -o json holds them"
        yield ""


def count(findings: Iterable[Diagnostic], severity: str) -> int:
    """Return the number of findings of one severity."""
    return sum(1 for finding in findings if finding.severity == severity)


def tally(findings: Sequence[Diagnostic]) -> str:
    """Return ``2 errors and 1 warning``."""
    errors, warnings = count(findings, "error"), count(findings, "warning")
    parts = [plural(errors, "error")] if errors else []
    parts += [plural(warnings, "warning")] if warnings else []
    return " and ".join(parts) or "no findings"


def diagnostic_data(finding: Diagnostic) -> dict[str, Any]:
    """Return a finding for programs."""
    span = finding.span
    return {
        "code": finding.code,
        "severity": finding.severity,
        "message": finding.message,
        "file": span.file,
        "line": span.line or None,
        "column": span.column or None,
        "end_column": span.end_column or None,
        "hint": finding.hint,
        "notes": list(finding.notes),
        "source_line": finding.source_line,
    }


def _one(finding: Diagnostic, stream: Stream) -> Iterator[Block]:
    colour = _COLOURS[finding.severity]
    yield [bold(f"{finding.severity}[{finding.code}]", colour), bold(f": {finding.message}")]
    yield from place_blocks(
        [(finding.span, finding.hint or "")], finding.source_line, stream, colour
    )
    shown = finding.source_line is not None
    margin = " " * (len(str(finding.span.line)) if shown else 0)
    for note in [f"hint: {finding.hint}" if finding.hint and not shown else "", *finding.notes]:
        if note:
            yield [dim(f"{margin} = "), note]


def place_blocks(
    marks: Sequence[tuple[Span, str]], source_line: str | None, stream: Stream, colour: str
) -> Iterator[Block]:
    """Yield a place and its source line, if known.

    ``marks`` are places in the line, each with a remark.
    """
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
        if line != shown:  # each place in a very long line has its own excerpt
            yield [dim(f"{number} |"), f" {line}" if line else ""]
            shown = line
        caret = f" {' ' * before}{'^' * width}"
        yield [dim(f"{margin} |"), Styled(caret, f"bold {colour}"), f" {remark}" if remark else ""]


def _excerpt(source: str, span: Span, symbols: bool) -> tuple[str, int, int]:
    """Return the line, the columns before the mark, and the width of the mark.

    A very long line is cut around the place. A tab is shown as one space, so that columns are the
    same on every terminal.
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
