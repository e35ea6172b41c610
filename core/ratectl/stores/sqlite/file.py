"""One SQLite file: its creation, its schema, and explanations of its errors."""

from __future__ import annotations

import errno
import os
import random
import secrets
import sqlite3
import stat
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from ratectl.errors import StoreError, StoreMisconfigured, StoreUnavailable
from ratectl.runtime.files import CLOSED, make_folder

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FIRST_REVISION", "Database", "FileId", "Files", "damaged", "is_busy"]

FileId = tuple[int, int]
"""Device and inode of a file. A path may lead to another file than the one that was opened."""

Files = tuple[FileId, int | None, int | None]
"""The file, and the inodes of its write-ahead log and of the index of that log."""

APPLICATION_ID = int.from_bytes(b"rctl", "big")
SCHEMA_VERSION = 1
OLDEST_SQLITE = (3, 24, 0)
FIRST_REVISION = 1
"""Revision of a store in which nothing was ever written."""

# A row of ``log`` is one write. ``id`` is revision << 16 | position, so that the primary key is
# also the order of history. ``previous`` is the row that it replaced, which compaction deletes.
# ``value`` comes last, so that reading the other columns does not read a large value.
_SCHEMA = (
    """CREATE TABLE meta (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        identity TEXT NOT NULL,
        revision INTEGER NOT NULL,
        compacted INTEGER NOT NULL,
        replaced_bytes INTEGER NOT NULL
    )""",
    "CREATE TABLE log (id INTEGER PRIMARY KEY, key BLOB NOT NULL, previous INTEGER, value BLOB)",
    "CREATE INDEX log_key ON log (key)",
    """CREATE TABLE current (
        key BLOB PRIMARY KEY, id INTEGER NOT NULL, size INTEGER NOT NULL, lease INTEGER
    ) WITHOUT ROWID""",
    "CREATE INDEX current_lease ON current (lease) WHERE lease IS NOT NULL",
    "CREATE TABLE leases (id INTEGER PRIMARY KEY, ttl REAL NOT NULL, deadline REAL NOT NULL)",
    "CREATE INDEX leases_deadline ON leases (deadline)",
)

_SETTINGS = (
    # FULL syncs the WAL on every commit. With NORMAL, a power cut may undo acknowledged writes, and
    # a generation that was live would be lost.
    "PRAGMA synchronous = FULL",
    # SqliteStore runs checkpoints, never beside a writer: see there.
    "PRAGMA wal_autocheckpoint = 0",
    # Truncates the WAL when it is restarted, so that its size shows when to checkpoint.
    "PRAGMA journal_size_limit = 0",
    "PRAGMA trusted_schema = OFF",
)


_IO_SECONDS: Final = 0.5
"""Time for which opening is tried again after an error of the disk."""


