"""Counts of what one member has done in the cluster."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Tally"]


@dataclass(slots=True)
class Tally:
    """Totals of the messages of the protocol, and of the entry in the roster.

    Messages between the member and an owner in the same process are counted as well.
    """

    polls_sent: int = 0
    polls_received: int = 0
    replies_sent: int = 0
    replies_received: int = 0
    renewed: int = 0
    """Renewals of the entry in the roster."""
    failed: int = 0
    """Failures of the store to do what the entry needs."""

    def add(self, other: Tally) -> None:
        """Add the counts of another member."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
