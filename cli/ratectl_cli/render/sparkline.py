"""Numbers over time in one line of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["gathered", "gauge_line", "sparkline"]

_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_ASCII: Final = " .:-=+*#@"


def gathered(values: Sequence[int], most: int) -> tuple[list[int], int]:
    """Add up neighbours until at most ``most`` values are left; return them and the group size."""
    group = max(1, -(-len(values) // most))
    return [sum(values[at : at + group]) for at in range(0, len(values), group)], group


def sparkline(values: Sequence[int], *, symbols: bool) -> str:
    """Return a bar for each value. The largest is full, and only zero is blank."""
    steps = _BLOCKS if symbols else _ASCII
    top = max(values, default=0) or 1
    highest = len(steps) - 1
    return "".join(steps[-(-value * highest // top)] for value in values)


def gauge_line(shares: Sequence[float | None], *, symbols: bool) -> str:
    """Return a bar for each share, from 0 to 1: only 1 is full, and None is a dot."""
    steps, nothing = (_BLOCKS, "·") if symbols else (_ASCII, "_")
    highest = len(steps) - 1
    return "".join(
        nothing if share is None else steps[max(1, int(min(1.0, share) * highest))]
        for share in shares
    )
