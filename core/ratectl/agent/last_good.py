"""State of an agent on disk: its id, and the last generation that it enforced (last-good).

In the state directory each store has a folder, and each agent process a slot in that folder, held
by a file lock for as long as the process lives. So a restarted process finds its id and generation
again, and two processes of one service never share an id.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import socket
from dataclasses import dataclass, replace
from functools import partial
from io import FileIO
from typing import TYPE_CHECKING, Any, Final

from ratectl.errors import BundleError
from ratectl.policy.bundle import digest
from ratectl.records import Head
from ratectl.runtime.files import CLOSED, make_folder
from ratectl.runtime.private_files import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["LastGood", "Slot", "slot_without_disk", "take_slot"]

_FORMAT: Final = 1
_MAX_SLOTS: Final = 4_096
_FILE: Final = "last-good"
_BEFORE: Final = "last-good.before"
_ACCEPTED: Final = "accepted"
_DAMAGED: Final = (
    OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, BundleError,
)  # fmt: skip
"""Errors of reading a damaged file."""


@dataclass(frozen=True, slots=True)
class LastGood:
    """A generation as persisted."""

    generation: int
    environment: str | None
    bundle: str
    head: Head
    """Head that names the generation, as the live one or as the candidate."""
    data: bytes
    """The bytes of the bundle."""

    @property
    def rollout(self) -> str | None:
        """The rollout that it was a candidate of; None for a live generation."""
        candidate = self.head.candidate
        tried = candidate is not None and candidate.generation == self.generation
        return candidate.rollout if candidate is not None and tried else None

    def named_by_head(self) -> bool:
        """Return True if the head names this generation with this bundle."""
        named = {(self.head.generation, self.head.bundle)}
        if self.head.candidate is not None:
            named.add((self.head.candidate.generation, self.head.candidate.bundle))
        return (self.generation, self.bundle) in named


class Slot:
    """A locked folder, or only a random id if the disk cannot be written."""

    def __init__(
        self, folder: Path | None, agent_id: str, lock: FileIO | None, problem: str | None
    ):
        self.folder = folder
        self.id = agent_id
        self.instance = secrets.token_hex(8) if folder is None else _persisted_instance(folder)
        """Random name of the slot. Two processes with one id, in two state directories, differ."""
        self.problem = problem
        """Why the slot persists nothing; None if it persists."""
        self.trouble: str | None = None
        """Error of the slot's own files at the last ``load``; None if they could be read."""
        self._lock = lock

    def load(self, usable: Callable[[LastGood], bool] = lambda _: True) -> LastGood | None:
        """Return the generation to start from; None if there is none.

        Tried in order: this slot's last-good, its previous one, those of the neighbour slots
        (newest first). A file is skipped if it is damaged, or if ``usable`` returns False or
        raises. The first error in this slot's own files goes to ``trouble``.

        :raises BundleError: this slot has files, and every one of them has an error.
        """
        self.trouble = None
        if self.folder is None:
            return None
        own = [path for name in (_FILE, _BEFORE) if os.path.lexists(path := self.folder / name)]
        declined = False
        for path in own:
            try:
                good = _read(path)
                if usable(good):
                    return good
                declined = True
            except BundleError as error:
                self.trouble = self.trouble or str(error)
        if self.trouble is not None and not declined:
            raise BundleError(self.trouble)
        return self._neighbours(usable)

    def _neighbours(self, usable: Callable[[LastGood], bool]) -> LastGood | None:
        assert self.folder is not None
        paths = [path for name in (_FILE, _BEFORE) for path in self.folder.parent.glob(f"*/{name}")]
        for path in sorted(paths, key=_age):
            # A neighbour reports the errors of its own files.
            with contextlib.suppress(BundleError):
                good = _read(path)
                # This agent may not be in the rollout that the neighbour joined.
                if good.rollout is None and usable(good):
                    return good
        return None

    def save(self, good: LastGood, has_served: Callable[[str], bool] = lambda _: False) -> None:
        """Persist a generation: write a new file, sync it, rename it. Keep the previous one.

        A previous bundle that ``has_served`` is not replaced by one that has not: after several
        bad generations in a row, a good one must still be on disk.

        :raises OSError: writing failed (for example: disk full); the old file is untouched.
        """
        if self.folder is None:
            return
        header = {
            "format": _FORMAT,
            "generation": good.generation,
            "environment": good.environment,
            "bundle": good.bundle,
            "head": json.loads(good.head.encode()),
        }
        beside = self.folder / f"{_FILE}.new"
        with beside.open("wb") as file:
            file.write(json.dumps(header).encode() + b"\n")
            file.write(good.data)  # a second write, since joining it to the header copies it
            file.flush()
            os.fsync(file.fileno())
        self._keep_before(good, has_served)
        beside.replace(self.folder / _FILE)
        sync_folder(self.folder)

    def _keep_before(self, good: LastGood, has_served: Callable[[str], bool]) -> None:
        """Keep the current file as the previous one, unless it has the same bundle or a candidate.

        A candidate is not kept: it may be bad.
        """
        assert self.folder is not None
        own, link = self.folder / _FILE, self.folder / f"{_BEFORE}.new"
        with contextlib.suppress(BundleError, FileNotFoundError):
            kept = _read(own)
            if kept.bundle == good.bundle or kept.rollout is not None:
                return
            if has_served(kept.bundle) or not self._before_has(has_served):
                link.unlink(missing_ok=True)
                os.link(own, link)  # so that one of the two files exists at every moment
                link.replace(self.folder / _BEFORE)

    def _before_has(self, has_served: Callable[[str], bool]) -> bool:
        """Return True if the previous generation is on disk, intact, and has served."""
        assert self.folder is not None
        with contextlib.suppress(BundleError):
            return has_served(_read(self.folder / _BEFORE).bundle)
        return False

    def promoted(self, head: Head) -> bool:
        """Note that the persisted candidate is now the live generation of ``head``.

        Returns False if another generation is persisted.

        :raises OSError: writing failed.
        """
        if self.folder is None:
            return True
        try:
            good = _read(self.folder / _FILE)
        except BundleError:
            return False
        if good.bundle != head.bundle:
            return False
        self.save(replace(good, generation=head.generation, head=head))
        return True

    def accepted(self) -> list[tuple[str, Head]]:
        """Return the newest accepted head of this slot and of each neighbour, with environment."""
        if self.folder is None:
            return []
        heads: list[tuple[str, Head]] = []
        for path in self.folder.parent.glob(f"*/{_ACCEPTED}"):
            with contextlib.suppress(OSError, UnicodeDecodeError, BundleError):
                environment, _, head = path.read_bytes().partition(b"\n")
                heads.append((environment.decode(), Head.decode(head)))
        return heads

    def accept(self, environment: str, head: Head) -> None:
        """Persist the newest accepted head, so that no older one is accepted after a restart.

        :raises OSError: writing failed.
        """
        if self.folder is None:
            return
        beside = self.folder / f"{_ACCEPTED}.new"
        with beside.open("wb") as file:
            file.write(environment.encode() + b"\n" + head.encode())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.folder / _ACCEPTED)

    def release(self, *, forked: bool = False) -> None:
        """Unlock the slot. ``forked``: close only this child's copy; the parent keeps the lock."""
        if self._lock is not None and not self._lock.closed:
            with contextlib.suppress(OSError):
                if not forked:
                    fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._lock.close()

    def __del__(self) -> None:
        """Close the lock's file, without an unlock: in a forked child the parent holds the lock."""
        if self._lock is not None:
            self._lock.close()


