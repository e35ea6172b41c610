"""Points in time and durations, for people."""

from __future__ import annotations

from ratectl.runtime.times import ago, seconds_since, span

__all__ = ["ago", "seconds_since", "span", "wait"]


def wait(nanoseconds: int) -> str:
    """Return a wait such as ``1.5 s``, rounded up: it is never shown shorter than it is."""
    for size, unit in ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")):
        if nanoseconds >= size:
            thousandths = -(-nanoseconds * 1000 // size)
            return f"{thousandths / 1000:g} {unit}"
    return f"{nanoseconds} ns"
