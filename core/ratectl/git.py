"""Asking Git, as a program of its own: nothing here writes to a repository or a work tree."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["GitFailed", "ask"]

_OTHERS_BUSINESS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
"""Set in hooks, where they name the repository that runs the hook: ours is the one of the path."""


class GitFailed(Exception):
    """Git is not installed, took too long, or said no; the text is its own."""


def ask(folder: Path, *words: str, given: bytes = b"", seconds: float = 5.0) -> bytes:
    """What Git answers in ``folder``.

    :raises GitFailed: it does not.
    """
    environment = {
        name: value for name, value in os.environ.items() if name not in _OTHERS_BUSINESS
    }
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603  fixed words; what users give comes after a separator
            ["git", "-C", str(folder), "--literal-pathspecs", *words],  # noqa: S607  the user's own
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
        raise GitFailed(first.removeprefix("fatal: "))
    return done.stdout
