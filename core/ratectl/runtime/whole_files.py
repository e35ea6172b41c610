"""Write files whole: a reader sees the old contents or the new, never a part."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ratectl.runtime.owners import owner_note, this_user
from ratectl.runtime.private_files import create_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "holds_just", "leads_out", "replace_file", "write_all", "write_together", "write_whole",
]  # fmt: skip

_READABLE = 0o666
"""As a new file is by default; the process's umask takes its bits away."""

_EFFECTIVE: Final = os.access in os.supports_effective_ids
"""True if the system can tell what the effective user may do, not only the real one."""


def write_whole(path: Path, data: bytes) -> None:
    """Write or replace a file at once. One that is there keeps its mode, its owner and its links.

    :raises OSError: it could not be written; what was there is untouched.
    """
    write_together({path: data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write or replace files as ``write_whole`` does: all of them, or none.

    Into a device or a pipe (``/dev/null``, ``/dev/stdout``) the data is written, as a shell does.

    :raises OSError: one could not be written; what was there is untouched.
    """
    special = {path for path in files if _is_special(path)}
    targets = {path: Path(os.path.realpath(path)) for path in files if path not in special}
    with ExitStack() as drafts:
        ready = {}
        for path in special:
            with path.open("wb") as device:
                device.write(files[path])
        for path, data in files.items():
            if path in special:
                continue
            with _about(path, "no file was changed" if len(files) > 1 else ""):
                ready[path] = drafts.enter_context(_beside(targets[path], data))
        for path, draft in ready.items():
            with _about(path):
                draft.replace(targets[path])


def _is_special(path: Path) -> bool:
    """Return True for a device, a pipe or a socket, also behind links: it is never replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def replace_file(target: Path, data: bytes, mode: int) -> None:
    """Write or replace a file at once, with this mode; a link is replaced, and not followed.

    :raises OSError: it could not be written; what was there is untouched.
    """
    with _beside(target, data, mode) as draft:
        draft.replace(target)


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


@contextmanager
def _about(path: Path, note: str = "") -> Iterator[None]:
    """Let an error name the file that was asked for, not one beside it."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        if note:
            error.add_note(note)
        raise


@contextmanager
def _beside(target: Path, data: bytes, mode: int | None = None) -> Iterator[Path]:
    """Write a draft of a file into its folder; one that is still there at the end is removed."""
    draft = target.with_name(f".ratectl-{secrets.token_hex(8)}")
    try:
        yield _draft(draft, target, data, mode)
    finally:
        draft.unlink(missing_ok=True)


def _draft(draft: Path, target: Path, data: bytes, mode: int | None = None) -> Path:
    """Write a draft of a file. ``mode``: by default mode and owner of the file that is there.

    :raises OSError: it could not be written, or this user may not write the file that is there.
    """
    status = _status(target) if mode is None else None
    if status is not None and not os.access(target, os.W_OK, effective_ids=_EFFECTIVE):
        raise _not_writable(target)
    with create_private(draft) as new:
        new.write(data)
        new.flush()
        os.fsync(new.fileno())
        if status is not None:
            _give(new.fileno(), status, target)
        os.fchmod(new.fileno(), _mode(status) if mode is None else mode)
    return draft


def _give(file: int, status: os.stat_result, target: Path) -> None:
    """Give a new file the owner and the group of the one that it replaces."""
    now = os.fstat(file)
    if (now.st_uid, now.st_gid) == (status.st_uid, status.st_gid):
        return
    try:
        os.fchown(file, status.st_uid, status.st_gid)
    except PermissionError:
        raise _not_writable(target) from None


def _not_writable(target: Path) -> PermissionError:
    error = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    error.add_note(f"let {this_user()} own and write it, or run ratectl as its owner")
    if note := owner_note(str(target)):
        error.add_note(note)
    return error


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


def _status(target: Path) -> os.stat_result | None:
    """Return the status of the file that will be replaced; None if there is no regular file."""
    try:
        status = target.lstat()
    except FileNotFoundError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _mode(status: os.stat_result | None) -> int:
    """Return the mode of the file with this status, or that of a new file."""
    if status is not None:
        return status.st_mode & 0o7777
    mask = os.umask(0)
    os.umask(mask)
    return _READABLE & ~mask
