"""Owners of files, and the user of this process, by their names."""

from __future__ import annotations

import os
import stat

try:
    import grp
    import pwd
except ImportError:  # not on Windows
    grp = pwd = None  # type: ignore[assignment]

__all__ = ["owner_note", "this_user", "user_name"]


def user_name(number: int) -> str:
    """Return the name of a user, or the number of one that has no entry, as in many containers."""
    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, AttributeError):
        return str(number)


def this_user() -> str:
    """Return the name of the user whose permissions this process has, or ``user 1000``."""
    return f"user {user_name(os.geteuid())}"


def owner_note(path: str) -> str | None:
    """Return a sentence about the owner of a file or folder; None if nobody may tell."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    what = "folder" if stat.S_ISDIR(status.st_mode) else "file"
    user, group = user_name(status.st_uid), _group_name(status.st_gid)
    return (
        f"the {what} belongs to user {user} and group {group}, "
        f"with the permissions {stat.filemode(status.st_mode)[1:]}; ratectl runs as {this_user()}"
    )


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except (KeyError, AttributeError):
        return str(number)
