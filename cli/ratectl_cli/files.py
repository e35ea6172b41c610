"""Writing files whole: a reader sees what was there or what is there now, never a part."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_whole"]

_READABLE = 0o666
"""As a new file is by default; the process's umask takes its bits away."""


def write_whole(path: Path, data: bytes) -> None:
    """Write or replace a file at once. One that is there keeps its mode, and its links.

    :raises OSError: it could not be written; what was there is untouched.
    """
    try:
        _replace(Path(os.path.realpath(path)), data)
    except OSError as error:  # of the file that was asked for, not of one beside it
        raise OSError(error.errno, error.strerror, str(path)) from error


def _replace(target: Path, data: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".ratectl-", delete=False) as new:
        try:
            new.write(data)
            new.flush()
            os.fsync(new.fileno())
            os.fchmod(new.fileno(), _mode(target))
            Path(new.name).replace(target)
        except BaseException:
            Path(new.name).unlink(missing_ok=True)
            raise


def _mode(target: Path) -> int:
    try:
        return target.stat().st_mode & 0o7777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return _READABLE & ~mask
