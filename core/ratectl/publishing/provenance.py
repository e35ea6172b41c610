"""Provenance of a generation: its author, and the state of the repository it comes from."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ratectl.runtime.git import GitFailed, NoRepository, ask, setting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Provenance", "author", "gather"]

_NO_COMMIT_YET = 1
"""Exit code of ``git rev-parse --verify --quiet HEAD`` in a repository without commits."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Author of a generation, reason, and the state of the repository it comes from."""

    author: str
    message: str = ""
    commit: str | None = None
    dirty: bool | None = None
    """True if files below the path differ from the commit."""
    passed: Mapping[str, str] = field(default_factory=dict)
    """Guards that objected (see ``ratectl.changes.guards``), and the reason given for each."""
    set: str | None = None
    """Set that is published (see ``ratectl.publishing.ownership``); None for a whole tree."""


def gather(
    path: str | os.PathLike[str],
    message: str = "",
    *,
    by: str | None = None,
    warn: Callable[[str], None] | None = None,
) -> Provenance:
    """Return the provenance of publishing the policies at ``path``.

    ``by``: the author. Default: ``RATECTL_AUTHOR``, else Git's ``user.name <user.email>``, else
    user@host. Never fails: a fact that cannot be found out is None; inside a repository ``warn`` is
    called with the cause.
    """
    place = Path(path)
    folder = place if place.is_dir() else place.parent
    commit = dirty = None
    try:
        commit = _text(ask(folder, "rev-parse", "--verify", "--quiet", "HEAD"))
        dirty = bool(ask(folder, "status", "--porcelain", "--", str(place.resolve())).strip())
    except NoRepository:
        pass
    except GitFailed as error:
        if warn is not None and error.code != _NO_COMMIT_YET:
            missing = "commit" if commit is None else "state of the work tree"
            warn(f"the {missing} is not recorded: {error}")
    return Provenance(by or author(folder), message, commit, dirty)


def author(folder: Path) -> str:
    """Return the author of a change made in ``folder`` (see ``gather``)."""
    named = os.environ.get("RATECTL_AUTHOR")
    if named:
        return named
    name, email = _setting(folder, "user.name"), _setting(folder, "user.email")
    if name:
        return f"{name} <{email}>" if email else name
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _setting(folder: Path, name: str) -> str | None:
    try:
        return _text(setting(folder, name))
    except GitFailed:
        return None


def _text(answer: bytes) -> str:
    return answer.decode(errors="replace").strip()
