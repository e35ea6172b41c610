"""Following a store: list, watch, verify, swap; keep what works when anything fails."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from ratectl.activation import verified
from ratectl.agent.last_good import LastGood
from ratectl.errors import BundleError, NotFound, RatectlError, StoreError
from ratectl.generations import Live, read_blob, read_environment
from ratectl.pacing import Pacer, cooperative, release
from ratectl.records import HEAD, utc_now
from ratectl.stores.base import Events, Interrupted, Resync

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ratectl.agent.enforcement import Enforcement
    from ratectl.agent.last_good import Slot
    from ratectl.agent.state import AgentState
    from ratectl.records import Head
    from ratectl.stores.base import Item, Snapshot, Store, Watch, WatchEvent

__all__ = ["StoreSync"]

_log = logging.getLogger("ratectl.agent")

_ANTI_ENTROPY_SECONDS: Final = 60.0
"""How long a watch that lies could go unnoticed (with jitter of a quarter)."""

_RETRY_FIRST: Final = 0.2
_RETRY_MOST: Final = 3.0


class StoreSync:
    """Keeps an engine on the live generation of a store, from a thread of its own."""

    def __init__(
        self,
        open_store: Callable[[], Store],
        enforcement: Enforcement,
        state: AgentState,
        slot: Slot,
    ) -> None:
        self._open = open_store
        self._enforcement = enforcement
        self._state = state
        self._slot = slot
        self._stop = threading.Event()
        self._applying = threading.Lock()
        self._applied: tuple[str | None, int, str] | None = None
        self._refused: tuple[tuple[str | None, int, str], str] | None = None
        """What cannot be read, however often it is looked at, and why."""
        self._environment: str | None = None
        self._watch: Watch | None = None
        self.store: Store | None = None
        self._next_look = 0.0

    def start_from_disk(self) -> None:
        """Enforce last-good, if there is one; says so in the state if it is damaged."""
        try:
            good = self._slot.load()
            if good is None:
                return
            self._enforcement.enforce(verified(good.data, good.bundle), good.generation)
        except BundleError as error:
            _log.error("%s; waiting for the store", error)
            self._state.problem("disk", str(error))
            return
        self._applied = (good.environment, good.sequence, good.bundle)
        self._state.update(
            generation=good.generation,
            sequence=good.sequence,
            source="last-good",
            applied=utc_now(),
        )

    def run(self) -> None:
        """Follow the store until ``stop``. Never raises."""
        delay = _RETRY_FIRST
        while not self._stop.is_set():
            try:
                store = self._opened()
                snapshot = store.list(HEAD)
                self._environment = None
                self._set_connected()
                self._see(store, _head_of(snapshot))
                delay = _RETRY_FIRST
                self._follow(store, snapshot.revision + 1)
            except Exception as error:  # noqa: BLE001  the thread must outlive whatever it meets
                self._trouble(error)
            self._stop.wait(delay * random.uniform(0.5, 1.0))  # noqa: S311
            delay = min(delay * 2, _RETRY_MOST)

    def _opened(self) -> Store:
        if self.store is None:
            self.store = self._open()
        return self.store

    def _follow(self, store: Store, revision: int) -> None:
        with store.watch(HEAD, revision) as watch:
            self._watch = watch
            if self._stop.is_set():
                return
            for event in watch:
                self._on_event(store, event)
                if self._stop.is_set():
                    return

    def _on_event(self, store: Store, event: WatchEvent) -> None:
        if isinstance(event, Interrupted):
            self._trouble(event.error)
            return
        self._set_connected()
        if isinstance(event, Events):
            for change in event.changes:
                if change.key == HEAD:
                    self._see(store, change.item)
        elif isinstance(event, Resync):
            _log.info("resynchronised with the store: %s", event.reason)
            self._environment = None
            self._see(store, _head_of(event.snapshot))

    def look_again(self) -> None:
        """Anti-entropy: read the head now and then, whatever the watch says. Never raises."""
        now = time.monotonic()
        if now < self._next_look or self.store is None:
            return
        first = not self._next_look
        self._next_look = now + _ANTI_ENTROPY_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311
        if first:
            return
        try:
            self._see(self.store, self.store.get(HEAD))
        except Exception as error:  # noqa: BLE001
            self._trouble(error)

    def _see(self, store: Store, item: Item | None) -> None:
        """React to the head as it is in the store."""
        with self._applying:
            if item is None:
                # Absence is not an instruction: policies end by publishing others.
                if self._state.now.generation:
                    self._note(
                        "generation", "the store has no live generation; keeping the one in force"
                    )
                return
            seen = time.monotonic()
            try:
                head = Live.of(item).head
                assert head is not None
                self._take(store, head, seen)
            except (BundleError, NotFound) as error:
                self._reject(item, error)

    def _take(self, store: Store, head: Head, seen: float) -> None:
        wanted = (self._environment_of(store), head.sequence, head.bundle)
        if wanted == self._applied:
            self._state.problem("generation", None, rejected=None, source="store")
            return
        if self._refused is not None and wanted == self._refused[0]:
            raise BundleError(self._refused[1])
        data = read_blob(store, head.bundle)
        with self._cooperative():
            try:
                tree = verified(data, head.bundle)
            except BundleError as error:
                self._refused = wanted, str(error)
                raise
            spent = self._enforcement.enforce(tree, head.generation)
            spent.append(list(tree.policies.values()))
            del tree
        self._applied = wanted
        self._state.problem(
            "generation",
            None,
            generation=head.generation,
            sequence=head.sequence,
            source="store",
            rejected=None,
            applied=utc_now(),
            swap_ms=round((time.monotonic() - seen) * 1e3, 3),
        )
        _log.info("generation %d is in force", head.generation)
        self._persist(head, data)
        with self._cooperative():
            release(*spent)

    def _cooperative(self) -> AbstractContextManager[None]:
        """Requests are decided meanwhile; who is to end need not rest."""
        return cooperative(Pacer(sleep=self._stop.wait))

    def _environment_of(self, store: Store) -> str | None:
        if self._environment is None:
            environment = read_environment(store)
            self._environment = environment.id if environment else None
        return self._environment

    def _persist(self, head: Head, data: bytes) -> None:
        good = LastGood(head.generation, head.sequence, self._environment, head.bundle, data)
        try:
            self._slot.save(good)
        except OSError as error:
            self._note("disk", f"cannot persist generation {head.generation}: {error}")
        else:
            self._state.problem("disk", self._slot.problem)

    def _reject(self, item: Item, error: RatectlError) -> None:
        try:
            generation = Live.of(item).generation
        except BundleError:
            generation = 0
        text = f"generation {generation or '?'} rejected: {error}"
        self._note("generation", text, rejected=generation)

    def _trouble(self, error: Exception) -> None:
        if not isinstance(error, StoreError):
            _log.debug("unexpected", exc_info=error)
        self._note("store", str(error) or type(error).__name__, connected=False)

    def _note(self, concern: str, text: str, **changes: Any) -> None:
        if self._state.problem(concern, text, **changes):
            _log.warning("%s", text)

    def _set_connected(self) -> None:
        if not self._state.now.connected:
            self._state.problem("store", None, connected=True)

    def stop(self) -> None:
        """Ask the thread to end; it does so within a second or two."""
        self._stop.set()
        if self._watch is not None:
            self._watch.close()

    def close(self) -> None:
        """Release the store, after the thread has ended."""
        if self.store is not None:
            self.store.close()
            self.store = None


def _head_of(snapshot: Snapshot) -> Item | None:
    return next((item for item in snapshot.items if item.key == HEAD), None)
