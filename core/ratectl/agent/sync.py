"""Following of a store: list, watch, verify, swap. After any failure the policies in force stay."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from ratectl.agent.log import log
from ratectl.errors import RatectlError
from ratectl.kill_switch.switches import PANIC
from ratectl.records import CONTROLLER, HEAD
from ratectl.resets.orders import RESETS
from ratectl.runtime.clock import monotonic
from ratectl.stores.base import Events, Interrupted, Resync

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from ratectl.agent.adoption import Adoption
    from ratectl.agent.resets import StoreResets
    from ratectl.agent.state import AgentState
    from ratectl.agent.switches import StoreSwitches
    from ratectl.stores.base import Item, Snapshot, Store, Watch, WatchEvent

__all__ = ["StoreSync"]


_ANTI_ENTROPY_SECONDS: Final = 60.0
"""Interval of reads beside the watch, which may miss events (with jitter of a quarter)."""

_RETRY_FIRST: Final = 0.2
_RETRY_LONGEST: Final = 3.0


class StoreSync:
    """Keeps an engine on the generation of a store's head, from its own thread."""

    def __init__(
        self,
        open_store: Callable[[], Store],
        state: AgentState,
        adoption: Adoption,
        switches: StoreSwitches,
        resets: StoreResets,
        stop: Event,
    ) -> None:
        self._open = open_store
        self._state = state
        self._adoption = adoption
        self._switches = switches
        self._resets = resets
        self._stop = stop
        self._watch: Watch | None = None
        self._is_refused = False
        """True from a refused read to the next that is not: the watch, older, says nothing then."""
        self.store: Store | None = None
        self._next_look = 0.0

    def run(self) -> None:
        """Follow the store until ``stop``. Never raises."""
        delay = _RETRY_FIRST
        while not self._stop.is_set():
            try:
                store = self._opened()
                snapshot = store.list(HEAD)
                self._is_refused = False
                self._set_connected()
                self._begin(store, snapshot)
                delay = _RETRY_FIRST
                self._follow(store, snapshot.revision + 1)
            except Exception as error:  # noqa: BLE001  the thread must survive any error
                self._report(error)
            self._stop.wait(delay * random.uniform(0.5, 1.0))  # noqa: S311
            delay = min(delay * 2, _RETRY_LONGEST)

    def _opened(self) -> Store:
        if self.store is None:
            self.store = self._open()
        return self.store

    def _begin(self, store: Store, snapshot: Snapshot) -> None:
        self._adoption.forget_store()
        self._see(store, _watched_items(snapshot))

    def _see(self, store: Store, items: dict[str, Item | None]) -> None:
        """React to items of the store: first to orders, as a generation may take long."""
        if PANIC in items:
            self._switches.see(store, items[PANIC])
        if RESETS in items:
            self._resets.see(store, items[RESETS])
        with self._switches.looking(store):
            self._adoption.see(store, items)

    def _follow(self, store: Store, revision: int) -> None:
        with store.watch(HEAD, revision) as watch:
            self._watch = watch
            if self._stop.is_set():
                return
            for event in watch:
                if self._stop.is_set() or self._is_refused:
                    return
                self._on_event(store, event)

    def _on_event(self, store: Store, event: WatchEvent) -> None:
        if isinstance(event, Interrupted):
            self._report(event.error)
            return
        self._set_connected()
        if isinstance(event, Events):
            self._see(store, {change.key: change.item for change in event.changes})
        elif isinstance(event, Resync):
            log.info("resynchronised with the store: %s", event.reason)
            self._begin(store, event.snapshot)

    def look_again(self) -> None:
        """Read the head about once a minute, in case the watch missed events. Never raises."""
        self._adoption.end_probation_if_due()
        now = monotonic()
        if now < self._next_look or self.store is None:
            return
        first = not self._next_look
        self._next_look = now + _ANTI_ENTROPY_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311
        if first:
            return
        self.look()

    def look(self) -> None:
        """Read the head now, beside the watch. Never raises.

        A store that refuses this read may still serve the watch, which it admitted earlier. Then
        the watch is closed: the following thread starts again, and goes on once the store admits
        it.
        """
        if self.store is None:
            return
        try:
            snapshot = self.store.list(HEAD)
            self._state.contact()
            self._see(self.store, _watched_items(snapshot))
        except Exception as error:  # noqa: BLE001
            self._is_refused = not getattr(error, "transient", False)
            self._report(error)
            if self._watch is not None and self._is_refused:
                self._watch.close()

    def _report(self, error: Exception) -> None:
        text = str(error)
        if not isinstance(error, RatectlError):
            log.debug("unexpected", exc_info=error)
            text = f"following the store failed: {type(error).__name__}: {error}"
        self._state.problem("store", text, connected=False)

    def _set_connected(self) -> None:
        self._state.contact()
        if not self._state.now.connected:
            self._state.problem("store", None, connected=True)

    def stop(self) -> None:
        """Ask the thread to end; it does so within a second or two."""
        self._stop.set()
        if self._watch is not None:
            self._watch.close()

    def close(self) -> None:
        """Release the store, after the thread has ended."""
        self._adoption.close()
        if self.store is not None:
            self.store.close()
            self.store = None


def _watched_items(snapshot: Snapshot) -> dict[str, Item | None]:
    """Return the items of the watched keys; None for a key that is not in the store."""
    items: dict[str, Item | None] = dict.fromkeys((HEAD, CONTROLLER, PANIC, RESETS))
    items.update({item.key: item for item in snapshot.items if item.key in items})
    return items