def is_busy(error: sqlite3.Error) -> bool:
    """Return True if another connection holds the lock that this one waits for."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_io(error: sqlite3.Error) -> bool:
    return _code(error) == sqlite3.SQLITE_IOERR


def damaged(path: str, why: str) -> str:
    """Return a message about a damaged file, with the remedy."""
    return (
        f"{path} is damaged ({why}): stop every process that uses it, move it away with its -wal "
        "and -shm files, and restore a backup or publish again"
    )


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF  # the low byte: without the details


def _inode(path: bytes) -> int | None:
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - on every call
    except OSError:
        return None


class Database:
    """The file at ``path``: created at most once, then only opened."""

    def __init__(self, path: Path, *, makes_folder: bool = False) -> None:
        """``makes_folder``: create a missing folder for the file, when the file is created."""
        self.path = path
        self._makes_folder = makes_folder
        self._bytes_path = os.fsencode(path)
        self._wal = self._bytes_path + b"-wal"
        self._index = self._bytes_path + b"-shm"
        self._opened_once = False

    # -- opening -------------------------------------------------------------------------------

    def connect(self, seconds: float) -> tuple[sqlite3.Connection, Files]:
        """Return a checked connection and its files; wait about ``seconds`` at most for locks.

        :raises sqlite3.Error: pass it to :meth:`explain`.
        """
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreMisconfigured(
                f"SQLite {sqlite3.sqlite_version} is too old: this Python needs one linked with "
                f"{'.'.join(map(str, OLDEST_SQLITE))} or newer"
            )
        began = time.monotonic()
        while True:
            try:
                return self._connect_once(seconds)
            except sqlite3.Error as error:
                # Several processes create one file: SQLite does not wait in all such cases. While
                # one creates the log again after its removal, others get errors of the disk.
                patience = seconds if is_busy(error) else _IO_SECONDS if _is_io(error) else 0
                if time.monotonic() >= began + patience:
                    raise
            time.sleep(random.uniform(0.001, 0.01))  # noqa: S311 - spreads retries

    def _connect_once(self, seconds: float) -> tuple[sqlite3.Connection, Files]:
        file_id = self._find_or_create()
        connection = sqlite3.connect(
            f"file:{quote(self._bytes_path)}?mode=rw",
            uri=True,
            timeout=seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._set_up(connection)
            opened = self.files()
        except BaseException:
            connection.close()
            raise
        if opened[0] != file_id or None in opened:
            connection.close()
            raise StoreUnavailable(str(self.path), "the file was replaced while opening it")
        self._opened_once = True
        return connection, opened

    def is_absent(self) -> bool:
        """Return True if there is no file, and this object has never opened one.

        :raises StoreUnavailable: the folder for it does not exist either.
        """
        if self._opened_once:
            return False
        try:
            os.stat(self._bytes_path)  # noqa: PTH116 - as below
        except FileNotFoundError:
            self._check_folder()
            return True
        except OSError:
            return False  # opening it reports the error
        return False

    def file_id(self) -> FileId:
        """Return the file that the path leads to now.

        :raises StoreUnavailable: there is none, or an empty file where there was a store.
        """
        try:
            info = os.stat(self._bytes_path)  # noqa: PTH116 - on every call; Path doubles its cost
        except OSError as error:
            raise self._explain_os(error) from error
        if not info.st_size and self._opened_once and stat.S_ISREG(info.st_mode):
            raise StoreUnavailable(
                str(self.path), "the file was emptied; restore it, or remove it to begin again"
            )
        return info.st_dev, info.st_ino

    def size(self) -> int:
        """Return the size of the file in bytes.

        :raises StoreError: the file is gone.
        """
        try:
            return os.stat(self._bytes_path).st_size  # noqa: PTH116 - as above
        except OSError as error:
            raise self._explain_os(error) from error

    def files(self) -> Files:
        """Return the files that a connection opened now would use.

        SQLite keeps the log and its index as long as any connection is open. If somebody removed
        or replaced one, this connection and other processes do not see each other's writes.

        :raises StoreUnavailable: as :meth:`file_id`.
        """
        return self.file_id(), _inode(self._wal), _inode(self._index)

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log in bytes; 0 if there is none."""
        try:
            return os.stat(self._wal).st_size  # noqa: PTH116 - on every write
        except OSError:
            return 0

    def _find_or_create(self) -> FileId:
        try:
            if not self._opened_once and not self.path.exists():
                self._create()
            info = self.path.stat()
        except OSError as error:
            raise self._explain_os(error) from error
        if not stat.S_ISREG(info.st_mode):
            raise StoreMisconfigured(f"{self.path} is not a file; name one in the store URL")
        return self.file_id()

    def _check_folder(self) -> None:
        """Check that the folder of the file exists: a new one would hide a misspelt path.

        :raises StoreUnavailable: it does not.
        """
        if not self._makes_folder and not os.path.lexists(self.path.parent):
            raise StoreUnavailable(
                str(self.path),
                f"the folder {self.path.parent} does not exist: create it, or correct the URL",
            )

    def _create(self) -> None:
        self._check_folder()
        if self._makes_folder:
            make_folder(self.path.parent, CLOSED)
        # Created here, not by SQLite: the WAL and its index get the same mode.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        os.close(os.open(self.path, flags, 0o600))

    # -- schema --------------------------------------------------------------------------------

    def _is_new(self, connection: sqlite3.Connection) -> bool:
        """Return True for an empty database; refuse that of another program or a newer ratectl."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application == APPLICATION_ID and version == SCHEMA_VERSION:
            return False
        if application == APPLICATION_ID:
            raise StoreMisconfigured(
                f"{self.path} has schema version {version}, this ratectl knows "
                f"{SCHEMA_VERSION}: upgrade ratectl"
            )
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application or version or tables:
            raise StoreMisconfigured(
                f"{self.path} is a database of another program; it was not touched: "
                "name another file in the store URL"
            )
        return True

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")  # one snapshot: another process may create the schema meanwhile
        new = self._is_new(connection)  # before anything is written
        connection.execute("COMMIT")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreMisconfigured(
                f"{self.path}: this file system cannot share memory between processes (SQLite "
                f"stayed in {mode} mode): put the store on a local disk"
            )
        if new:
            self._create_schema(connection)
        for setting in _SETTINGS:
            connection.execute(setting)

    def _create_schema(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        if not self._is_new(connection):  # another process was faster
            connection.execute("ROLLBACK")
            return
        for statement in _SCHEMA:
            connection.execute(statement)
        # Revision 1 is the empty store, as in etcd: 0 stays free to mean "absent".
        first_row = (secrets.token_hex(16), FIRST_REVISION)
        connection.execute("INSERT INTO meta VALUES (1, ?, ?, 0, 0)", first_row)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")

    # -- errors --------------------------------------------------------------------------------

    def explain(self, error: sqlite3.Error) -> StoreError:
        """Return the error to raise for a SQLite error, with the remedy."""
        path, code = str(self.path), _code(error)
        if is_busy(error):
            return StoreUnavailable(path, "another process keeps it locked; find it with `fuser`")
        if code == sqlite3.SQLITE_FULL:
            return StoreUnavailable(path, "the disk is full; free some space")
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
            return StoreMisconfigured(
                f"{path} is read-only for this user: give write permission for the file, "
                "its -wal and -shm files, and its folder"
            )
        if code == sqlite3.SQLITE_CANTOPEN:
            return StoreMisconfigured(
                f"{path} cannot be opened by this user: check the permissions of the file, "
                "its -wal and -shm files, and its folder"
            )
        if code == sqlite3.SQLITE_NOTADB:
            mend = ": name another file in the store URL"
            if self._opened_once:
                mend = " any more: restore a backup, or move it away and publish again"
            return StoreMisconfigured(f"{path} is not a SQLite database{mend}")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT):
            return StoreMisconfigured(damaged(path, str(error)))
        return StoreUnavailable(path, str(error))

    def _explain_os(self, error: OSError) -> StoreError:
        path = str(self.path)
        if isinstance(error, FileNotFoundError) and self._opened_once:
            return StoreUnavailable(path, "the file is gone; restore it, or restart to begin again")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreUnavailable(path, "the disk is full; free some space")
        if isinstance(error, PermissionError | FileNotFoundError | NotADirectoryError) or (
            error.errno in (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
        ):
            return StoreMisconfigured(
                f"{path} cannot be used ({error.strerror}): name a file that this user may write"
            )
        return StoreUnavailable(path, error.strerror or str(error))
