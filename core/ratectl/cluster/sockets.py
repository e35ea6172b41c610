"""Unix sockets of the members on one machine: where they are, and those that are left over."""

from __future__ import annotations

import os
import secrets
import socket
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["SocketPlace"]

_LONGEST: Final = 100
"""Most bytes of the path of a Unix socket: macOS allows 103, Linux 107."""
_LEFT_AFTER: Final = 60.0
"""A socket that is younger may belong to a process that does not listen yet."""
_MOST: Final = 1_000
_MODE: Final = 0o700


class SocketPlace:
    """Path of a new socket, in a folder of this user alone.

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

    def close(self) -> None:
        """Remove the folder, if it is this process's own. The socket has gone before."""
        if self._is_own:
            with suppress(OSError):
                Path(self.path).parent.rmdir()


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


def _is_left_over(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        return False
