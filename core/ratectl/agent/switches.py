"""Obeying the kill switch (see ``panic``): the store's, and that of a file beside the agent.

Who follows the head sees the store's. To take a generation of many policies keeps that thread busy
for a second and more: meanwhile another one looks. The file has a thread to itself, since whoever
asks a store that hangs hangs with it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from ratectl.agent.log import log
from ratectl.errors import BundleError
from ratectl.kill_switch.switches import PANIC, Switches, load_switches, save_switches, switch_file
from ratectl.records import Obeyed
from ratectl.runtime.files import CLOSED
from ratectl.signing.signatures import Untrusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ratectl.agent.state import AgentState
    from ratectl.engine.api import Engine
    from ratectl.engine.waivers import Waiver
    from ratectl.stores.base import Item, Store

__all__ = ["FileSwitches", "StoreSwitches", "Switchboard"]


Source = Literal["store", "file"]

_FILE_SECONDS: Final = 0.25
"""How often the file is looked at."""

_LOOK_SECONDS: Final = 0.3
"""How often the store is looked at while a generation is being taken."""


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
            log.warning("panic, says the %s: %s at and below %s: %s", source, switch.mode, at, why)
        for scope in set(before.modes) - set(switches.modes):
            log.warning("panic is over at %s, says the %s", scope, source)

    def inherited(self, state: AgentState) -> Switchboard:
        """For a forked child, where a thread that is not there may have held the lock."""
        return Switchboard(self._engine, state, self._known)


class StoreSwitches:
    """Goes by the store's record, as whoever follows the head sees it, and remembers it on disk."""

    def __init__(
        self,
        board: Switchboard,
        state: AgentState,
        folder: Path | None,
        proves: Callable[[Store | None, Switches], None],
    ) -> None:
        """``folder``: of this store in the state directory; None to remember nothing.

        ``proves`` raises ``BundleError`` for a record that must not be obeyed; it comes from a
        store, or (None) from disk.
        """
        self._proves = proves
        self._board = board
        self._state = state
        self._file = None if folder is None else switch_file(folder)
        self._unsaved = False
        """True while what is obeyed could not be remembered: each look tries again."""
        self._seeing = threading.Lock()
        self._changed = threading.Condition()
        self._stopped = False
        self._busy: list[Store] = []

    def start_from_disk(self) -> None:
        """Obey what was last known of the store, if anything was."""
        if self._file is None:
            return
        try:
            remembered = load_switches(self._file)
            self._proves(None, remembered)
        except FileNotFoundError:
            return
        except (OSError, BundleError) as error:
            self._note(f"{self._file}, which remembers switches, is of no use: {error}")
            return
        if remembered.sequence > self._board.known("store").sequence:
            self._board.obey("store", remembered)

    def see(self, store: Store, item: Item | None) -> None:
        """React to the record as it is in the store; None where there is none."""
        if item is None:
            # Absence is no instruction: a switch is turned off by a record that says so.
            gone = "the kill switch's record is gone from the store; what was on stays on"
            on = self._board.known("store").on
            self._state.problem("panic", f"{gone}: turn the switch again" if on else None)
            return
        try:
            switches = Switches.decode(item.value)
            self._proves(store, switches)
        except Untrusted as error:
            self._note(f"the kill switch's record is not obeyed: {error}; what was on stays on")
            return
        except BundleError as error:
            self._note(f"{error}; what was on stays on")
            return
        with self._seeing:
            self._go_by(switches)

    def _go_by(self, switches: Switches) -> None:
        known = self._board.known("store")
        if switches.sequence < known.sequence:
            said = f"the kill switch's record ({switches.sequence}) is older than what is obeyed"
            self._note(f"{said} ({known.sequence}), which stays on: turn the switch again")
            return
        if switches.sequence == known.sequence and switches.on != known.on:
            said = f"the kill switch's record ({switches.sequence}) has the sequence of another one"
            self._note(f"{said}, which stays on: turn the switch again")
            return
        if switches.sequence > known.sequence:
            self._board.obey("store", switches)
            self._unsaved = True
        if self._unsaved:
            self._remember(switches)
        self._state.problem("panic", None)

    def _remember(self, switches: Switches) -> None:
        if self._file is None:
            return
        try:
            save_switches(self._file, switches, CLOSED)
        except OSError as error:
            why = f"{error.strerror or error}; a restart without the store would not know it"
            self._state.problem(
                "panic-disk", f"cannot remember the kill switch's record in {self._file}: {why}"
            )
        else:
            self._unsaved = False
            self._state.problem("panic-disk", None)

    def _note(self, text: str) -> None:
        self._state.problem("panic", text)

    @contextmanager
    def looking(self, store: Store) -> Iterator[None]:
        """While the body keeps its thread from following ``store``, have ``run`` look there."""
        with self._changed:
            self._busy.append(store)
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._busy.remove(store)
                self._changed.notify_all()

    def run(self) -> None:
        """Look while somebody else cannot, until ``stop``. Never raises."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._busy or self._stopped)
                # Most generations are taken sooner.
                self._changed.wait_for(lambda: not self._busy or self._stopped, _LOOK_SECONDS)
                if self._stopped:
                    return
                store = self._busy[0] if self._busy else None
            if store is not None:
                self._look(store)

    def _look(self, store: Store) -> None:
        try:
            self.see(store, store.get(PANIC))
        except Exception as error:  # noqa: BLE001  the thread must outlive whatever it meets
            log.debug("looking for switches: %s", error)

    def stop(self) -> None:
        """Ask the thread to end."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


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
            self._state.problem("panic-file", text)
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
                log.exception("looking at %s failed", self._path)

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()
