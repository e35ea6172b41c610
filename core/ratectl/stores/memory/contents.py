"""Contents of the in-memory stores of this process: immutable states, one after the other.

A transaction makes the next state from a copy of the newest. An exception on the way, also one of a
signal handler, leaves the newest state as it was.
"""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from ratectl.errors import StoreError, StoreUnavailable
from ratectl.stores.base import Change, Events, Item, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratectl.runtime.wakeup import Wakeup

__all__ = ["Contents", "Draft", "State", "contents_of"]

KEEP_REVISIONS: Final = 1_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _LeaseRow:
    """A lease: its time to live in seconds, and its end by the monotonic clock."""

    ttl: float
    deadline: float


@dataclass(frozen=True, slots=True)
class State:
    """Contents at one moment. Revision 1 is the empty store, as in etcd; 0 means "absent"."""

    revision: int = 1
    compacted: int = 0
    items: Mapping[str, Item] = field(default_factory=dict)
    leases: Mapping[int, _LeaseRow] = field(default_factory=dict)
    holders: Mapping[str, int] = field(default_factory=dict)
    """Key → number of the lease that it was written under."""
    history: tuple[Events, ...] = ()
    """The kept revisions, oldest first."""
    due: float = math.inf
    """When the next lease ends, by the monotonic clock."""

    def snapshot(self, prefix: str) -> Snapshot:
        """Return every item below ``prefix``. Text and its UTF-8 bytes sort alike."""
        keys = sorted(key for key in self.items if key.startswith(prefix))
        return Snapshot(tuple(self.items[key] for key in keys), self.revision)


class Draft:
    """The next state in the making. It begins by ending the leases that are due."""

    def __init__(self, state: State) -> None:
        self.revision = state.revision
        self.items = dict(state.items)
        self._leases = dict(state.leases)
        self._holders = dict(state.holders)
        self._history = list(state.history)
        self._compacted = state.compacted
        self._changes: list[Change] = []
        now = time.monotonic()
        if state.due <= now:
            rows = sorted(self._leases.items(), key=lambda row: row[1].deadline)
            for number, lease in rows:
                if lease.deadline <= now:
                    self.end_lease(number)

    def put(self, key: str, value: bytes, lease: int | None) -> None:
        """Write a key.

        :raises StoreError: the lease has ended.
        """
        self._holders.pop(key, None)
        if lease is not None:
            if lease not in self._leases:
                raise StoreError(
                    f"the lease for {key!r} has ended: make a new one and write the keys again"
                )
            self._holders[key] = lease
        item = self.items[key] = Item(key, bytes(value), self.revision + 1)
        self._changes.append(Change(key, item))

    def delete(self, key: str) -> None:
        """Delete a key, if it is there."""
        if self.items.pop(key, None) is not None:
            self._holders.pop(key, None)
            self._changes.append(Change(key, None))

    def renew_lease(self, number: int, ttl: float) -> None:
        """Grant a lease, or renew it."""
        self._leases[number] = _LeaseRow(ttl, time.monotonic() + ttl)

    def has_lease(self, number: int) -> bool:
        """Return True while a lease has not ended."""
        return number in self._leases

    def end_lease(self, number: int) -> None:
        """Delete a lease and its keys, as a revision of its own."""
        self._end_revision()
        if self._leases.pop(number, None) is not None:
            for key in sorted(key for key, holder in self._holders.items() if holder == number):
                self.delete(key)
        self._end_revision()

    def compact(self, revision: int) -> None:
        """Forget the history before ``revision``."""
        self._compacted = revision
        self._history = [event for event in self._history if event.revision >= revision]

    def finish(self) -> State:
        """Return the state that was made."""
        self._end_revision()
        if len(self._history) > KEEP_REVISIONS:
            self.compact(self._history[-KEEP_REVISIONS].revision)
        return State(
            self.revision,
            self._compacted,
            self.items,
            self._leases,
            self._holders,
            tuple(self._history),
            min((lease.deadline for lease in self._leases.values()), default=math.inf),
        )

    def _end_revision(self) -> None:
        if self._changes:
            self.revision += 1
            self._history.append(Events(self.revision, tuple(self._changes)))
            self._changes = []


class Contents:
    """Contents of one name: the newest state, and the watches to wake when it changes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pid = os.getpid()
        # Reentrant: a finalizer or a signal handler may use the store in the middle of a change.
        self._lock = threading.RLock()
        self._state = State()
        self.waiting: list[Wakeup] = []
        """One for each watch that iterates."""

    def state(self) -> State:
        """Return the newest state, without the leases that are due.

        :raises StoreUnavailable: this process is a fork of the one that holds the contents.
        """
        self._check_process()
        if self._state.due <= time.monotonic():
            self.change(Draft.has_lease, 0)
        return self._state

    def change(self, edit: Callable[..., T], *args: object) -> tuple[T, State]:
        """Apply ``edit(draft, *args)``. Return its result and the new state.

        :raises StoreUnavailable: this process is a fork of the one that holds the contents.
        """
        self._check_process()
        with self._lock:
            while True:
                before = self._state
                draft = Draft(before)
                result = edit(draft, *args)
                after = draft.finish()
                if self._state is before:  # no change was made in the middle of this one
                    self._state = after
                    break
        if after.revision > before.revision:
            for wakeup in tuple(self.waiting):
                wakeup.set()
        return result, after

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise StoreUnavailable(
                self._url, "it is in the memory of the process that this one was forked from"
            )


_contents: Final[dict[str, Contents]] = {}


def contents_of(url: str) -> Contents:
    """Return the contents that all stores of this URL share."""
    return _contents.setdefault(url, Contents(url))
