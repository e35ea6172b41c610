"""Counts of what a member's links have done."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Totals since the links began."""

    connected: int = 0
    """Connections on which both sides said hello."""
    refused: int = 0
    """Connections that this member refused."""
    lost: int = 0
    """Connections that broke, were closed or refused by the peer, or were silent for too long."""
    sent: int = 0
    """Messages."""
    received: int = 0
    dropped: int = 0
    """Messages that were not sent: the peer was not reachable, or did not read."""
    bytes_sent: int = 0
    bytes_received: int = 0

    def add(self, other: Counters) -> None:
        """Add the counts of other links."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
