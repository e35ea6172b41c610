"""Bound of a limit across the cluster, and its fallback, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.cluster.keyed import lent_size
from ratectl.cluster.protocol.capacity import Size
from ratectl.policy.validation.cluster_bursts import parts_in

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["added_tokens", "bound_text", "fallback_texts"]


def added_tokens(*, is_window: bool, per: Sequence[str]) -> int:
    """Return how many tokens each process has beside the limit, with consistency: optimistic.

    Two of a bucket: with fewer, members have none while others hold them. One of a window, where
    it is admitted in each window, and of a key, for its first request.
    """
    return 1 if is_window or per else 2


def bound_text(burst: int | None, rate: str, per: Sequence[str], *, optimistic: bool) -> str:
    """Return the bound of a limit.

    :param burst: None: it is a sliding window.
    :param rate: as it is written, such as ``200/s``.
    :param per: attributes that it counts per.
    :param optimistic: processes may admit a little more than the limit.
    """
    of_each = f" of each {', '.join(per)}" if per else ""
    added, ends = "", []
    if optimistic:
        added = f", and {added_tokens(is_window=burst is None, per=per)} more for each process"
    if burst is None:
        if per:
            grows = "" if optimistic else ", or whose share grows to two,"
            ends.append(f"a process that comes{grows} may admit one more")
        bound = (
            f"all processes together admit at most {rate}{of_each}, in any window of that length"
        )
        return "; ".join((bound + added, *ends))
    bound = (
        "in any window of length w, all processes together admit at most "
        f"{burst} + {rate} · w{of_each}{added}"
    )
    lent = lent_size(Size(0, burst)).burst if per else burst
    if lent != burst:
        ends += [
            (
                f"while processes come or go, up to {burst - lent} · s more, where s is the part "
                f"of the limit that moves between them{', and 1 for each that comes' * optimistic}"
            ),
            (
                f"a request that costs more than {lent} waits until the processes have put their "
                "parts together"
            ),
        ]
    return "; ".join((bound, *ends))


def fallback_texts(size: int, per: Sequence[str], *, is_window: bool) -> tuple[str, ...]:
    """Return what happens to a limit in a fault.

    :param size: burst of a token bucket, or number of a window.
    :param per: attributes that it counts per.
    :param is_window: it is a sliding window.
    """
    if is_window:
        time, why = "about one window", "the next owner does not know what was admitted before"
    else:
        time, why = "1 to 2 s", "another process takes over"
    if per:
        kept = "half of the keys have only what each process keeps"
        owner = f"one of its two owners is lost, {kept} for {time}"
    elif parts_in(size) > 1:
        owner = f"one of its two owners is lost, about half of it is admitted for {time}"
    else:
        owner = f"its owner is lost, almost nothing is admitted for {time}"
    return (
        f"if {owner}: {why}",
        (
            "if the store is lost, nothing changes while the owners answer, and without them each "
            "process uses its own share; if some processes reach the store, they take the others "
            "for gone after 30 s, whose shares are then used twice"
        ),
        "a process that cannot join counts alone",
    )