def _age(path: Path) -> float:
    """Return a sort key that puts the newest file first, and a deleted one last."""
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0


def slot_without_disk(agent_id: str | None, problem: str | None = None) -> Slot:
    """Return a slot that keeps nothing."""
    return Slot(None, (_safe(agent_id) if agent_id else None) or _fresh_id(), None, problem)


def take_slot(state_dir: Path, source: str, agent_id: str | None) -> Slot:
    """Lock a slot for the store ``source``. Never fails; see ``Slot.problem``."""
    store_dir = state_dir / "agents" / digest(source.encode())[:16]
    wanted = _safe(agent_id) if agent_id else None
    try:
        make_folder(store_dir, CLOSED)
        for folder, name in _candidates(store_dir, wanted):
            folder.mkdir(exist_ok=True, mode=CLOSED)
            lock = _lock(folder)
            if lock is not None:
                return _locked_slot(folder, name, lock)
        problem = f"all {_MAX_SLOTS} slots in {store_dir} are taken"
    except OSError as error:
        problem = f"cannot keep state in {store_dir}: {error.strerror or error}"
    return slot_without_disk(agent_id, f"{problem}; going on without last-good")


def _candidates(store_dir: Path, wanted: str | None) -> Iterator[tuple[Path, str | None]]:
    """Yield folders to try, each with its agent id (None: the id persisted in the folder)."""
    for number in range(_MAX_SLOTS):
        if wanted is None:
            yield store_dir / str(number), None
        else:
            # A new process must start even while an old one with this id still ends.
            name = wanted if number == 0 else f"{wanted}~{number + 1}"
            yield store_dir / f"id-{name}", name


def _locked_slot(folder: Path, name: str | None, lock: FileIO) -> Slot:
    try:
        return Slot(folder, name or _persisted_id(folder), lock, None)
    except BaseException:
        lock.close()
        raise


def _lock(folder: Path) -> FileIO | None:
    # A file object, unlike a descriptor, is closed after an exception at any moment.
    file = FileIO(folder / "lock", "ab", opener=partial(os.open, mode=0o600))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except BaseException:
        file.close()
        raise
    return file


def _persisted_id(folder: Path) -> str:
    path = folder / "id"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        known = path.read_text("utf-8").strip()
        if known and known == _safe(known):
            return known
    fresh = _fresh_id()
    path.write_text(fresh + "\n", "utf-8")
    return fresh


def _persisted_instance(folder: Path) -> str:
    """Return the name in the folder. A disk that cannot keep one gets a new one at each start."""
    path, fresh = folder / "instance", secrets.token_hex(8)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        known = path.read_text("utf-8").strip()
        if known and known == _safe(known):
            return known
    with contextlib.suppress(OSError):
        path.write_text(fresh + "\n", "utf-8")
    return fresh


def _fresh_id() -> str:
    return f"{_safe(socket.gethostname()) or 'agent'}-{secrets.token_hex(4)}"


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._~-]", "-", text)[:128]


def _read(path: Path) -> LastGood:
    try:
        header_line, _, data = path.read_bytes().partition(b"\n")
        header: dict[str, Any] = json.loads(header_line)
        environment = header["environment"]
        if not isinstance(environment, str | None):
            raise TypeError(f"its environment is {environment!r:.100}, not a string")
        good = LastGood(
            int(header["generation"]),
            environment,
            str(header["bundle"]),
            Head.decode(json.dumps(header["head"]).encode()),
            data,
        )
        known_format = header["format"] == _FORMAT
        intact = known_format and digest(data) == good.bundle and good.named_by_head()
    except _DAMAGED as error:
        raise BundleError(f"last-good file {path} cannot be used: {error}") from None
    if not intact:
        raise BundleError(f"last-good file {path} cannot be used: it is truncated or changed")
    return good
