"""Write files whole: a reader sees the old contents or the new, never a part."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["holds_just", "leads_out", "replace_file", "write_all", "write_whole"]

_READABLE = 0o666
"""As a new file is by default; the process's umask takes its bits away."""


def write_whole(path: Path, data: bytes) -> None:
    """Write or replace a file at once. One that is there keeps its mode, and its links.

    :raises OSError: it could not be written; what was there is untouched.
    """
    try:
        replace_file(Path(os.path.realpath(path)), data)
    except OSError as error:  # of the file that was asked for, not of one beside it
        raise OSError(error.errno, error.strerror, str(path)) from error


def replace_file(target: Path, data: bytes, mode: int | None = None) -> None:
    """Write or replace a file at once; a link is replaced, and not followed.

    ``mode``: default the mode of the file that is there, or that of a new file.

    :raises OSError: it could not be written; what was there is untouched.
    """
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".ratectl-", delete=False) as new:
        try:
            new.write(data)
            new.flush()
            os.fsync(new.fileno())
            os.fchmod(new.fileno(), _mode(target) if mode is None else mode)
            Path(new.name).replace(target)
        except BaseException:
            Path(new.name).unlink(missing_ok=True)
            raise


def write_all(root: Path, files: Mapping[str, bytes]) -> None:
    """Write or replace files below a folder, all of them or none; folders come with them.

    Everything that may want room is written beside them first. Paths are trusted here. A link that
    stands where a file goes is replaced, and what it leads to is not touched.

    :raises OSError: one could not be written; what was there is untouched.
    """
    with ExitStack() as folders:
        _make(root, folders)
        with tempfile.TemporaryDirectory(dir=root, prefix=".ratectl-") as stage, ExitStack() as was:
            drafts = [
                (_draft(Path(stage, f"{number}.new"), root / path, data), root / path)
                for number, (path, data) in enumerate(files.items())
            ]
            for draft, target in drafts:
                _make(target.parent, folders)
                _swap(draft, target, was)
            was.pop_all()
        folders.pop_all()


def leads_out(root: Path, folder: Path) -> bool:
    """Return True for a folder below ``root``, by its name, that is elsewhere, by its links."""
    real_root, real = os.path.realpath(root), os.path.realpath(folder)
    return os.path.commonpath((real_root, real)) != real_root


def holds_just(path: Path, data: bytes) -> bool:
    """Return True for a file, and no link to one, that holds just these bytes."""
    info = path.lstat()
    return stat.S_ISREG(info.st_mode) and info.st_size == len(data) and path.read_bytes() == data


def _draft(draft: Path, target: Path, data: bytes) -> Path:
    with draft.open("xb") as new:
        new.write(data)
        new.flush()
        os.fsync(new.fileno())
        os.fchmod(new.fileno(), _mode(target))
    return draft


def _swap(draft: Path, target: Path, was: ExitStack) -> None:
    """Put the draft in place; ``was`` will undo that."""
    before = draft.with_suffix(".old")
    try:
        os.link(target, before, follow_symlinks=False)
    except FileNotFoundError:
        was.callback(target.unlink, missing_ok=True)
    else:
        was.callback(before.replace, target)
    draft.replace(target)


def _make(folder: Path, made: ExitStack) -> None:
    """Make a folder and those above it; ``made`` will take away those that were not there."""
    if not folder.is_dir():
        _make(folder.parent, made)
        folder.mkdir()
        made.callback(folder.rmdir)


def _mode(target: Path) -> int:
    try:
        return target.stat().st_mode & 0o7777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return _READABLE & ~mask
