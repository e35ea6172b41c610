"""Bound of a limit across the cluster, and its fallback, in words."""

from __future__ import annotations

from typing import Final

__all__ = ["FALLBACK", "bound_text"]

FALLBACK: Final = (
    "if its owner is lost, almost nothing is admitted for 1 to 2 s: another process takes over",
    "if the store is lost, nothing changes for 30 s, and then each process uses its own share",
    "a process that cannot join counts alone",
)


def bound_text(burst: int, rate: str) -> str:
    """Return the bound of a limit. ``rate``: as it is written, such as ``200/s``."""
    return f"in any window of length w, all processes together admit at most {burst} + {rate} · w"
