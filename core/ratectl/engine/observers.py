"""Observers of an engine: a mirror sees its decisions, a watcher its changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ratectl.engine.buckets.place import Place
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision

__all__ = ["Mirror", "Watcher"]


class Mirror(Protocol):
    """Observer that an engine calls right after each decision. Never raises.

    It sees the last attempt of a request that waited, and none of the others.
    """

    def decided(
        self, scope: str, attributes: Mapping[str, str], cost: Cost, now: int, decision: Decision
    ) -> bool:
        """A request was decided at ``now``. Return True to be told of its release as well."""

    def released(self, decision: Decision) -> None:
        """A decision was released."""

    def settled(self, decision: Decision, actual: Cost, now: int) -> None:
        """A decision's cost was corrected at ``now``."""

    def charged(self, scope: str, attributes: Mapping[str, str], cost: Cost, now: int) -> None:
        """A request was charged at ``now``, without a decision (see ``Engine.charge``)."""

    def reset(
        self,
        scope: str,
        limit: str,
        attributes: Mapping[str, str | None],
        *,
        budget: bool,
        now: int | None,
    ) -> None:
        """The buckets of one key were reset at ``now`` (see ``Engine.reset``)."""


class Watcher(Protocol):
    """Observer of an engine for requests that wait. Never raises, and never waits in ``freed``."""

    def freed(self, places: Iterable[Place]) -> None:
        """A release or a refund: these buckets admit more than before. Any code may be the caller:
        a finalizer, or a signal handler."""

    def changed(self) -> None:
        """Plans or waivers have been replaced: requests may meet other buckets."""
