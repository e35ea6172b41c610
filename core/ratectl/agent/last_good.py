"""An agent's corner of the disk: its id, and the last generation that it enforced.

Below the state directory each store has a folder, and each agent process a slot in it, held by a
file lock for as long as the process lives. So a restarted process finds its own id and generation
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
"""Raised in reading a file that is not as it was written."""


@dataclass(frozen=True, slots=True)
class LastGood:
    """A generation as persisted."""

    generation: int
    environment: str | None
    bundle: str
    head: Head
    """What made the agent enforce it: as its live generation, or as its candidate."""
    data: bytes

    @property
    def rollout(self) -> str | None:
        """The rollout that it was a candidate of."""
        candidate = self.head.candidate
        tried = candidate is not None and candidate.generation == self.generation
        return candidate.rollout if candidate is not None and tried else None

    def belongs(self) -> bool:
        """Whether the head speaks of it."""
        said = {(self.head.generation, self.head.bundle)}
        if self.head.candidate is not None:
            said.add((self.head.candidate.generation, self.head.candidate.bundle))
        return (self.generation, self.bundle) in said


class Slot:
    """A locked folder, or nothing but a random id where the disk cannot be written."""

    def __init__(
        self, folder: Path | None, agent_id: str, lock: FileIO | None, problem: str | None
    ):
        self.folder = folder
        self.id = agent_id
        self.problem = problem
        """Why nothing is persisted; None when it is."""
        self.trouble: str | None = None
        """What was wrong with the files of this slot when they were last read."""
        self._lock = lock

    def load(self, usable: Callable[[LastGood], bool] = lambda _: True) -> LastGood | None:
        """The generation to start from: this slot's own, else the newest of its neighbours.

        Where ``usable`` says no, or raises, or a file is damaged, it is the one before; what was
        wrong is in ``trouble`` then. Neighbours are asked where all of its own are unwanted.

        :raises BundleError: there are some, and all that are this slot's own are wrong.
        """
        self.trouble = None
        if self.folder is None:
            return None
        own = [path for name in (_FILE, _BEFORE) if os.path.lexists(path := self.folder / name)]
        unwanted = False
        for path in own:
            try:
                good = _read(path)
                if usable(good):
                    return good
                unwanted = True
            except BundleError as error:
                self.trouble = self.trouble or str(error)
        if self.trouble is not None and not unwanted:
            raise BundleError(self.trouble)
        return self._neighbours(usable)

    def _neighbours(self, usable: Callable[[LastGood], bool]) -> LastGood | None:
        assert self.folder is not None
        found = [path for name in (_FILE, _BEFORE) for path in self.folder.parent.glob(f"*/{name}")]
        for path in sorted(found, key=_age):
            # What is wrong with a neighbour's is the neighbour's to report.
            with contextlib.suppress(BundleError):
                good = _read(path)
                # A neighbour's candidate is not ours to try.
                if good.rollout is None and usable(good):
                    return good
        return None

    def save(self, good: LastGood, has_served: Callable[[str], bool] = lambda _: False) -> None:
        """Persist a generation: written beside, synced, renamed. The one before it is kept.

        A bundle that ``has_served`` is kept rather than one that has not: several bad generations
        in a row must not leave bad ones alone.

        :raises OSError: it could not be (the disk is full, say); the old file is untouched.
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
            file.write(good.data)  # by itself: to put it behind the header is to copy it
            file.flush()
            os.fsync(file.fileno())
        self._keep_before(good, has_served)
        beside.replace(self.folder / _FILE)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _keep_before(self, good: LastGood, has_served: Callable[[str], bool]) -> None:
        """Keep what is there now, unless it is the same, or a candidate: that may be no good."""
        assert self.folder is not None
        own, link = self.folder / _FILE, self.folder / f"{_BEFORE}.new"
        with contextlib.suppress(BundleError, FileNotFoundError):
            kept = _read(own)
            if kept.bundle == good.bundle or kept.rollout is not None:
                return
            if has_served(kept.bundle) or not self._before_has(has_served):
                link.unlink(missing_ok=True)
                os.link(own, link)  # at no moment is there neither
                link.replace(self.folder / _BEFORE)

    def _before_has(self, has_served: Callable[[str], bool]) -> bool:
        """Return True if the generation before is there, intact, and has served."""
        assert self.folder is not None
        with contextlib.suppress(BundleError):
            return has_served(_read(self.folder / _BEFORE).bundle)
        return False

    def promoted(self, head: Head) -> bool:
        """Note that what is persisted, as a candidate, has become what ``head`` says is live.

        False where something else is persisted.

        :raises OSError: it could not be noted.
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
        """The newest heads that were obeyed here and by neighbours, with their environments."""
        if self.folder is None:
            return []
        found: list[tuple[str, Head]] = []
        for path in self.folder.parent.glob(f"*/{_ACCEPTED}"):
            with contextlib.suppress(OSError, UnicodeDecodeError, BundleError):
                environment, _, head = path.read_bytes().partition(b"\n")
                found.append((environment.decode(), Head.decode(head)))
        return found

    def accept(self, environment: str, head: Head) -> None:
        """Note the newest head that was obeyed: an older one is not obeyed any more.

        :raises OSError: it could not be.
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
        """Give the slot up. After a fork the child closes its copy; the parent keeps the lock."""
        if self._lock is not None and not self._lock.closed:
            with contextlib.suppress(OSError):
                if not forked:
                    fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._lock.close()

    def __del__(self) -> None:
        """Close the lock's file. A forked child does not unlock it: that is the parent's."""
        if self._lock is not None:
            self._lock.close()


def _age(path: Path) -> float:
    """Orders files, the newest first; one that is gone by now comes last."""
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0


def slot_without_disk(agent_id: str | None, problem: str | None = None) -> Slot:
    """Return a slot that keeps nothing."""
    return Slot(None, (_safe(agent_id) if agent_id else None) or _fresh_id(), None, problem)


def take_slot(state_dir: Path, source: str, agent_id: str | None) -> Slot:
    """Lock a slot for the store (or directory) ``source``; never fails, see ``Slot.problem``."""
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
    """Folders to try, with the id that goes with each (None: the one persisted there)."""
    for number in range(_MAX_SLOTS):
        if wanted is None:
            yield store_dir / str(number), None
        else:
            # While an old process of this id drains, its successor must start all the same.
            name = wanted if number == 0 else f"{wanted}~{number + 1}"
            yield store_dir / f"id-{name}", name


def _locked_slot(folder: Path, name: str | None, lock: FileIO) -> Slot:
    try:
        return Slot(folder, name or _persisted_id(folder), lock, None)
    except BaseException:
        lock.close()
        raise


def _lock(folder: Path) -> FileIO | None:
    # A file object, unlike its number, is closed wherever an exception comes.
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
            raise TypeError(f"its environment is {environment!r:.100}, no text")
        good = LastGood(
            int(header["generation"]),
            environment,
            str(header["bundle"]),
            Head.decode(json.dumps(header["head"]).encode()),
            data,
        )
        intact = header["format"] == _FORMAT and digest(data) == good.bundle and good.belongs()
    except _DAMAGED as error:
        raise BundleError(f"last-good file {path} cannot be used: {error}") from None
    if not intact:
        raise BundleError(f"last-good file {path} cannot be used: it is truncated or changed")
    return good
