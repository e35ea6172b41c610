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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ratectl.errors import BundleError
from ratectl.policy.bundle import digest
from ratectl.records import Head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["LastGood", "Slot", "default_state_dir", "take_slot"]

_FORMAT: Final = 1
_MAX_SLOTS: Final = 4_096
_FILE: Final = "last-good"
_BEFORE: Final = "last-good.before"
_ACCEPTED: Final = "accepted"


def default_state_dir() -> Path:
    """``$XDG_STATE_HOME/ratectl``, or ``~/.local/state/ratectl``."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "ratectl"


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

    def __init__(self, folder: Path | None, agent_id: str, lock: int | None, problem: str | None):
        self.folder = folder
        self.id = agent_id
        self.problem = problem
        """Why nothing is persisted; None when it is."""
        self._lock = lock

    def load(self, usable: Callable[[LastGood], bool] = lambda _: True) -> LastGood | None:
        """The generation to start from: this slot's own, else the newest of its neighbours.

        Where ``usable`` says no, it is the one before; where it raises, there is none.

        :raises BundleError: there is one, and it is not readable, or ``usable`` raises.
        """
        if self.folder is None:
            return None
        own = [self.folder / name for name in (_FILE, _BEFORE)]
        if own[0].exists():
            found = (_read(path) for path in own if path.exists())
            return next((good for good in found if usable(good)), None)
        neighbours = [
            path for name in (_FILE, _BEFORE) for path in self.folder.parent.glob(f"*/{name}")
        ]
        for path in sorted(neighbours, key=lambda path: -path.stat().st_mtime):
            # What is wrong with a neighbour's is the neighbour's to report.
            with contextlib.suppress(BundleError):
                good = _read(path)
                # A neighbour's candidate is not ours to try.
                if good.rollout is None and usable(good):
                    return good
        return None

    def save(self, good: LastGood) -> None:
        """Persist a generation: written beside, synced, renamed. The one before it is kept.

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
        own = self.folder / _FILE
        with contextlib.suppress(BundleError):
            if own.exists() and _read(own).bundle != good.bundle:
                own.replace(self.folder / _BEFORE)
        beside.replace(own)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def promoted(self, head: Head) -> None:
        """Note that what is persisted, as a candidate, has become what ``head`` says is live.

        :raises OSError: it could not be.
        """
        if self.folder is None:
            return
        with contextlib.suppress(BundleError):  # then there is nothing to note it of
            good = _read(self.folder / _FILE)
            if good.bundle == head.bundle:
                self.save(replace(good, generation=head.generation, head=head))

    def accepted(self) -> tuple[str, Head] | None:
        """The newest head that was obeyed, and its environment, where that was noted."""
        if self.folder is None:
            return None
        try:
            environment, _, head = (self.folder / _ACCEPTED).read_bytes().partition(b"\n")
            return environment.decode(), Head.decode(head)
        except (OSError, UnicodeDecodeError, BundleError):
            return None

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
        if self._lock is not None:
            with contextlib.suppress(OSError):
                if not forked:
                    fcntl.flock(self._lock, fcntl.LOCK_UN)
                os.close(self._lock)
            self._lock = None


def take_slot(state_dir: Path, source: str, agent_id: str | None) -> Slot:
    """Lock a slot for the store (or directory) ``source``; never fails, see ``Slot.problem``."""
    store_dir = state_dir / "agents" / digest(source.encode())[:16]
    wanted = _safe(agent_id) if agent_id else None
    try:
        store_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder, name in _candidates(store_dir, wanted):
            folder.mkdir(exist_ok=True, mode=0o700)
            lock = _lock(folder)
            if lock is not None:
                return Slot(folder, name or _persisted_id(folder), lock, None)
        problem = f"all {_MAX_SLOTS} slots in {store_dir} are taken"
    except OSError as error:
        problem = f"cannot keep state in {store_dir}: {error.strerror or error}"
    return Slot(None, wanted or _fresh_id(), None, problem)


def _candidates(store_dir: Path, wanted: str | None) -> Iterator[tuple[Path, str | None]]:
    """Folders to try, with the id that goes with each (None: the one persisted there)."""
    for number in range(_MAX_SLOTS):
        if wanted is None:
            yield store_dir / str(number), None
        else:
            # While an old process of this id drains, its successor must start all the same.
            name = wanted if number == 0 else f"{wanted}~{number + 1}"
            yield store_dir / f"id-{name}", name


def _lock(folder: Path) -> int | None:
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


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
        good = LastGood(
            int(header["generation"]),
            header["environment"],
            str(header["bundle"]),
            Head.decode(json.dumps(header["head"]).encode()),
            data,
        )
        intact = header["format"] == _FORMAT and digest(data) == good.bundle and good.belongs()
    except (OSError, ValueError, KeyError, TypeError, BundleError) as error:
        raise BundleError(f"last-good file {path} cannot be used: {error}") from None
    if not intact:
        raise BundleError(f"last-good file {path} cannot be used: it is truncated or changed")
    return good
