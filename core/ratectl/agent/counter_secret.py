"""The secret under which an agent that keeps its counters numbers keys, in each of its processes.

All agents with one state directory have the same. Whoever knows it can search for keys that share a
bucket, so it is for its owner alone.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from ratectl.engine.stable_keys import MIN_SECRET_BYTES
from ratectl.runtime.files import CLOSED, make_folder, read_at_most
from ratectl.runtime.private_files import create_private, open_regular, sync_folder

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CounterSecret"]

_FILE: Final = "counters.secret"
_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class CounterSecret:
    """A secret of keys."""

    value: bytes
    problem: str | None = None
    """Why a later process will not have the same secret; None if it will."""

    @classmethod
    def of(cls, state_dir: Path) -> Self:
        """Return the secret in a state directory; the first call makes it. Never fails."""
        try:
            return cls(_kept(state_dir))
        except OSError as error:
            problem = f"counters are not kept: {state_dir / _FILE}: {error.strerror or error}"
            return cls(secrets.token_bytes(_BYTES), problem)


def _kept(state_dir: Path) -> bytes:
    path = state_dir / _FILE
    if not os.path.lexists(path):
        make_folder(state_dir, CLOSED)
        _make(path)
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise PermissionError(errno.EPERM, "others may read it: delete it, to get a new one")
        secret = read_at_most(file.fileno(), 1_024)
    if len(secret) < MIN_SECRET_BYTES:
        raise OSError(errno.EINVAL, "it is truncated: delete it, to get a new one")
    return secret


def _make(path: Path) -> None:
    """Write a new secret, unless another process is first."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with create_private(draft) as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)
