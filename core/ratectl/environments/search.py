"""Find `ratectl.yaml`, and refuse a file that another user could have written.

The search begins in the working directory and ends at the top of its Git work tree. Without a work
tree only the working directory is searched. The nearest file counts, alone.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ratectl.environments.project import parse_project
from ratectl.errors import Refused, UsageError
from ratectl.policy.loading.files import SETTINGS as FILE
from ratectl.policy.loading.files import is_settings
from ratectl.runtime.files import NOT_REGULAR, left_repository, read_at_most
from ratectl.runtime.git import GitFailed, work_tree
from ratectl.runtime.owners import user_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.environments.project import Project

__all__ = ["find_project", "read_project"]

_MAX_BYTES: Final = 256 * 1024
_OTHER_NAME: Final = "ratectl.yml"
_ROOT: Final = 0
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


def find_project(folder: Path | None = None) -> Project | None:
    """Return the settings for a folder (default: the working directory); None without a file.

    :raises Refused: others may write the file, or it cannot be trusted for another reason.
    :raises UsageError: the file is not valid (``ProjectError``), or it has another name.
    """
    try:
        folders = list(_folders(folder or Path.cwd()))
    except (FileNotFoundError, GitFailed):  # the working directory is gone
        return None
    for place in folders:
        if os.path.lexists(place / FILE):
            return read_project(place / FILE)
        if _holds_settings(place / _OTHER_NAME):
            raise UsageError(f"{place / _OTHER_NAME} is not read: rename it to {FILE}")
    return None


def _holds_settings(path: Path) -> bool:
    """Return True for a file of settings; a file of policies may have the same name."""
    try:
        file = os.open(path, _FLAGS)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(file).st_mode) and is_settings(read_at_most(file, _MAX_BYTES))
    finally:
        os.close(file)


def _folders(folder: Path) -> Iterator[Path]:
    """Yield a folder and its parents, up to the top of its Git work tree."""
    here, top = folder.resolve(), work_tree(folder)
    yield here
    while top is not None and here != top:
        here = here.parent
        yield here


def read_project(path: Path) -> Project:
    """Return the settings in a file; raises as ``find_project`` does."""
    outside = left_repository(str(path))
    if outside is not None:
        raise _refused(path, f"it is a link that leads out of the repository {outside}")
    try:
        _check_trusted(path, os.lstat(path))
        file = os.open(path, _FLAGS)
        try:
            return parse_project(_contents(path, file), path)
        finally:
            os.close(file)
    except OSError as error:
        why = error.strerror or str(error)
        raise _refused(path, f"it cannot be read ({why.lower()})") from None


def _contents(path: Path, file: int) -> bytes:
    info = os.fstat(file)
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, NOT_REGULAR)
    _check_trusted(path, info)
    data = read_at_most(file, _MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {_MAX_BYTES} bytes")
    return data


def _check_trusted(path: Path, info: os.stat_result) -> None:
    """Return if only this user, or root, can have written the file or the link.

    :raises Refused: somebody else can have.
    """
    if info.st_uid not in (os.geteuid(), _ROOT):
        raise _refused(path, f"it belongs to another user ({user_name(info.st_uid)})")
    if stat.S_ISLNK(info.st_mode):
        return  # everybody has all permissions of a link, and only its owner can change it
    if info.st_mode & stat.S_IWOTH:
        raise _refused(path, "every user may write it", f"chmod o-w {path}")
    if info.st_mode & stat.S_IWGRP and not _is_own_group(info.st_gid):
        raise _refused(path, "its group may write it", f"chmod g-w {path}")


def _is_own_group(gid: int) -> bool:
    """Return True for a group that has this user's name and no other member.

    Many systems give each user such a group, and let it write the user's files.
    """
    try:
        me, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == me.pw_name and set(group.gr_mem) <= {me.pw_name}


def _refused(path: Path, why: str, remedy: str | None = None) -> Refused:
    error = Refused(f"{path} is not used: {why}")
    error.add_note(
        remedy or "name the store with --store and the policies with PATH, and the file is not read"
    )
    return error
