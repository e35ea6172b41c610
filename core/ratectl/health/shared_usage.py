"""Sentences about limits that are one for all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.runtime.times import ago
from ratectl.runtime.wording import listed, percent

if TYPE_CHECKING:
    from datetime import datetime

    from ratectl.fleet.usage import LimitTotal

__all__ = ["shared_text"]


def shared_text(total: LimitTotal, now: datetime) -> str | None:
    """Return what the owners of a limit report, and how old that is; None for other limits."""
    if not total.shared:
        return None
    agents = f"{total.shared} agent{'' if total.shared == 1 else 's'}"
    alone = total.agents - total.shared
    count = f"one limit for {agents}" + (f", and {alone} more count alone" if alone else "")
    pool = total.pool
    if pool is None:
        return (
            f"{count}: no owner has reported lately, so nobody knows how much of it is used: "
            "ratectl cluster status"
        )
    names = listed([f"{owner.agent} {ago(owner.reported, now)}" for owner in pool.owners], 3)
    members = f"{pool.members} member{'' if pool.members == 1 else 's'}"
    return (
        f"{count}: {percent(pool.used)} used, {pool.free} of {pool.capacity} {total.unit} free, "
        f"{pool.held} held by {members} (owner {names})"
    )
