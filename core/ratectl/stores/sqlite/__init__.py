"""The embedded store: one SQLite file, shared by all processes of one machine.

What an operator should know:

- **One machine.** The file must be on a local file system: SQLite's locks and shared memory do not
  work across hosts, and a file on NFS or SMB used from two hosts will be corrupted. Processes need
  write permission for the file and its folder, also those that only read. New files are ``0600``
  and new folders ``0700``; widen them to share a store between users.
- **Durable.** A write that returned survives a power cut (``synchronous=FULL``).
- **Bounded.** The last 10,000 revisions are kept, or fewer when their replaced values exceed
  64 MiB. Older ones are compacted while writing, and their pages are used again: the file stops
  growing, though it does not shrink.
- **Leases use the wall clock**, and are ended by whichever process next touches the store or
  watches it. A clock set forward ends leases early (holders notice and make new ones), one set
  back keeps them longer by as much. With no process alive nothing expires until one starts.
- **Restore a backup** with ``sqlite3 FILE ".restore BACKUP"``, or stop every process, put the copy
  in place and remove ``FILE-wal`` and ``FILE-shm``. Running watches see either as a ``Resync``.
  A process never re-creates a file that vanished under it: that is an outage, not an empty store.
- **Fork.** Connections are closed before a fork and reopened on demand on both sides, so a store
  may be used in the child. (One carried across a fork corrupts SQLite's idea of its locks.)
"""

from __future__ import annotations

from ratectl.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
