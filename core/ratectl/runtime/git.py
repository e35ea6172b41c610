"""Asking Git, as a program of its own: nothing here writes to a repository or a work tree.

Who proposes a change chooses the files of a work tree, but never a ``.git``: Git itself refuses to
commit one. So the repository that answers is the one whose ``.git`` is nearest. Left alone, Git
would also take a folder with the files ``HEAD``, ``objects`` and ``refs`` for a repository, and
run the commands that the settings beside them name.
"""

from __future__ import annotations

import os
import subprocess
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GitFailed", "NoRepository", "ask", "setting", "work_tree"]

_OTHERS_BUSINESS: Final = frozenset((
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR", "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX", "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE",
))  # fmt: skip
"""Set in hooks, where they name the repository that runs the hook: ours is the one of the path."""

_SAFE: Final = (
    "--no-pager",
    "--literal-pathspecs",
    "-c", "safe.bareRepository=explicit",
    "-c", "core.fsmonitor=",
    "-c", "core.hooksPath=/dev/null",
)  # fmt: skip
"""Keeps Git from running commands. The empty monitor is none for every version of Git."""

_BARE: Final = ("HEAD", "objects", "refs")
"""The files by which Git knows a repository that has no work tree."""


class GitFailed(Exception):
    """Raised when Git is not installed, takes too long, or refuses; the text is its own."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code
        """Exit code of Git, where it ended by itself."""


class NoRepository(GitFailed):
    """Raised when a folder lies in no repository."""


def work_tree(folder: Path) -> Path | None:
    """Return the nearest folder, at or above this one, that holds a ``.git``."""
    return next((each for each in _upwards(folder) if os.path.lexists(each / ".git")), None)


def ask(folder: Path, *words: str, given: bytes = b"", seconds: float = 5.0) -> bytes:
    """Return the answer of Git in the work tree that holds ``folder``.

    :raises GitFailed: there is none.
    """
    top = work_tree(folder)
    if top is not None:
        return _run(top, words, given, seconds)
    bare = next(filter(_looks_bare, _upwards(folder)), None)
    if bare is None:
        raise NoRepository(f"{folder} lies in no Git repository")
    raise GitFailed(
        f"{bare} is a bare Git repository, or looks like one; use a work tree (git clone)"
    )


def setting(folder: Path, name: str) -> bytes:
    """Return the value of a setting of the work tree that holds ``folder``, else of the user.

    :raises GitFailed: nobody has set it.
    """
    return _run(work_tree(folder) or Path(os.sep), ("config", name), b"", 5.0)


def _upwards(folder: Path) -> Iterator[Path]:
    """Yield a folder and those above it, up to where the user wants no repository looked for."""
    try:
        real = folder.resolve()
    except (OSError, RuntimeError):
        raise GitFailed(f"{folder} cannot be found") from None
    ceilings = os.environ.get("GIT_CEILING_DIRECTORIES", "").split(os.pathsep)
    yield real
    yield from takewhile(lambda each: str(each) not in ceilings, real.parents)


def _looks_bare(folder: Path) -> bool:
    return all(os.path.lexists(folder / name) for name in _BARE)


def _run(top: Path, words: tuple[str, ...], given: bytes, seconds: float) -> bytes:
    environment = {
        name: value for name, value in os.environ.items() if name not in _OTHERS_BUSINESS
    }
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603  fixed words; what users give comes after a separator
            ["git", "-C", str(top), *_SAFE, *words],  # noqa: S607  the user's own
            input=given,
            capture_output=True,
            timeout=seconds,
            check=False,
            env=environment,
        )
    except FileNotFoundError:
        raise GitFailed("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise GitFailed(f"git did not answer within {seconds:g} s") from None
    except OSError as error:
        raise GitFailed(f"git cannot be run: {(error.strerror or str(error)).lower()}") from None
    if done.returncode:
        text = done.stderr.decode(errors="replace").strip()
        first = text.splitlines()[0] if text else f"git failed with code {done.returncode}"
        raise GitFailed(first.removeprefix("fatal: "), done.returncode)
    return done.stdout
