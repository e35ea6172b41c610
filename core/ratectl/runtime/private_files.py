"""Files for their owner alone, in folders that others may write to: no link is followed."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, BinaryIO

from ratectl.runtime.files import NOT_REGULAR

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["create_private", "open_regular", "sync_folder"]


def create_private(path: Path) -> BinaryIO:
    """Create a file with mode 0600, for writing.

    :raises OSError: something is there, or it cannot be created.
    """
    return open(path, "xb", opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading.

    :raises OSError: it cannot be read, or is a link, a folder, a pipe or a device.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    return os.fdopen(file, "rb")


def sync_folder(path: Path) -> None:
    """Write the names in a folder to the disk.

    :raises OSError: that failed.
    """
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
