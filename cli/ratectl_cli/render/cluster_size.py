"""Estimates for a limit across a cluster, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.policy.language.durations import Duration
from ratectl.policy.validation.cluster_bursts import LEAST_TIME, LEAST_TOKENS, parts_in
from ratectl_cli.framework.text import Aligned, bold, paragraph, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.cluster.sizing import Sizing
    from ratectl.policy.language.rates import Rate
    from ratectl_cli.framework.text import Block

__all__ = ["size_blocks", "size_data"]

_SECOND = 10**9


def size_data(sizing: Sizing, rate: Rate) -> dict[str, Any]:
    """Return estimates for programs. Times are seconds."""
    plan = sizing.plan
    return {
        "rate": str(rate),
        "burst": plan.burst,
        "members": plan.members,
        "round_trip": plan.round_trip / _SECOND,
        "used_if_even": _rounded(sizing.used_if_even),
        "used_if_skewed": _rounded(sizing.used_if_skewed),
        "smallest_burst": sizing.smallest_burst,
        "enough": plan.burst >= sizing.smallest_burst,
        "gap": sizing.gap / _SECOND,
        "messages_per_second": {
            "idle": round(sizing.idle_messages, 1),
            "busy_at_most": round(sizing.busy_messages, 1),
        },
        "writes_per_second": round(sizing.writes, 2),
        "owner_replaced_after": sizing.owner_replaced_after / _SECOND,
        "own_share_after": sizing.own_share_after / _SECOND,
        "share_taken_after": sizing.share_taken_after / _SECOND,
    }


def _rounded(used: float | None) -> float | None:
    return None if used is None else round(used, 3)


def size_blocks(sizing: Sizing, rate: Rate) -> Iterator[Block]:
    """Yield estimates for people."""
    plan = sizing.plan
    yield [
        bold(f"{rate} burst {plan.burst}"),
        f", {plural(plan.members, 'member')}, round trip {Duration(plan.round_trip)}",
    ]
    idle, busy = _number(sizing.idle_messages), _number(sizing.busy_messages)
    alone, replaced = _seconds(sizing.own_share_after), _seconds(sizing.owner_replaced_after)
    taken = _seconds(sizing.share_taken_after)
    left = "about half is" if parts_in(plan.burst) > 1 else "almost nothing is"
    crash = (
        f"{left} admitted for about {alone}, then each member uses its own share; another owner "
        f"after about {replaced}"
    )
    yield Aligned((
        ("used", _used_text(sizing)),
        ("messages", f"{idle}/s without requests, up to {busy}/s if every member is busy"),
        ("store", f"{_number(sizing.writes)} writes/s"),
        ("owner crash", crash),
        ("member crash", f"another member takes over its share after about {taken}"),
    ))  # fmt: skip
    if plan.burst < sizing.smallest_burst:
        yield paragraph([bold("too small: ", "yellow"), _remedy(sizing)])


def _used_text(sizing: Sizing) -> str:
    even, skewed = sizing.used_if_even, sizing.used_if_skewed
    if even is None or skewed is None:
        return "unknown: maybe almost nothing"
    if even == skewed == 1:
        return "97% or more, however the requests are spread"
    return (
        f"{_part(even)} if every member has as many requests, {_part(skewed)} if a tenth of the "
        "members has nine tenths"
    )


def _part(used: float) -> str:
    return "97% or more" if used == 1 else f"about {used:.0%}"


def _remedy(sizing: Sizing) -> str:
    plan, smallest = sizing.plan, sizing.smallest_burst
    least = LEAST_TOKENS * parts_in(plan.burst)
    if plan.burst < least * plan.members:
        why = f"it has less than {least} tokens for each member"
    elif sizing.used_if_skewed == 1:
        why = f"it holds less than the rate of {Duration(LEAST_TIME)}, and processes may pause"
    else:
        why = "tokens that members hold, or that are under way, leave too few for others"
    return f"burst {plan.burst}, because {why}. The smallest burst that is enough is {smallest}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / _SECOND:.2g} s"
