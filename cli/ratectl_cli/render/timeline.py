"""Requests of a replay over time, as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl_cli.framework.text import Aligned, Styled, dim
from ratectl_cli.render import times
from ratectl_cli.render.sparkline import gathered, sparkline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.simulate import Report
    from ratectl_cli.framework.terminal import Stream
    from ratectl_cli.framework.text import Block, Piece

__all__ = ["timeline_blocks"]

_COLUMNS: Final = 60
_FEWEST_COLUMNS: Final = 20


def timeline_blocks(report: Report, stream: Stream) -> Iterator[Block]:
    """Yield requests and refusals over time, as lines of bars."""
    slices = report.timeline
    names = ["refused", *(f"by {side.name}" for side in report.sides[1:])]
    room = _room(["requests", *names], report.requests, stream)
    columns, group = gathered([one.requests for one in slices], room)
    drawn = [("requests", columns, "")]
    for at, name in enumerate(names):
        refused, _ = gathered([one.refused[at] for one in slices], room)
        drawn.append((name, refused, "red" if not at else "dim"))
    rows: list[list[Piece]] = [
        [
            name,
            Styled(sparkline(values, symbols=stream.symbols).ljust(len(columns)), style),
            f"max {max(values)}",
        ]
        for name, values, style in drawn
    ]
    yield Aligned(rows)
    width = times.span(group * report.width_ns / 1e9)
    yield dim(f"each column {width}, from {times.utc(report.start_ns)} UTC")


def _room(names: Sequence[str], most: int, stream: Stream) -> int:
    """Return the columns for the timeline, beside its names and the largest count."""
    if stream.width is None:
        return _COLUMNS
    beside = max(map(len, names)) + len(f"max {most}") + 4
    return max(_FEWEST_COLUMNS, min(_COLUMNS, stream.width - beside))
