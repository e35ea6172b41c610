"""Paths that people name, folders that are made, and reading files within bounds.

``open_beneath`` follows no link, on the way or at the end: what it opens lies below the folder,
also where somebody exchanges folders for links meanwhile. (A hard link is a file like any other.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ratectl.errors import UsageError
from ratectl.urls import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CLOSED", "ENTERABLE", "make_folder", "named_path", "open_beneath", "read_at_most", "read_file",
]  # fmt: skip

CLOSED: Final = 0o700
"""Mode of a folder that is for its owner alone."""

ENTERABLE: Final = 0o711
"""Mode of a folder in which others may open a file whose name they know; they cannot list it."""

_CHUNK: Final = 16_384
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


def named_path(what: str, given: object) -> Path:
    """Return the path that somebody gave, for ``what`` (a word for the error).

    An empty one would mean the working directory, which nobody named. ``Path("")`` cannot be told
    from ``Path(".")``: a text ``"."`` can.

    :raises UsageError: it is empty or blank, no text or path, or a URL.
    """
    if isinstance(given, bytes) or not isinstance(given, str | os.PathLike):
        raise UsageError(f"{what} is a path: write a text or a Path, not {type(given).__name__}")
    text = os.fspath(given)
    if not isinstance(text, str):
        raise UsageError(f"{what} is a path of text, not of {type(text).__name__}")
    if not text.strip():
        raise UsageError(f"{what} is empty: name it, or leave it out")
    if text == "." and not isinstance(given, str):
        raise UsageError(
            f"{what} is an empty Path, or the working directory: write '.' or Path.cwd() for that"
        )
    if "\0" in text:
        raise UsageError(f"{what} holds a null character, which no path does")
    if "://" in text:
        raise UsageError(f"{what} is a path, and {shown(text)!r} is a URL")
    return Path(text)


def make_folder(path: Path, mode: int) -> None:
    """Make a folder and those above it that are not there, each with exactly this mode.

    A folder that is there keeps its mode.

    :raises OSError: it could not be made.
    """
    missing = [each for each in (path, *path.parents) if not os.path.lexists(each)]
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # somebody else was faster
            folder.mkdir(mode)
            folder.chmod(mode)  # whatever the process's umask takes away
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def open_beneath(root: str, parts: Sequence[str]) -> int:
    """Open the regular file at ``parts`` below the folder ``root``, following no link.

    :raises OSError: there is none, it cannot be read, or something on the way is a link by now.
    """
    folder = os.open(root, _FOLDER)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        file = os.open(parts[-1], _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no regular file")
    return file


def read_at_most(file: int, limit: int) -> bytes:
    """Read an open file to its end, or to its first ``limit`` bytes; the rest stays unread."""
    chunks: list[bytes] = []
    size = 0
    while size < limit:
        # In chunks: asking for so many at once would clear as much memory, and a pipe gives less.
        data = os.read(file, min(_CHUNK, limit - size))
        if not data:
            break
        chunks.append(data)
        size += len(data)
    return b"".join(chunks)


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """Read a file that somebody named: at most ``limit`` bytes, whatever it is.

    :raises OSError: it cannot be read, or holds more than that.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = read_at_most(file, limit + 1)
    finally:
        os.close(file)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", os.fspath(path))
    return data
