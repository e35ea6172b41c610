"""Leases: rows with a wall-clock deadline. The next process that uses the store ends them."""

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
    """The part of a write transaction that a lease uses (see ``log.Writer``)."""

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
        # Random: a counter would start again after a restore, and a process that still renews a
        # lease from before it would renew that of another process.
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
