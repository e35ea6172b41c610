"""Acting as another user: tests run as root call a function in an unprivileged child process."""

from __future__ import annotations

import os
import pickle
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["NOBODY", "as_user", "open_folder", "require_root"]

T = TypeVar("T")

NOBODY = 65534
"""Id of a user without any rights."""


def require_root() -> None:
    """Skip the test unless it runs as root."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that all users may enter; pytest's own folders are private."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_user(user: int, body: Callable[[], T]) -> T:
    """Run ``body`` in a child process of this user. Return its result, or raise its exception.

    Import all needed modules before: the user may not be allowed to read them.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            outcome: tuple[bool, object] = (True, body())
        except BaseException as error:  # noqa: BLE001 - raised in the parent
            outcome = (False, error)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(pickle.dumps(outcome))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    done, value = pickle.loads(data)
    if not done:
        raise value
    return value
