"""Owners of files, and the user of this process, by their names."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

try:
    import grp
    import pwd
except ImportError:  # not on Windows
    grp = pwd = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["owner_note", "this_user"]


def this_user() -> str:
    """Return the name of the user whose permissions this process has, or ``user 1000``."""
    return _name_of_user(os.geteuid())


def owner_note(path: str) -> str | None:
    """Return a sentence about the owner of a file or folder; None if nobody may tell."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    what = "folder" if stat.S_ISDIR(status.st_mode) else "file"
    user, group = _name_of_user(status.st_uid), _name_of_group(status.st_gid)
    return (
        f"the {what} belongs to {user} and {group}, "
        f"with the permissions {stat.filemode(status.st_mode)[1:]}; ratectl runs as {this_user()}"
    )


def _name_of_user(number: int) -> str:
    return _named("user", number, lambda: pwd.getpwuid(number).pw_name)


def _name_of_group(number: int) -> str:
    return _named("group", number, lambda: grp.getgrgid(number).gr_name)


def _named(what: str, number: int, name: Callable[[], str]) -> str:
    try:
        return f"{what} {name()}"
    except (KeyError, AttributeError):  # no such entry, as in many containers
        return f"{what} {number}"
