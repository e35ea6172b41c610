"""Obeying the kill switch (see ``panic``): the store's, and that of a file beside the agent.

Each is followed by a thread of its own. Taking a generation of many policies keeps the thread that
follows the head busy for a second and more, and a store that hangs keeps whoever asks it; a switch
must not wait for either.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Final, Literal

from ratectl.errors import BundleError, StoreUnavailable
from ratectl.panic import PANIC, Switches, load_switches, save_switches, switch_file
from ratectl.records import Obeyed
from ratectl.stores.base import Events, Interrupted, Resync

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ratectl.agent.state import AgentState
    from ratectl.engine.base import Engine
    from ratectl.engine.waivers import Waiver
    from ratectl.stores.base import Item, Store, Watch, WatchEvent

__all__ = ["FileSwitches", "StoreSwitches", "Switchboard"]

_log = logging.getLogger("ratectl.agent")

Source = Literal["store", "file"]

_FILE_SECONDS: Final = 0.25
"""How often the file is looked at."""

_ANTI_ENTROPY_SECONDS: Final = 60.0
"""How long a watch that lies could go unnoticed (with jitter of a quarter)."""

_RETRY: Final = (0.2, 3.0)
"""Seconds between attempts to follow the store: at first, and at most."""


class Switchboard:
    """Makes an engine waive what the switches of all sources say together."""

    def __init__(
        self, engine: Engine, state: AgentState, known: Mapping[Source, Switches] | None = None
    ) -> None:
        """``known``: what the engine obeys already."""
        self._engine = engine
        self._state = state
        self._lock = threading.Lock()
        self._known: dict[Source, Switches] = dict(known or {})

    def known(self, source: Source) -> Switches:
        """What a source last said."""
        return self._known.get(source, Switches())

    def obey(self, source: Source, switches: Switches) -> None:
        """Go by this from now on, as far as this source is concerned."""
        with self._lock:
            before = self._known.get(source, Switches())
            self._known[source] = switches
            modes: dict[str, Waiver] = {}
            for said in self._known.values():
                modes |= {at: how for at, how in said.modes.items() if modes.get(at) != "open"}
            # Not in slices with rests between them: the next turn of a switch must not wait.
            self._engine.waive(modes)
            self._state.update(
                panic=tuple(
                    Obeyed(scope=each.scope, mode=each.mode, source=of)
                    for of, said in self._known.items()
                    for each in said.on
                ),
                panic_sequence=self._known.get("store", Switches()).sequence,
            )
        for switch in set(switches.on) - set(before.on):
            at, why = switch.scope, switch.reason
            _log.warning("panic, says the %s: %s at and below %s: %s", source, switch.mode, at, why)
        for scope in set(before.modes) - set(switches.modes):
            _log.warning("panic is over at %s, says the %s", scope, source)

    def inherited(self, state: AgentState) -> Switchboard:
        """For a forked child, where a thread that is not there may have held the lock."""
        return Switchboard(self._engine, state, self._known)


class StoreSwitches:
    """Follows the store's record, and remembers it beside last-good."""

    def __init__(
        self,
        open_store: Callable[[], Store],
        board: Switchboard,
        state: AgentState,
        folder: Path | None,
    ) -> None:
        """``folder``: of this store in the state directory; None to remember nothing."""
        self._open = open_store
        self._board = board
        self._state = state
        self._file = None if folder is None else switch_file(folder)
        self._stop = threading.Event()
        self._watch: Watch | None = None
        self._next_look = 0.0

    def start_from_disk(self) -> None:
        """Obey what was last known of the store, if anything was."""
        if self._file is None:
            return
        try:
            remembered = load_switches(self._file)
        except FileNotFoundError:
            return
        except (OSError, BundleError) as error:
            _log.warning("%s, remembering switches, is of no use: %s", self._file, error)
            return
        if remembered.sequence > self._board.known("store").sequence:
            self._board.obey("store", remembered)

    def run(self) -> None:
        """Follow the store until ``stop``. Never raises."""
        delay, most = _RETRY
        while not self._stop.is_set():
            try:
                store = self._open()
                snapshot = store.list(PANIC)
                self._see(_record_of(snapshot.items))
                self._looked()
                delay = _RETRY[0]
                self._follow(store, snapshot.revision + 1)
            except StoreUnavailable as error:
                _log.debug("following switches: %s", error)  # who follows the head says so
            except Exception as error:  # noqa: BLE001  the thread must outlive whatever it meets
                self._cannot_follow(error)
            self._stop.wait(delay * random.uniform(0.5, 1.0))  # noqa: S311
            delay = min(delay * 2, most)

    def _follow(self, store: Store, revision: int) -> None:
        with store.watch(PANIC, revision) as watch:
            self._watch = watch
            if self._stop.is_set():
                return
            for event in watch:
                self._on_event(store, event)
                if self._stop.is_set():
                    return

    def _on_event(self, store: Store, event: WatchEvent) -> None:
        if isinstance(event, Interrupted):
            if not isinstance(event.error, StoreUnavailable):
                self._cannot_follow(event.error)
            return
        self._state.problem("panic-watch", None)
        if isinstance(event, Events):
            for change in event.changes:
                if change.key == PANIC:
                    self._see(change.item)
        elif isinstance(event, Resync):
            self._see(_record_of(event.snapshot.items))
        if time.monotonic() >= self._next_look:
            self._looked()
            self._see(store.get(PANIC))

    def _looked(self) -> None:
        wait = _ANTI_ENTROPY_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311
        self._next_look = time.monotonic() + wait

    def _see(self, item: Item | None) -> None:
        """React to the record as it is in the store."""
        if item is None:
            return  # absence is no instruction: a switch is turned off by a record that says so
        known = self._board.known("store").sequence
        try:
            switches = Switches.decode(item.value)
        except BundleError as error:
            self._note("panic", f"{error}; what was on stays on")
            return
        if switches.sequence < known:
            said = f"the kill switch's record ({switches.sequence}) is older than what is obeyed"
            self._note("panic", f"{said} ({known}), which stays on: turn the switch again")
            return
        if switches.sequence > known:
            self._board.obey("store", switches)
            self._remember(switches)
        self._state.problem("panic", None)

    def _remember(self, switches: Switches) -> None:
        if self._file is None:
            return
        try:
            save_switches(self._file, switches)
        except OSError as error:
            _log.warning("cannot remember switches in %s: %s", self._file, error)

    def _cannot_follow(self, error: Exception) -> None:
        self._note("panic-watch", f"the kill switch cannot be followed: {error}")

    def _note(self, concern: str, text: str) -> None:
        if self._state.problem(concern, text):
            _log.warning("%s", text)

    def stop(self) -> None:
        """Ask the thread to end; it does so within a second or two."""
        self._stop.set()
        if self._watch is not None:
            self._watch.close()


