"""Version of a file: what changes when the file does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

__all__ = ["Version", "version_of"]

Version = tuple[int, int, int] | None
"""Inode, time of the last change (nanoseconds) and size; None for a file that cannot be seen."""


def version_of(path: str | os.PathLike[str]) -> Version:
    """Return the present version of a file; a symbolic link is followed."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
