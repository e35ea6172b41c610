"""The embedded store: one SQLite file, shared by all processes of one machine.

Facts for operators:

- **One machine.** The file must be on a local file system: SQLite's locks and shared memory do not
  work across hosts, and a file on NFS or SMB used from two hosts will be corrupted. Every process,
  also one that only reads, needs write permission for the file and its folder. New files are
  ``0600`` and new folders ``0700``; widen them to share a store between users.
- **Durable.** A write that returned survives a power cut (``synchronous=FULL``).
- **Bounded.** The last 10,000 revisions are kept, or fewer if their replaced values exceed 64 MiB.
  Writes compact older revisions and reuse their pages: the file stops growing, but does not shrink.
- **Leases use the wall clock.** The next process that uses or watches the store ends those that are
  due. A clock set forward ends leases early (holders notice it and take new ones); a clock set back
  keeps them longer by as much. While no process runs, no lease ends.
- **Restore a backup** with ``sqlite3 FILE ".restore BACKUP"``, or stop every process, put the copy
  in place and remove ``FILE-wal`` and ``FILE-shm``. Running watches see both as a ``Resync``.
  A process never creates again a file that it had open: a missing file is an outage, not an empty
  store.
- **Fork.** Connections are closed before a fork and reopened on demand on both sides, so the child
  may use a store of its parent. (A connection carried across a fork breaks SQLite's locks.)
"""

from __future__ import annotations

from ratectl.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