class FileSwitches:
    """Looks at the file of a state directory, several times a second."""

    def __init__(self, state_dir: Path, board: Switchboard, state: AgentState) -> None:
        self._path = switch_file(state_dir)
        self._board = board
        self._state = state
        self._stop = threading.Event()
        self._seen: tuple[int, int, int] | None = None

    def look(self) -> None:
        """Go by what it says, if that is new. Without it nothing is on.

        Never raises for a file that cannot be used: what was on stays on then.
        """
        try:
            seen = self._signature()
            if seen != self._seen:
                switches = Switches() if seen is None else load_switches(self._path)
                self._board.obey("file", switches)
                self._seen = seen
        except (OSError, BundleError) as error:
            text = f"{self._path} cannot be used, what was on stays on: {error}"
            if self._state.problem("panic-file", text):
                _log.warning("%s", text)
        else:
            self._state.problem("panic-file", None)

    def _signature(self) -> tuple[int, int, int] | None:
        """What tells a file from another; None where there is none.

        :raises OSError: nobody can tell whether there is one.
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            if self._seen is not None and not self._path.parent.is_dir():
                raise  # a disk that went away is nobody's decision
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def run(self) -> None:
        """Look until ``stop``. Never raises."""
        while not self._stop.wait(_FILE_SECONDS):
            try:
                self.look()
            except Exception:  # noqa: BLE001  the thread must outlive whatever it meets
                _log.exception("looking at %s failed", self._path)

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()


def _record_of(items: tuple[Item, ...]) -> Item | None:
    return next((item for item in items if item.key == PANIC), None)
