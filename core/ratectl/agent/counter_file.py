"""File of the buckets of one agent, for its next process.

One JSON value a line: some buckets of one limit. The last line but one describes the whole, and
the last is a keyed hash of all lines before it. So a file that is damaged, or that was written
under another secret, is refused before anything of it is used. The pure engine keeps keys as texts,
so the file is for its owner alone (mode 0600).
"""

from __future__ import annotations

import errno
import hmac
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from ratectl.engine.keeping import KeptBuckets
from ratectl.runtime.closing import Closing
from ratectl.runtime.private_files import create_private, open_regular, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["CounterFile", "OpenSnapshot", "Snapshot"]

_FORMAT: Final = 1
_MOST_LINE: Final = 16 << 20
_MOST_BYTES: Final = 4 << 30
"""Largest file that is written or read."""

_DAMAGED: Final = "it is damaged, or was written under another secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Description of all buckets in a file."""

    engine: str
    """Engine that wrote it: each keeps keys in its own form."""
    environment: str | None
    generation: int
    bundle: str
    """Bundle that was in force."""
    time: int
    """Wall clock, in nanoseconds since 1970, when the first bucket was read."""
    latest: int
    """Latest time that the wall clock had shown until then."""
    offset: int
    """Nanoseconds by which the wall clock was ahead of the engine's clock."""
    started: str
    """Time at which the counting began, perhaps in an earlier process (ISO 8601, UTC)."""
    handled: int | None
    """Sequence of the last reset that was handled; None if resets were never read."""


class CounterFile:
    """Buckets of one agent on disk. ``secret``: that of its keys."""

    def __init__(self, path: Path, secret: bytes) -> None:
        self.path = path
        self._key = blake2b(secret, digest_size=32, person=b"ratectl counts").digest()

    def write(self, parts: Iterable[KeptBuckets], snapshot: Snapshot) -> None:
        """Replace the file: write a new one, sync it, rename it.

        An exception, also of ``parts``, leaves the file as it was.

        :raises OSError: writing failed (for example: disk full).
        """
        beside = self.path.with_name(f"{self.path.name}.new")
        beside.unlink(missing_ok=True)  # of a process that was killed
        try:
            with create_private(beside) as file:
                self._write_lines(file, parts, snapshot)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        sync_folder(self.path.parent)

    def _write_lines(
        self, file: BinaryIO, parts: Iterable[KeptBuckets], snapshot: Snapshot
    ) -> None:  # fmt: skip
        seal, size = blake2b(key=self._key), 0
        last: dict[str, object] = {"format": _FORMAT, **asdict(snapshot)}
        for value in chain[object](parts, [last]):
            line = json.dumps(value, separators=(",", ":"), default=_long_key).encode() + b"\n"
            size += len(line)
            if size > _MOST_BYTES:
                raise OSError(errno.EFBIG, f"it would have more than {_MOST_BYTES >> 30} GiB")
            seal.update(line)
            file.write(line)
        file.write(seal.hexdigest().encode() + b"\n")

    def open(self) -> OpenSnapshot:
        """Return the buckets on disk.

        :raises OSError: there is no file, or it cannot be read.
        :raises ValueError, KeyError, TypeError: it is not intact, or of another version.
        """
        file = open_regular(self.path)
        try:
            return OpenSnapshot(file, self._described(file))
        except BaseException:
            file.close()
            raise

    def _described(self, file: BinaryIO) -> Snapshot:
        """Check the file's seal, and return what the line before it says."""
        if os.fstat(file.fileno()).st_size > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES >> 30} GiB")
        seal = blake2b(key=self._key)
        before = last = b""
        for line in iter(lambda: file.readline(_MOST_LINE), b""):
            seal.update(last)
            before, last = last, line
        if not hmac.compare_digest(last, seal.hexdigest().encode() + b"\n"):
            raise ValueError(_DAMAGED)
        value = json.loads(before)
        if value.pop("format") != _FORMAT:
            raise ValueError("another version of ratectl has written it")
        return Snapshot(**value)


class OpenSnapshot(Closing):
    """An open file of buckets whose seal is intact."""

    def __init__(self, file: BinaryIO, snapshot: Snapshot) -> None:
        self._file = file
        self.snapshot = snapshot

    def parts(self) -> Iterator[KeptBuckets]:
        """Yield the buckets.

        :raises ValueError, TypeError, KeyError: a line is malformed, though the seal is intact.
        """
        self._file.seek(0)
        line = self._file.readline(_MOST_LINE)
        while line.startswith(b"["):
            yield _part(json.loads(line))
            line = self._file.readline(_MOST_LINE)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._file.close()


def _long_key(key: object) -> dict[str, str]:
    """Return the digest of a long key in JSON."""
    if not isinstance(key, bytes):
        raise TypeError(f"{type(key).__name__} is no part of a bucket")
    return {"long": key.hex()}


def _part(value: Any) -> KeptBuckets:
    group, rule, default, shared, buckets = value
    return KeptBuckets(
        _tuples(group),
        rule,
        None if default is None else _tuples(default),
        [(slot, _tuples(state)) for slot, state in shared],
        [(_tuples(key), _tuples(state)) for key, state in buckets],
    )


def _tuples(value: Any) -> Any:
    """Return what JSON has made of tuples, and of the digests of long keys."""
    if type(value) is list:
        return tuple([_tuples(each) for each in value])
    return bytes.fromhex(value["long"]) if type(value) is dict else value
