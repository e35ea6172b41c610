"""Watches that poll ``PRAGMA data_version``: a few microseconds if nothing was committed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from ratectl.errors import StoreError
from ratectl.stores.base import Interrupted, Progress, Resync, Watch
from ratectl.stores.sqlite import log

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from ratectl.stores.base import WatchEvent
    from ratectl.stores.sqlite.channel import Channel
    from ratectl.stores.sqlite.file import FileId

__all__ = ["SqliteWatch"]

POLL_SECONDS = 0.02
PROGRESS_SECONDS = 5.0
MAX_PAUSE = 0.5
"""Longest pause between attempts while the file cannot be read, in seconds."""


class SqliteWatch(Watch):
    """A watch with its own connection, whose ``data_version`` counts the commits of all others."""

    def __init__(
        self, channel: Channel, prefix: str, first: int, poll: float = POLL_SECONDS
    ) -> None:
        log.bounds(prefix)  # refuses a bad prefix here, not in the thread that iterates
        self._channel = channel
        self._prefix = prefix
        self._next = first
        self._poll_seconds = poll
        self._pause = poll
        self._stop = threading.Event()
        self._pending: deque[WatchEvent] = deque()
        self._source: tuple[FileId | None, str] | None = None  # the file that events came from
        self._seen: tuple[int, int] | None = None  # connection and data_version read completely
        self._lease_due: float | None = None
        self._progress_due = 0.0
        self._error = ""

    def __iter__(self) -> Iterator[WatchEvent]:
        while not self._stop.is_set():
            if self._pending:
                yield self._pending.popleft()
                continue
            self._poll()
            if not self._pending:
                self._stop.wait(self._pause)

    def close(self) -> None:
        """See :meth:`Watch.close`."""
        self._stop.set()
        self._channel.close()

    def _poll(self) -> None:
        try:
            if self._lease_due is not None and time.time() >= self._lease_due:
                self._end_leases()
            with self._channel.use() as db:
                self._look(db)
        except StoreError as error:
            if str(error) != self._error:
                self._error = str(error)
                self._pending.append(Interrupted(error))
            self._seen = None
            self._progress_due = 0.0  # yield Progress as soon as it answers again
            self._pause = min(self._pause * 2, MAX_PAUSE)
        except Exception:
            if not self._stop.is_set():  # closing makes the channel refuse
                raise
        else:
            self._error = ""
            self._pause = self._poll_seconds

    def _end_leases(self) -> None:
        # A process that cannot write leaves it to the others, and tries again in a second.
        self._lease_due = time.time() + 1.0
        with contextlib.suppress(StoreError), self._channel.transaction() as db:
            log.Writer(db).finish()
            self._seen = None  # its own commits do not change its data_version

    def _look(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA data_version").fetchone()
        now = (self._channel.opened, version)
        if now != self._seen:
            db.execute("BEGIN")
            complete = self._read(db)
            db.execute("COMMIT")
            self._seen = now if complete else (self._channel.opened, -1)
        if not self._pending and time.monotonic() >= self._progress_due:
            self._progress_due = time.monotonic() + PROGRESS_SECONDS
            self._pending.append(Progress(self._next - 1))

    def _read(self, db: sqlite3.Connection) -> bool:
        """Queue new events. Return False if there is more than one batch."""
        meta = log.meta(db)
        self._lease_due = log.read_lease_due(db)
        source = (self._channel.file, meta.identity)
        known, self._source = self._source, source
        if known is not None and known != source:
            reason = "the file was replaced by another"
        elif meta.revision < self._next - 1:
            reason = f"the store went back to revision {meta.revision} (restored or recreated)"
        elif self._next < meta.compacted:
            reason = f"revisions before {meta.compacted} are compacted"
        else:
            events, covered = log.changes(db, self._prefix, self._next, meta.revision)
            self._pending.extend(events)
            self._next = covered + 1
            return covered == meta.revision
        snapshot = log.items(db, self._prefix)
        self._pending.append(Resync(snapshot, reason))
        self._next = meta.revision + 1
        return True
