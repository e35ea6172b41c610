"""Who publishes, and from which state of which repository."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

from ratectl.git import GitFailed, ask
from ratectl.publish import Provenance

__all__ = ["author", "gather"]


def gather(path: str | os.PathLike[str], message: str = "") -> Provenance:
    """The provenance of publishing what lies at ``path``.

    The author is ``RATECTL_AUTHOR``, else Git's ``user.name <user.email>``, else user@host.
    ``dirty``: whether files below ``path`` differ from the commit. Never fails: what cannot be
    found out is None.
    """
    place = Path(path)
    folder = place if place.is_dir() else place.parent
    commit = _git(folder, "rev-parse", "HEAD")
    dirty = None
    if commit is not None:
        status = _git(folder, "status", "--porcelain", "--", str(place.resolve()))
        dirty = None if status is None else bool(status)
    return Provenance(author(folder), message, commit, dirty)


def author(folder: Path) -> str:
    """Who acts, as ``gather`` says it."""
    named = os.environ.get("RATECTL_AUTHOR")
    if named:
        return named
    name, email = _git(folder, "config", "user.name"), _git(folder, "config", "user.email")
    if name:
        return f"{name} <{email}>" if email else name
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _git(folder: Path, *words: str) -> str | None:
    try:
        return ask(folder, *words).decode(errors="replace").strip()
    except GitFailed:
        return None
