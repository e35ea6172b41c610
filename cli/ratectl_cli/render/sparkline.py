"""Numbers over time in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["gathered", "sparkline"]

_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_ASCII: Final = " .:-=+*#@"


def gathered(values: Sequence[int], most: int) -> tuple[list[int], int]:
    """The values, as many neighbours added up as it takes to have at most ``most``; and how many
    these are."""
    each = max(1, -(-len(values) // most))
    return [sum(values[at : at + each]) for at in range(0, len(values), each)], each


def sparkline(values: Sequence[int], *, symbols: bool) -> str:
    """A bar for each value, the largest full; blank only where it is zero."""
    steps = _BLOCKS if symbols else _ASCII
    top = max(values, default=0) or 1
    highest = len(steps) - 1
    return "".join(steps[-(-value * highest // top)] for value in values)
