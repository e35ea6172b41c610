"""Contents of the file: keys, revisions, history, leases. Every function runs in a transaction.

Keys are stored as UTF-8 bytes, which SQLite compares as etcd does.

SQLite stores a value of any type in any column: another program can write the number 5 where bytes
belong. Such a value is read as empty bytes, which are no record of any kind. Readers report that
they cannot read it, and the next write of the key replaces it.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import time
from typing import TYPE_CHECKING, NamedTuple

from ratectl.errors import StoreError, UsageError
from ratectl.stores.arguments import encode_key, encode_prefix
from ratectl.stores.base import Change, Events, Item, Put, Snapshot
from ratectl.stores.sqlite.lease import SqliteLease

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.stores.base import Compare, Op

__all__ = [
    "Meta",
    "Writer",
    "bounds",
    "changes",
    "item",
    "items",
    "meta",
    "read_lease_due",
]

KEEP_REVISIONS = 10_000
KEEP_BYTES = 64 * 1024 * 1024
"""Bytes of replaced values kept as history: large values shorten it, and do not fill the disk."""

COMPACT_EVERY = 256
"""Revisions between automatic compactions: each costs about a millisecond."""

_SHIFT = 16
_MAX_POSITION = (1 << _SHIFT) - 1

_VALUE = "CASE typeof(log.value) WHEN 'blob' THEN log.value ELSE x'' END"
_VALUE_OR_DELETED = "CASE WHEN typeof(value) IN ('blob', 'null') THEN value ELSE x'' END"
_MAX_REVISION = 2**47 - 1
"""Ids of later revisions would exceed SQLite's integers."""

# A poll of a watch reads about this much; the next poll follows at once.
_BATCH_BYTES = 4 * 1024 * 1024
_CHANGE_BYTES = 1024


class Meta(NamedTuple):
    """The one row of ``meta``."""

    identity: str
    revision: int
    compacted: int
    replaced_bytes: int


def bounds(prefix: str) -> tuple[bytes, bytes]:
    """Return the first key below a prefix and the first after; no byte of UTF-8 is 0xFF."""
    start = encode_prefix(prefix)
    return start, start + b"\xff"


# -- reading ---------------------------------------------------------------------------------------


def meta(db: sqlite3.Connection) -> Meta:
    """Return the row of ``meta``: identity, revision and size of history.

    :raises sqlite3.DatabaseError: it is missing or damaged.
    """
    row = db.execute("SELECT identity, revision, compacted, replaced_bytes FROM meta").fetchone()
    if row is None:
        raise _damage("table meta is empty")
    identity, *numbers = row
    if not isinstance(identity, str) or not all(map(_is_revision, numbers)):
        raise _damage("table meta holds values of other types, or out of bounds")
    return Meta(*row)


