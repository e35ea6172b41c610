"""Surroundings of plans: the wall clock and the cluster of the process that runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from ratectl.engine.algorithms.keyed_bucket import KeyedBucket
    from ratectl.engine.algorithms.pooled import PooledBucket
    from ratectl.engine.algorithms.quota import WallOffset
    from ratectl.engine.algorithms.sliding_window import SlidingWindow
    from ratectl.engine.algorithms.token_bucket import TokenBucket
    from ratectl.engine.limit_plan import GroupName

__all__ = ["Pools", "Surroundings"]


class Pools(Protocol):
    """Limits across the cluster."""

    def bucket(
        self, name: GroupName, local: TokenBucket | SlidingWindow
    ) -> PooledBucket | KeyedBucket | TokenBucket | SlidingWindow:
        """Return the bucket of a limit that would be ``local`` if one process alone had it."""


class Surroundings(NamedTuple):
    """Wall clock and cluster, for the plans of one process."""

    offset: WallOffset
    """The wall clock's difference from the engine's clock, for quotas."""
    pools: Pools | None = None
    """None: this process counts limits across the cluster alone, as others."""
