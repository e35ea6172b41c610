"""Who publishes, and from which state of which repository."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from ratectl.publishing.publish import Provenance
from ratectl.runtime.git import GitFailed, NoRepository, ask, setting

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["author", "gather"]

_NO_COMMIT_YET = 1
"""Exit code of ``git rev-parse --verify --quiet HEAD`` in a repository without commits."""


def gather(
    path: str | os.PathLike[str], message: str = "", *, warn: Callable[[str], None] | None = None
) -> Provenance:
    """Return the provenance of publishing what lies at ``path``.

    The author is ``RATECTL_AUTHOR``, else Git's ``user.name <user.email>``, else user@host.
    ``dirty``: whether files below ``path`` differ from the commit. Never fails: what cannot be
    found out is None, and ``warn`` is told why where there is a repository.
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
    return Provenance(author(folder), message, commit, dirty)


def author(folder: Path) -> str:
    """Who acts, as ``gather`` says it."""
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
