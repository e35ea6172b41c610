"""Status of a SQLite store, and problems that its operator should solve."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from ratectl.stores.base import Status
from ratectl.stores.sqlite.file import FIRST_REVISION, damaged

if TYPE_CHECKING:
    from ratectl.stores.sqlite.file import Database
    from ratectl.stores.sqlite.log import Meta

__all__ = ["absent", "describe", "find_damage", "find_problems"]

WAL_TOO_LARGE = 64 * 1024 * 1024

_NETWORK = {"9p", "afs", "ceph", "cifs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}


def describe(database: Database, db: sqlite3.Connection, meta: Meta) -> dict[str, str]:
    """Return details for people; sizes are in bytes."""

    def one(sql: str) -> int:
        return int(db.execute(sql).fetchone()[0])

    return {
        "path": str(database.path),
        "identity": meta.identity,
        "keys": str(one("SELECT count(*) FROM current")),
        "leases": str(one("SELECT count(*) FROM leases")),
        "history_bytes": str(meta.replaced_bytes),
        "free_bytes": str(one("PRAGMA freelist_count") * one("PRAGMA page_size")),
        "wal_bytes": str(database.wal_bytes()),
        "wal_reset_bug": (
            "this SQLite has it (fixed in 3.51.3, 3.50.7 and 3.44.6); ratectl never checkpoints "
            "beside a writer, other programs that open the file might"
            if has_wal_reset_bug(sqlite3.sqlite_version_info)
            else "fixed"
        ),
    }


def absent(database: Database) -> Status:
    """Return the status of a store that has no file yet."""
    return Status(
        backend="sqlite",
        version=sqlite3.sqlite_version,
        revision=FIRST_REVISION,
        compacted=0,
        size_bytes=0,
        detail={"path": str(database.path)},
        absent=True,
    )


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Return True for versions with https://sqlite.org/wal.html#walresetbug."""
    backported = (3, 44, 6) <= version < (3, 45) or (3, 50, 7) <= version < (3, 51)
    return version < (3, 51, 3) and not backported


def find_damage(path: Path, db: sqlite3.Connection) -> tuple[str, ...]:
    """Return a sentence for ``ratectl doctor`` if a page of the file is damaged, even if unused."""
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    return () if verdict == "ok" else (damaged(str(path), " ".join(verdict.split())) + ".",)


def find_problems(path: Path, wal_bytes: int) -> tuple[str, ...]:
    """Return sentences for ``ratectl doctor``."""
    problems = []
    try:
        info = path.stat()
    except OSError:  # deleted meanwhile: the next call reports it
        return ()
    kind = _file_system(info.st_dev)
    if kind in _NETWORK or kind.startswith("fuse.sshfs"):
        problems.append(
            f"{path} is on a network file system ({kind}): used from two hosts it will be "
            "corrupted; put it on a local disk or use etcd."
        )
    if wal_bytes > WAL_TOO_LARGE:
        problems.append(
            f"{path}-wal has {wal_bytes} bytes: some process keeps an old read transaction open "
            "(an idle sqlite3 shell, for example); find it with `fuser` and end it."
        )
    if info.st_mode & stat.S_IWOTH:
        problems.append(f"{path} is writable by every user: `chmod o-w` it.")
    return tuple(problems)


def _file_system(device: int) -> str:
    """Return the type of a mounted file system; empty where it is unknown (not Linux)."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in mounts:
        left, _, right = line.partition(" - ")
        if left.split()[2:3] == [wanted] and right:
            return right.split()[0]
    return ""
