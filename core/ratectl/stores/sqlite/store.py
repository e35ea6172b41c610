"""The embedded backend: many processes of one machine use one SQLite file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ratectl.errors import StoreError, UsageError
from ratectl.stores.arguments import check_revision, check_txn
from ratectl.stores.base import Protection, Security, Snapshot, Status, Store, TxnResult
from ratectl.stores.locations import sqlite_path
from ratectl.stores.sqlite import log
from ratectl.stores.sqlite.channel import Channel
from ratectl.stores.sqlite.doctor import absent, describe, find_damage, find_problems
from ratectl.stores.sqlite.file import FIRST_REVISION, Database
from ratectl.stores.sqlite.lease import SqliteLease
from ratectl.stores.sqlite.watch import SqliteWatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.stores.base import Compare, Item, Lease, Op, Watch

__all__ = ["SqliteStore"]

CHECKPOINT_BYTES = 4 * 1024 * 1024
ASIDE_SECONDS = 0.1
"""Longest wait for other writers before a checkpoint or ending leases: a later call can do both."""

WATCH_TIMEOUT = 0.5
"""Longest wait for a lock in a watch: closing the watch waits for it."""


class SqliteStore(Store):
    """A store with one connection for reads and one for writes: readers never wait for a writer."""

    def __init__(
        self, path: str | os.PathLike[str], *, timeout: float = 4.0, makes_folder: bool = False
    ) -> None:
        # Absolute: a later chdir must not lead to another file.
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 - keeps symlinks
        self._database = Database(absolute, makes_folder=makes_folder)
        self.url = f"sqlite:///{self._database.path}"
        # Writes first: channels stop in this order before a fork.
        self._writes = Channel(self._database, timeout)
        self._reads = Channel(self._database, timeout)
        self._watches: weakref.WeakSet[SqliteWatch] = weakref.WeakSet()
        self._closed = False

    @classmethod
    def from_url(cls, url: str, *, timeout: float = 4.0) -> Self:
        """Open ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``.

        :raises UsageError: another form, or a database in memory.
        """
        return cls(sqlite_path(url), timeout=timeout)

    @classmethod
    def security(cls, url: str) -> Security:
        """See :meth:`Store.security`: the permissions of the file decide."""
        sqlite_path(url)
        return Security(
            Protection("skipped", "a local file needs no TLS"),
            Protection("skipped", "file permissions decide"),
        )

    # -- the interface -------------------------------------------------------------------------

    def get(self, key: str) -> Item | None:
        """See :meth:`Store.get`. Like ``list``, it creates no file."""
        if self._is_absent():
            return None
        with self._reading() as db:
            return log.item(db, key)

    def list(self, prefix: str) -> Snapshot:
        """See :meth:`Store.list`."""
        if self._is_absent():
            return Snapshot((), FIRST_REVISION)
        with self._reading() as db:
            db.execute("BEGIN")
            return log.items(db, prefix)

    def txn(self, compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        """See :meth:`Store.txn`."""
        check_txn(compare, ops)
        with self._writing() as writer:
            ok = writer.holds(compare)
            for op in ops if ok else ():
                writer.apply(op)
        return TxnResult(ok, writer.revision)

    def watch(self, prefix: str, from_revision: int) -> Watch:
        """See :meth:`Store.watch`."""
        check_revision(from_revision)
        if self._closed:
            raise UsageError(f"the store {self._database.path} is closed; open it again")
        timeout = min(self._reads.timeout, WATCH_TIMEOUT)
        watch = SqliteWatch(Channel(self._database, timeout), prefix, from_revision)
        self._watches.add(watch)
        return watch

    def lease(self, ttl: float) -> Lease:
        """See :meth:`Store.lease`."""
        return SqliteLease(self._writing, ttl)

    def status(self) -> Status:
        """See :meth:`Store.status`. Like ``list``, it creates no file."""
        if self._is_absent():
            return absent(self._database)
        with self._reading() as db:
            meta = log.meta(db)
            detail = describe(self._database, db, meta)
            damage = find_damage(self._database.path, db)
        wal = self._database.wal_bytes()
        return Status(
            backend="sqlite",
            version=sqlite3.sqlite_version,
            revision=meta.revision,
            compacted=meta.compacted,
            size_bytes=self._database.size() + wal,
            detail=detail,
            problems=(*damage, *find_problems(self._database.path, wal)),
        )

    def close(self) -> None:
        """See :meth:`Store.close`."""
        self._closed = True
        for watch in list(self._watches):
            watch.close()
        self._reads.close()
        self._writes.close()

    def _is_absent(self) -> bool:
        return not self._closed and self._database.is_absent()

    # -- transactions --------------------------------------------------------------------------

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._reads.use() as db:
            due = log.read_lease_due(db)
            if due is None or due > time.time():
                yield db
                return
        # On a full disk or behind a stuck writer, read all the same: leases end later.
        with contextlib.suppress(StoreError), self._writing(ASIDE_SECONDS):
            pass
        with self._reads.use() as db:
            yield db

    @contextlib.contextmanager
    def _writing(self, patience: float | None = None) -> Iterator[log.Writer]:
        if self._database.wal_bytes() > CHECKPOINT_BYTES:
            self._checkpoint()
        with self._writes.transaction(patience) as db:
            writer = log.Writer(db)
            yield writer
            writer.finish()

    def _checkpoint(self) -> None:
        """Move the log into the file, while an (empty) write transaction keeps other writers out.

        SQLite 3.7.0 to 3.51.2 can corrupt a file if a checkpoint runs while another connection
        commits ("WAL-reset bug", https://sqlite.org/wal.html#walresetbug). A passive checkpoint
        does not wait for readers: pages that they need are moved the next time. The next
        transaction then starts the log from its beginning.
        """
        with (
            contextlib.suppress(StoreError),
            self._writes.transaction(ASIDE_SECONDS),
            self._reads.use() as db,
        ):
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


# -- arguments -------------------------------------------------------------------------------------
