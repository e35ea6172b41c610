"""Pictures: use as a bar, the last minutes as columns and as a line. SVG, with text for readers."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

from ratectl.fleet.usage import NEAR
from ratectl.page.html import EMPTY, Html, tag
from ratectl.page.numbers import level, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.page.view import Minute

__all__ = ["bar", "columns", "peaks"]

_STEP: Final = 8
"""Width of a minute."""


def bar(use: float | None) -> Html:
    """Return the use of a bucket as a bar. The page shows the number next to the bar."""
    if use is None:
        return EMPTY
    filled = tag("rect", width=min(100, ceil(use * 100)), height=8, class_=level(use))
    return tag(
        "svg", tag("rect", width=100, height=8, class_="track"), filled,
        class_="bar", viewBox="0 0 100 8", preserveAspectRatio="none", aria_hidden="true",
    )  # fmt: skip


def columns(trend: Sequence[Minute], height: int, name: str) -> Html:
    """Return requests in each minute as columns; refused ones are drawn on top in another colour.

    ``name``: class of the picture.
    """
    most = max((minute.allowed + minute.refused for minute in trend), default=0)
    allowed, refused = [], []
    for at, minute in enumerate(trend):
        total = _height(minute.allowed + minute.refused, most, height)
        red = min(total, _height(minute.refused, most, height))
        if total > red:
            allowed.append(f"M{at * _STEP} {height}v-{total - red}h6v{total - red}z")
        if red:
            refused.append(f"M{at * _STEP} {height - total + red}v-{red}h6v{red}z")
    width = _STEP * len(trend) - 2
    return tag(
        "svg",
        tag("title", _columns_text(trend, most)),
        tag("path", d=f"M0 {height - 0.5}h{width}", class_="axis"),
        tag("path", d="".join(allowed), class_="allowed") if allowed else EMPTY,
        tag("path", d="".join(refused), class_="refused") if refused else EMPTY,
        class_=name, viewBox=f"0 0 {width} {height}", role="img", preserveAspectRatio="none",
    )  # fmt: skip


def _height(number: int, most: int, height: int) -> int:
    """Return the height of a column; only zero has none."""
    return -(-number * height // most) if number else 0


def _columns_text(trend: Sequence[Minute], most: int) -> str:
    refused = sum(minute.refused for minute in trend)
    last = trend[-1].allowed + trend[-1].refused
    return (
        f"Requests in each of the last {len(trend)} minutes: at most {most:,}, "
        f"{last:,} in the current one; {refused:,} refused"
    )


def peaks(trend: Sequence[Minute], height: int) -> Html:
    """Return the use of the fullest bucket in each minute as a line, with one at 80 %."""
    width = _STEP * (len(trend) - 1)
    near = round(height * (1 - NEAR), 1)
    return tag(
        "svg",
        tag("title", _peaks_text(trend)),
        tag("path", d=f"M0 {height - 0.5}h{width}", class_="axis"),
        tag("path", d=f"M0 {near}h{width}", class_="limit-line"),
        *(tag("path", d=line, class_="peak") for line in _lines(trend, height)),
        class_="chart", viewBox=f"0 -1 {width} {height + 1}", role="img",
        preserveAspectRatio="none",
    )  # fmt: skip


def _lines(trend: Sequence[Minute], height: int) -> list[str]:
    """Return a line for each run of minutes whose use is known."""
    lines: list[list[str]] = [[]]
    for at, minute in enumerate(trend):
        if minute.peak is None:
            lines.append([])
        else:
            lines[-1].append(f"{at * _STEP} {round(height * (1 - minute.peak), 1):g}")
    # A run of one minute is a short line, so that it can be seen.
    end = "h5" if trend[0].peak is not None else "h-5"
    return [f"M{'L'.join(run)}{end if len(run) == 1 else ''}" for run in lines if run]


def _peaks_text(trend: Sequence[Minute]) -> str:
    known = [minute.peak for minute in trend if minute.peak is not None]
    return (
        f"Use of the fullest bucket in each of the last {len(trend)} minutes: at most "
        f"{percent(max(known, default=None))}, {percent(trend[-1].peak)} in the current one"
    )
