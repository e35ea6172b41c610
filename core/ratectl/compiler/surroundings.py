"""Surroundings of plans: the wall clock and the cluster of the process that runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from ratectl.engine.algorithms.keyed_bucket import KeyedBucket
    from ratectl.engine.algorithms.pooled import PooledBucket
    from ratectl.engine.algorithms.quota import WallOffset
    from ratectl.engine.algorithms.sliding_window import SlidingWindow
    from ratectl.engine.algorithms.token_bucket import TokenBucket
    from ratectl.engine.limit_plan import GroupName

__all__ = ["Part", "Pools", "Surroundings"]

Part = Literal["all", "local", "central"]
"""Limits to be compiled: all of them, those that engines count, or those that a server counts
(``across: redis``)."""


class Pools(Protocol):
    """Limits across the cluster."""

    def bucket(
        self, name: GroupName, local: TokenBucket | SlidingWindow, *, optimistic: bool
    ) -> PooledBucket | KeyedBucket | TokenBucket | SlidingWindow:
        """Return the bucket of a limit that would be ``local`` if one process alone had it.

        :param optimistic: each process may admit a little more than its share.
        """


class Surroundings(NamedTuple):
    """Wall clock and cluster, for the plans of one process."""

    offset: WallOffset
    """The wall clock's difference from the engine's clock, for quotas."""
    pools: Pools | None = None
    """None: this process counts limits across the cluster alone, as others."""
    part: Part = "all"

    def takes(self, across: str | None) -> bool:
        """Return True if a limit with this ``across`` is to be compiled."""
        return self.part == "all" or (across == "redis") == (self.part == "central")
