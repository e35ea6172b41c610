"""Leases: a row with a wall-clock deadline, ended by whichever process notices first."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Protocol

from ratectl.stores.arguments import check_ttl
from ratectl.stores.base import Lease

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from contextlib import AbstractContextManager

__all__ = ["SqliteLease"]


class LeaseRows(Protocol):
    """A write transaction, as a lease uses it (see ``log.Writer``)."""

    db: sqlite3.Connection

    def end_lease(self, number: int) -> None:
        """Delete the row of a lease and the keys written under it."""


class SqliteLease(Lease):
    """A lease in the file; it outlives this object and this process."""

    def __init__(
        self, writing: Callable[[], AbstractContextManager[LeaseRows]], ttl: float
    ) -> None:
        check_ttl(ttl)
        self.ttl = float(ttl)
        # Random: a counter would start again after a restore, and a lease that an old process
        # still renews would be somebody else's.
        self.number = secrets.randbits(62)
        self._writing = writing
        with writing() as writer:
            writer.db.execute(
                "INSERT INTO leases VALUES (?, ?, ?)",
                (self.number, self.ttl, time.time() + self.ttl),
            )

    def renew(self) -> bool:
        """See :meth:`Lease.renew`."""
        with self._writing() as writer:
            cursor = writer.db.execute(
                "UPDATE leases SET deadline = ? WHERE id = ?",
                (time.time() + self.ttl, self.number),
            )
            return cursor.rowcount == 1

    def revoke(self) -> None:
        """See :meth:`Lease.revoke`."""
        with self._writing() as writer:
            writer.end_lease(self.number)
