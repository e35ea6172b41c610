"""Read-only calls of the program ``git``.

The author of a change chooses the files of a work tree, but cannot add a ``.git``: Git refuses to
commit one. So the repository asked is the one whose ``.git`` is nearest. Without this rule, Git
also accepts a folder with the files ``HEAD``, ``objects`` and ``refs`` as a repository, and runs
commands from the settings in it.
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

_HOOK_VARIABLES: Final = frozenset((
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR", "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX", "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE",
))  # fmt: skip
"""Variables that Git sets in hooks. They name the hook's repository; we ask that of the path."""

_SAFE: Final = (
    "--no-pager",
    "--literal-pathspecs",
    "-c", "safe.bareRepository=explicit",
    "-c", "core.fsmonitor=",
    "-c", "core.hooksPath=/dev/null",
)  # fmt: skip
"""Options that keep Git from running commands. An empty monitor is off in every version."""

_BARE: Final = ("HEAD", "objects", "refs")
"""Files by which Git recognises a repository without a work tree."""


class GitFailed(Exception):
    """Raised when Git is not installed, takes too long, or fails; the text is Git's."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code
        """Exit code of Git; None if it did not run to its end."""


class NoRepository(GitFailed):
    """Raised when a folder is in no repository."""


def work_tree(folder: Path) -> Path | None:
    """Return the nearest folder, at or above this one, that holds a ``.git``."""
    return next((path for path in _upwards(folder) if os.path.lexists(path / ".git")), None)


def ask(folder: Path, *words: str, given: bytes = b"", seconds: float = 5.0) -> bytes:
    """Return Git's output for a command in the work tree that contains ``folder``.

    :raises GitFailed: there is no work tree, or the command fails.
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
    """Return the value of a setting of the work tree that contains ``folder``, else of the user.

    :raises GitFailed: it is not set.
    """
    return _run(work_tree(folder) or Path(os.sep), ("config", name), b"", 5.0)


def _upwards(folder: Path) -> Iterator[Path]:
    """Yield a folder and its parents, up to one in ``GIT_CEILING_DIRECTORIES``."""
    try:
        real = folder.resolve()
    except (OSError, RuntimeError):
        raise GitFailed(f"{folder} cannot be found") from None
    ceilings = os.environ.get("GIT_CEILING_DIRECTORIES", "").split(os.pathsep)
    yield real
    yield from takewhile(lambda path: str(path) not in ceilings, real.parents)


def _looks_bare(folder: Path) -> bool:
    return all(os.path.lexists(folder / name) for name in _BARE)


def _run(top: Path, words: tuple[str, ...], given: bytes, seconds: float) -> bytes:
    environment = {name: value for name, value in os.environ.items() if name not in _HOOK_VARIABLES}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603  fixed words; users' words come after a separator
            ["git", "-C", str(top), *_SAFE, *words],  # noqa: S607  the user's git
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
