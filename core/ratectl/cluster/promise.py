"""Bound of a limit across the cluster, and its fallback, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.cluster.keyed import lent_size
from ratectl.cluster.protocol.capacity import Size

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bound_text", "fallback_texts"]


def bound_text(burst: int | None, rate: str, per: Sequence[str]) -> str:
    """Return the bound of a limit.

    :param burst: None: it is a sliding window.
    :param rate: as it is written, such as ``200/s``.
    :param per: attributes that it counts per.
    """
    of_each = f" of each {', '.join(per)}" if per else ""
    if burst is None:
        return f"all processes together admit at most {rate}{of_each}, in any window of that length"
    bound = (
        "in any window of length w, all processes together admit at most "
        f"{burst} + {rate} · w{of_each}"
    )
    lent = lent_size(Size(0, burst)).burst if per else burst
    if lent == burst:
        return bound
    return (
        f"{bound}; while processes come or go, up to {burst - lent} · s more, where s is the part "
        f"of the limit that moves between them; a request that costs more than {lent} is never "
        "admitted"
    )


def fallback_texts(*, is_window: bool, per: Sequence[str]) -> tuple[str, ...]:
    """Return what happens to a limit in a fault.

    :param is_window: it is a sliding window.
    :param per: attributes that it counts per.
    """
    if is_window:
        owner = (
            "almost nothing is admitted for about one window: the next owner does not know what "
            "was admitted before"
        )
    elif per:
        owner = (
            "each process admits only its own part of each key for 1 to 2 s: another process takes "
            "over"
        )
    else:
        owner = "almost nothing is admitted for 1 to 2 s: another process takes over"
    return (
        f"if its owner is lost, {owner}",
        "if the store is lost, nothing changes for 30 s, and then each process uses its own share",
        "a process that cannot join counts alone",
    )
