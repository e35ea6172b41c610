"""Checks of paths, creation of folders, and reads of files with size limits.

``Beneath`` follows no symbolic link: a file that it opens lies below the folder, even if somebody
replaces folders by links meanwhile. (A hard link is a file like any other.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ratectl.errors import UsageError
from ratectl.runtime.closing import Closing
from ratectl.runtime.urls import looks_like_url, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CLOSED", "ENTERABLE", "NOT_REGULAR", "Beneath", "left_repository", "make_folder", "named_path",
    "parts_below", "read_at_most", "read_file",
]  # fmt: skip

CLOSED: Final = 0o700
"""Mode of a folder for its owner alone."""

ENTERABLE: Final = 0o711
"""Mode of a folder in which others may open a file whose name they know; they cannot list it."""

NOT_REGULAR: Final = "it is no regular file"

_CHUNK: Final = 16_384
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


def named_path(what: str, given: object) -> Path:
    """Return an argument as a path. ``what`` names the argument in errors.

    An empty argument is refused: it would mean the working directory. ``Path("")`` equals
    ``Path(".")``, so both are refused; the text ``"."`` is accepted.

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
    if "://" in text or looks_like_url(text):
        raise UsageError(f"{what} is a path, and {shown(text)!r} is a URL")
    return Path(text)


def make_folder(path: Path, mode: int) -> None:
    """Create a folder and its missing parents, each with exactly this mode.

    An existing folder keeps its mode.

    :raises OSError: a folder could not be created.
    """
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process created it
            folder.mkdir(mode)
            folder.chmod(mode)  # the umask may have removed bits
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def parts_below(root: str, real: str) -> tuple[str, ...] | None:
    """Return the parts of a real path from a real folder; None where it is not below that.

    A path with a hidden part counts as not below: Git's own files may hold credentials. (Names
    that begin with two dots are not hidden: Kubernetes mounts files behind ``..data``.)
    """
    above = f"{root.rstrip('/')}/"
    if not real.startswith(above):
        return None
    parts = tuple(real[len(above) :].split("/"))
    hidden = any(part.startswith(".") and not part.startswith("..") for part in parts)
    return None if hidden else parts


def left_repository(path: str) -> str | None:
    """Return the Git work tree that contains a path, if links in the path lead out of it.

    Return None if they do not. The author of a commit is not the user who runs a command on it: a
    link in a repository must not choose what the command reads. Other links are followed.
    """
    try:
        real = os.path.realpath(path)
        folder = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120 - keeps links
    except (OSError, ValueError):  # the working directory is gone, or it cannot be a path
        return None
    while True:
        if os.path.lexists(f"{folder}/.git"):
            top = os.path.realpath(folder)
            git = f"{top.rstrip('/')}/.git"
            if real == git or real.startswith(f"{git}/") or not _is_within(real, top):
                return folder
        above = os.path.dirname(folder)  # noqa: PTH120
        if above == folder:
            return None
        folder = above


def _is_within(real: str, top: str) -> bool:
    return real == top or real.startswith(f"{top.rstrip('/')}/")


class Beneath(Closing):
    """Opener of regular files below folders. It follows no link, and keeps the last folder open."""

    def __init__(self) -> None:
        self._place: tuple[str, Sequence[str]] | None = None
        self._folder = -1

    def open(self, root: str, parts: Sequence[str]) -> int:
        """Open the file at ``parts`` below the folder ``root``, for reading.

        :raises OSError: there is none, it cannot be read, or a part of the path is a link.
        """
        file = os.open(parts[-1], _FILE, dir_fd=self._enter(root, parts[:-1]))
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise OSError(errno.EINVAL, NOT_REGULAR)
        return file

    def _enter(self, root: str, parts: Sequence[str]) -> int:
        if self._place != (root, parts):
            self.close()
            self._folder = os.open(root, _FOLDER)
            for part in parts:
                outer = self._folder
                self._folder = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=outer)
                os.close(outer)
            self._place = root, parts
        return self._folder

    def close(self) -> None:
        """Close the folder. Safe to call twice."""
        self._place = None
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1


def read_at_most(file: int, limit: int) -> bytes:
    """Read an open file to its end, or to its first ``limit`` bytes; the rest stays unread."""
    chunks: list[bytes] = []
    size = 0
    while size < limit:
        # In chunks: one large read would allocate as much memory, and a pipe returns less.
        data = os.read(file, min(_CHUNK, limit - size))
        if not data:
            break
        chunks.append(data)
        size += len(data)
    return b"".join(chunks)


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the contents of a file of any kind: at most ``limit`` bytes.

    :raises OSError: it cannot be read, or is larger.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = read_at_most(file, limit + 1)
    finally:
        os.close(file)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", os.fspath(path))
    return data
