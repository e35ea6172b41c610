"""Bound of a limit across the cluster, and its fallback, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FALLBACK", "bound_text"]

FALLBACK: Final = (
    "if its owner is lost, almost nothing is admitted for 1 to 2 s: another process takes over",
    "if the store is lost, nothing changes for 30 s, and then each process uses its own share",
    "a process that cannot join counts alone",
)


def bound_text(burst: int | None, rate: str, per: Sequence[str]) -> str:
    """Return the bound of a limit.

    :param burst: None: it is a sliding window.
    :param rate: as it is written, such as ``200/s``.
    :param per: attributes that it counts per.
    """
    of_each = f" of each {', '.join(per)}" if per else ""
    if burst is None:
        return f"all processes together admit at most {rate}{of_each}, in any window of that length"
    return (
        "in any window of length w, all processes together admit at most "
        f"{burst} + {rate} · w{of_each}"
    )
