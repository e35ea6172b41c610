"""One connection behind a lock: reopened if the file was replaced, closed before a fork."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import sqlite3
import threading
import time
import weakref
from typing import TYPE_CHECKING

from ratectl.errors import StoreMisconfigured, StoreUnavailable, UsageError
from ratectl.stores.sqlite.file import is_busy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.stores.sqlite.file import Database, FileId, Files

__all__ = ["Channel"]

_registry_lock = threading.Lock()
_registry: weakref.WeakSet[Channel] = weakref.WeakSet()
_serial = itertools.count()
_stranded: list[sqlite3.Connection] = []
"""Inherited connections in a forked child. To close or free one would break the parent's locks."""


class Channel:
    """A connection for one thread at a time. A caller waits ``timeout`` seconds at most."""

    def __init__(self, database: Database, timeout: float) -> None:
        self.database = database
        self.timeout = timeout
        self.opened = 0
        """Number of connections opened so far; a new number means a new connection."""
        self._files: Files | None = None
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._forked_busy = False
        self._held_for_fork = False
        with _registry_lock:
            self.serial = next(_serial)
            _registry.add(self)

    @contextlib.contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """Return the connection for a ``with`` block. Uncommitted changes are rolled back."""
        with self._until(time.monotonic() + self.timeout) as connection:
            yield connection

    @contextlib.contextmanager
    def transaction(self, patience: float | None = None) -> Iterator[sqlite3.Connection]:
        """Return a write transaction for a ``with`` block; its end commits.

        ``patience`` (seconds) shortens the wait for other writers.
        """
        wait = self.timeout if patience is None else min(patience, self.timeout)
        deadline = time.monotonic() + wait
        with self._until(deadline) as connection:
            self._begin(connection, deadline)
            yield connection
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close; later use raises ``UsageError``. Safe to call twice."""
        self._closed = True
        with self._lock:
            self._drop()

    @contextlib.contextmanager
    def _until(self, deadline: float) -> Iterator[sqlite3.Connection]:
        if self._closed:
            raise UsageError(f"the store {self.database.path} is closed; open it again")
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise StoreUnavailable(
                str(self.database.path), "busy with calls of other threads of this process"
            )
        try:
            connection = self._ready()
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    self._roll_back(connection)
        except sqlite3.Error as error:
            if not is_busy(error):
                self._drop()  # after an I/O error or damage its cache may be wrong
            raise self.database.explain(error) from error
        finally:
            self._lock.release()

    def _ready(self) -> sqlite3.Connection:
        if self._forked_busy:
            raise StoreMisconfigured(
                f"the store {self.database.path} was busy when this process was forked: "
                "open it again in the child"
            )
        if self._connection is not None:
            # Do not write to the old inode of a replaced file: no other process would see it.
            try:
                now = self.database.files()
            except StoreUnavailable:
                self._drop()
                raise
            if now == self._files:
                return self._connection
            self._drop()
        self._drop_lost()
        connection, self._files = self.database.connect(self.timeout)
        self._connection = connection  # last: `drop_lost` of other channels reads it first
        self.opened += 1
        if self._closed:  # closed while it was opened
            self._drop()
            raise UsageError(f"the store {self.database.path} is closed; open it again")
        return self._connection

    def _begin(self, connection: sqlite3.Connection, deadline: float) -> None:
        # SQLite's own wait sleeps up to 100 ms, which starves one writer among many.
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            while True:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError as error:
                    if not is_busy(error) or time.monotonic() >= deadline:
                        raise
                time.sleep(random.uniform(0.0002, 0.002))  # noqa: S311 - spreads retries
        finally:
            connection.execute(f"PRAGMA busy_timeout = {round(self.timeout * 1000)}")

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop()

    def _drop_lost(self) -> None:
        """Close the connections of this process to files that were removed or replaced.

        All connections of a process share SQLite's memory of a file: while one uses lost files,
        the next would use them as well.

        :raises StoreUnavailable: a call of another thread is using such a connection.
        """
        path = self.database.path
        with _registry_lock:
            same = [each for each in _registry if each.database.path == path and each is not self]
        if not all([channel.drop_lost() for channel in same]):  # noqa: C419 - each of them
            raise StoreUnavailable(
                str(path), "its files were replaced while another call uses them; try again"
            )

    @property
    def file(self) -> FileId | None:
        """The file that the last connection was opened with."""
        return None if self._files is None else self._files[0]

    def drop_lost(self) -> bool:
        """Close a connection to files that are gone. Return False if a call is using it."""
        if self._connection is None or self._files == self.database.files():
            return True
        if not self._lock.acquire(blocking=False):
            return self._connection is None
        self._drop()
        self._lock.release()
        return True

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    # -- fork ----------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Wait for the call under way, close the connection and hold new calls back."""
        self._held_for_fork = self._lock.acquire(timeout=self.timeout)
        if self._held_for_fork:
            self._drop()

    def after_fork(self, *, child: bool) -> None:
        """Let calls through again."""
        if self._held_for_fork:
            self._held_for_fork = False
            self._lock.release()
        elif child:  # a call of another thread took too long; that thread is not in the child
            self._lock = threading.Lock()
            self._forked_busy = True
            if self._connection is not None:
                _stranded.append(self._connection)
                self._connection = None


def _before_fork() -> None:
    _registry_lock.acquire()
    # Oldest first: a writer may wait for a newer channel of its store.
    for channel in sorted(_registry, key=lambda c: c.serial):
        channel.before_fork()


def _after_fork(child: bool) -> None:
    for channel in _registry:
        channel.after_fork(child=child)
    _registry_lock.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(child=False),
    after_in_child=lambda: _after_fork(child=True),
)
