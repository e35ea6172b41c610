"""Unix sockets of the members on one machine: where they are, and those that are left over.

Beside its socket, a member holds the lock of a file. The kernel frees it when the process ends,
however it ends, so a lock that can be had proves that the member is gone.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["SocketPlace", "has_ended"]

_LONGEST: Final = 100
"""Most bytes of the path of a Unix socket: macOS allows 103, Linux 107."""
_LEFT_AFTER: Final = 60.0
"""A socket that is younger may belong to a process that does not listen yet."""
_MOST: Final = 1_000
_MODE: Final = 0o700
_LOCK: Final = ".lock"
_OPEN: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_held: set[int] = set()
"""Descriptors of the locks that this process holds."""


def _leave_to_parent() -> None:
    """Close the copies that a forked child has: its parent's lock must end with its parent."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


class SocketPlace:
    """Path of a new socket, in a folder of this user alone, and its lock.

    Anybody may have made the usual folder before. Then this process has a folder of its own: peers
    find the path in the roster.
    """

    def __init__(self) -> None:
        name = f"ratectl-{os.geteuid()}"
        file = f"{secrets.token_hex(8)}.sock"
        folder = Path(tempfile.gettempdir()) / name
        if len(os.fsencode(folder / file)) > _LONGEST:
            folder = Path("/tmp") / name  # noqa: S108  others cannot enter it
        with suppress(FileExistsError):
            folder.mkdir(mode=_MODE)
        self._is_own = not _belongs_to_us(folder)
        if self._is_own:
            folder = Path(tempfile.mkdtemp(prefix="ratectl-", dir=folder.parent))
        else:
            _remove_left_over(folder)
        self.path = str(folder / file)
        self._lock = os.open(self.path + _LOCK, _OPEN | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _held.add(self._lock)

    def close(self, *, is_unused: bool = True) -> None:
        """Remove the lock, and the folder, if it is this process's own. The socket has gone before.

        :param is_unused: False if the member's share may still be used: then the lock is kept for
            as long as the process runs.
        """
        if not is_unused or self._lock not in _held:  # or a forked child closes it
            return
        _held.remove(self._lock)
        with suppress(OSError):
            Path(self.path + _LOCK).unlink()
        os.close(self._lock)
        if self._is_own:
            with suppress(OSError):
                Path(self.path).parent.rmdir()


def has_ended(address: str) -> bool:
    """Return True if the process that listened at an address has surely ended.

    :param address: a Unix socket's, as ``unix:/path``; of others, nothing is known.
    """
    path = address.removeprefix("unix:")
    if path == address:
        return False
    try:
        lock = os.open(path + _LOCK, _OPEN | os.O_RDONLY)
    except OSError:  # on another machine, or in another container
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # several members may look at once
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _belongs_to_us(folder: Path) -> bool:
    status = folder.lstat()
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and stat.S_IMODE(status.st_mode) == _MODE
    )


def _remove_left_over(folder: Path) -> None:
    """Remove sockets of processes that were killed."""
    old = time.time() - _LEFT_AFTER
    for path in list(folder.glob("*.sock"))[:_MOST]:
        with suppress(OSError):
            if path.lstat().st_mtime < old and _is_left_over(path):
                path.unlink()
                Path(f"{path}{_LOCK}").unlink()


def _is_left_over(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        return False