def _is_revision(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= _MAX_REVISION


def _damage(why: str) -> sqlite3.DatabaseError:
    """Return an error like SQLite's own for a damaged file."""
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def read_lease_due(db: sqlite3.Connection) -> float | None:
    """Return when the next lease ends, by the wall clock; None without leases."""
    (due,) = db.execute(
        "SELECT min(deadline) FROM leases WHERE typeof(deadline) = 'real'"
    ).fetchone()
    return None if due is None else float(due)


def item(db: sqlite3.Connection, key: str) -> Item | None:
    """Return the newest value of a key."""
    row = db.execute(
        f"SELECT log.id, {_VALUE} FROM current JOIN log ON log.id = current.id"  # noqa: S608
        " WHERE current.key = ?",
        (encode_key(key),),
    ).fetchone()
    return None if row is None else Item(key, row[1], row[0] >> _SHIFT)


def items(db: sqlite3.Connection, prefix: str) -> Snapshot:
    """Return every item below ``prefix``, as of the newest revision."""
    rows = db.execute(
        f"SELECT current.key, log.id, {_VALUE} FROM current CROSS JOIN log"  # noqa: S608
        " ON log.id = current.id WHERE current.key >= ? AND current.key < ?"
        " ORDER BY current.key",
        bounds(prefix),
    )
    below = tuple(Item(_name(key), value, id_ >> _SHIFT) for key, id_, value in rows)
    return Snapshot(below, meta(db).revision)


def changes(
    db: sqlite3.Connection, prefix: str, first: int, newest: int
) -> tuple[list[Events], int]:
    """Return whole revisions from ``first`` on, and the last revision that they cover."""
    start, end = bounds(prefix)
    rows = db.execute(
        # The + keeps SQLite on the primary key, which is the order of history.
        f"SELECT id, key, {_VALUE_OR_DELETED} FROM log"  # noqa: S608
        " WHERE id >= ? AND +key >= ? AND +key < ? ORDER BY id",
        (first << _SHIFT, start, end),
    )
    events: list[Events] = []
    room = _BATCH_BYTES
    with contextlib.closing(rows):
        for revision, group in itertools.groupby(rows, lambda row: int(row[0]) >> _SHIFT):
            batch = tuple(_change(revision, key, value) for _, key, value in group)
            events.append(Events(revision, batch))
            room -= sum(_CHANGE_BYTES + len(c.item.value if c.item else b"") for c in batch)
            if room <= 0:
                return events, revision
    return events, newest


def _change(revision: int, key: bytes, value: bytes | None) -> Change:
    name = _name(key)
    return Change(name, None if value is None else Item(name, value, revision))


def _name(key: bytes) -> str:
    """Return a key as text. Bytes that are not UTF-8 are replaced."""
    return key.decode(errors="replace")


# -- writing ---------------------------------------------------------------------------------------


class Writer:
    """A write transaction: builds revisions. It begins by ending the leases that are due."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self._before = meta(db)
        self.revision = self._before.revision
        self.compacted = self._before.compacted
        self._replaced_bytes = self._before.replaced_bytes
        self._position = 0  # in the current revision; 0: nothing written yet
        self._end_leases_due()

    def holds(self, compare: Sequence[Compare]) -> bool:
        """Return True if every compare holds."""
        return all(self._written_at(c.key) == c.mod_revision for c in compare)

    def apply(self, op: Op) -> None:
        """Apply one operation as part of the current revision."""
        if not isinstance(op, Put):
            self.delete(encode_key(op.key))
            return
        number = None
        if op.lease is not None:
            if not isinstance(op.lease, SqliteLease):
                raise UsageError("a lease of another store cannot be used here")
            number = op.lease.number
            if not self.db.execute("SELECT 1 FROM leases WHERE id = ?", (number,)).fetchone():
                raise StoreError(
                    f"the lease for {op.key!r} has ended: make a new one and write the keys again"
                )
        self.put(encode_key(op.key), op.value, number)

    def put(self, key: bytes, value: bytes, lease: int | None) -> None:
        """Write a key."""
        previous = self._replace(key)
        id_ = self._next_id()
        self.db.execute("INSERT INTO log VALUES (?, ?, ?, ?)", (id_, key, previous, value))
        self.db.execute(
            "INSERT OR REPLACE INTO current VALUES (?, ?, ?, ?)", (key, id_, len(value), lease)
        )

    def delete(self, key: bytes) -> None:
        """Delete a key, if it is there."""
        previous = self._replace(key)
        if previous is not None:
            self.db.execute(
                "INSERT INTO log VALUES (?, ?, ?, NULL)", (self._next_id(), key, previous)
            )
            self.db.execute("DELETE FROM current WHERE key = ?", (key,))

    def end_lease(self, number: int) -> None:
        """Delete a lease and its keys, as a revision of its own."""
        self.end_revision()
        for (key,) in self.db.execute(
            "SELECT key FROM current WHERE lease = ? AND typeof(key) = 'blob' ORDER BY key",
            (number,),
        ).fetchall():
            self.delete(key)
        self.db.execute("DELETE FROM leases WHERE id = ?", (number,))
        self.end_revision()

    def end_revision(self) -> None:
        """End the current revision: later operations belong to the next."""
        self._position = 0

    def compact(self, revision: int) -> None:
        """Delete values that were replaced up to ``revision``, and deletes before it.

        Deletes at ``revision`` itself stay, so that a watch from there still sees them.
        """
        window = (self.compacted << _SHIFT, (revision + 1) << _SHIFT)
        dead = "id IN (SELECT previous FROM log WHERE id >= ? AND id < ?)"
        (freed,) = self.db.execute(
            f"SELECT total(length(value)) FROM log WHERE {dead}",  # noqa: S608 - constant text
            window,
        ).fetchone()
        self.db.execute(f"DELETE FROM log WHERE {dead}", window)  # noqa: S608
        self.db.execute(
            "DELETE FROM log WHERE id >= ? AND id < ? AND value IS NULL",
            (window[0], revision << _SHIFT),
        )
        self._replaced_bytes = max(0, self._replaced_bytes - int(freed))
        self.compacted = revision

    def finish(self) -> None:
        """Compact if it is time, and update ``meta``. Call it before the commit."""
        target = 0
        if self.revision // COMPACT_EVERY != self._before.revision // COMPACT_EVERY:
            target = self.revision - KEEP_REVISIONS
        if self._replaced_bytes > KEEP_BYTES:
            target = max(target, (self.compacted + self.revision) // 2)
        if target > self.compacted:
            self.compact(target)
        after = (self.revision, self.compacted, self._replaced_bytes)
        if after != self._before[1:]:
            self.db.execute(
                "UPDATE meta SET revision = ?, compacted = ?, replaced_bytes = ? WHERE one = 1",
                after,
            )

    def _end_leases_due(self) -> None:
        due = self.db.execute(
            "SELECT id FROM leases WHERE deadline <= ? ORDER BY deadline", (time.time(),)
        ).fetchall()
        for (number,) in due:
            self.end_lease(number)

    def _written_at(self, key: str) -> int:
        row = self.db.execute(
            "SELECT CAST(id AS INTEGER) FROM current WHERE key = ?", (encode_key(key),)
        ).fetchone()
        return 0 if row is None else int(row[0]) >> _SHIFT

    def _replace(self, key: bytes) -> int | None:
        row = self.db.execute(
            "SELECT CAST(id AS INTEGER), CAST(size AS INTEGER) FROM current WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        self._replaced_bytes += min(max(0, row[1]), KEEP_BYTES)
        return int(row[0])

    def _next_id(self) -> int:
        if self._position > _MAX_POSITION:
            self._position = 0  # a lease with so many keys ends in several revisions
        if self._position == 0:
            self.revision += 1
        id_ = self.revision << _SHIFT | self._position
        self._position += 1
        return id_
