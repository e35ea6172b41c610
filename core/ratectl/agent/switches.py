"""Obedience to kill switches (see ``kill_switch``): the store's record, and a file of the machine.

The thread that follows the head also reads the store's record. Large generations keep that thread
busy for a second and more: meanwhile another thread reads the record. The file has its own thread,
since a thread that waits for a hanging store could not read it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from ratectl.agent.log import log
from ratectl.errors import BundleError, Untrusted
from ratectl.kill_switch.switches import PANIC, Switches, load_switches, save_switches, switch_file
from ratectl.records import Obeyed
from ratectl.runtime.files import CLOSED

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
"""Interval of checks of the file."""

_LOOK_SECONDS: Final = 0.3
"""Interval of reads of the store's record while a generation is being applied."""


_STAY: Final = "switches that were on stay on"

_OBEYED: Final = "the obeyed one stays in force: turn the switch on or off again"


class Switchboard:
    """Makes an engine obey the switches of all sources together."""

    def __init__(
        self, engine: Engine, state: AgentState, known: Mapping[Source, Switches] | None = None
    ) -> None:
        """``known``: the switches that the engine obeys already."""
        self._engine = engine
        self._state = state
        self._lock = threading.Lock()
        self._known: dict[Source, Switches] = dict(known or {})

    def known(self, source: Source) -> Switches:
        """Return the latest switches of a source."""
        return self._known.get(source, Switches())

    def obey(self, source: Source, switches: Switches) -> None:
        """Obey ``switches`` from now on, instead of the earlier ones of this source."""
        with self._lock:
            before = self._known.get(source, Switches())
            self._known[source] = switches
            modes: dict[str, Waiver] = {}
            for known in self._known.values():
                modes |= {at: mode for at, mode in known.modes.items() if modes.get(at) != "open"}
            # Without pauses for requests: the next change of a switch must not wait.
            self._engine.waive(modes)
            self._state.update(
                panic=tuple(
                    Obeyed(scope=switch.scope, mode=switch.mode, source=origin)
                    for origin, known in self._known.items()
                    for switch in known.on
                ),
                panic_sequence=self._known.get("store", Switches()).sequence,
            )
        for switch in set(switches.on) - set(before.on):
            at, why = switch.scope, switch.reason
            text = "kill switch on, from the %s: %s at and below %s: %s"
            log.warning(text, source, switch.mode, at, why)
        for scope in set(before.modes) - set(switches.modes):
            log.warning("kill switch off at %s, from the %s", scope, source)

    def inherited(self, state: AgentState) -> Switchboard:
        """Return a copy for a forked child, with a new lock: a missing thread may have held it."""
        return Switchboard(self._engine, state, self._known)


class StoreSwitches:
    """Obeys the kill switch record of the store, and keeps a copy on disk."""

    def __init__(
        self,
        board: Switchboard,
        state: AgentState,
        folder: Path | None,
        verify: Callable[[Store | None, Switches], None],
    ) -> None:
        """``folder``: this store's folder in the state directory; None to keep no copy.

        ``verify`` takes a record's origin (a store; None for the disk) and the record. It raises
        ``BundleError`` for a record that must not be obeyed.
        """
        self._verify = verify
        self._board = board
        self._state = state
        self._file = None if folder is None else switch_file(folder)
        self._unsaved = False
        """True while the record could not be saved: each read of the store tries again."""
        self._seeing = threading.Lock()
        self._changed = threading.Condition()
        self._stopped = False
        self._busy: list[Store] = []

    def start_from_disk(self) -> None:
        """Obey the copy on disk, if there is one."""
        if self._file is None:
            return
        try:
            saved = load_switches(self._file)
            self._verify(None, saved)
        except FileNotFoundError:
            return
        except (OSError, BundleError) as error:
            self._report(f"the saved kill switch record {self._file} cannot be used: {error}")
            return
        if saved.sequence > self._board.known("store").sequence:
            self._board.obey("store", saved)

    def see(self, store: Store, item: Item | None) -> None:
        """React to the record as read from the store; None if there is none."""
        if item is None:
            # A missing record changes nothing: only a new record turns a switch off.
            gone = "the kill switch's record is gone from the store; switches that were on stay on"
            on = self._board.known("store").on
            self._state.problem("panic", f"{gone}: turn the switch on or off again" if on else None)
            return
        try:
            switches = Switches.decode(item.value)
            self._verify(store, switches)
        except Untrusted as error:
            self._report(f"the kill switch's record is not obeyed: {error}; {_STAY}")
            return
        except BundleError as error:
            self._report(f"{error}; {_STAY}")
            return
        with self._seeing:
            self._obey_if_newer(switches)

    def _obey_if_newer(self, switches: Switches) -> None:
        known = self._board.known("store")
        record = f"the kill switch's record ({switches.sequence})"
        if switches.sequence < known.sequence:
            older = f"{record} is older than the one that is obeyed ({known.sequence})"
            self._report(f"{older}; {_OBEYED}")
            return
        if switches.sequence == known.sequence and switches.on != known.on:
            reused = f"{record} differs from the one that is obeyed, and has the same sequence"
            self._report(f"{reused}; {_OBEYED}")
            return
        if switches.sequence > known.sequence:
            self._board.obey("store", switches)
            self._unsaved = True
        if self._unsaved:
            self._save(switches)
        self._state.problem("panic", None)

    def _save(self, switches: Switches) -> None:
        if self._file is None:
            return
        try:
            save_switches(self._file, switches, CLOSED)
        except OSError as error:
            why = f"{error.strerror or error}; after a restart without the store it is not obeyed"
            self._state.problem(
                "panic-disk", f"cannot save the kill switch's record in {self._file}: {why}"
            )
        else:
            self._unsaved = False
            self._state.problem("panic-disk", None)

    def _report(self, text: str) -> None:
        self._state.problem("panic", text)

    @contextmanager
    def looking(self, store: Store) -> Iterator[None]:
        """Make ``run`` read the record while the body keeps the thread that follows ``store``."""
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
        """Read the record while the following thread is busy, until ``stop``. Never raises."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._busy or self._stopped)
                # Wait first: most generations are applied sooner.
                self._changed.wait_for(lambda: not self._busy or self._stopped, _LOOK_SECONDS)
                if self._stopped:
                    return
                store = self._busy[0] if self._busy else None
            if store is not None:
                self._look(store)

    def _look(self, store: Store) -> None:
        try:
            self.see(store, store.get(PANIC))
        except Exception as error:  # noqa: BLE001  the thread must survive any error
            log.debug("reading switches: %s", error)

    def stop(self) -> None:
        """Ask the thread to end."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class FileSwitches:
    """Obeys the kill switch file of a state directory; checks it several times a second."""

    def __init__(self, state_dir: Path, board: Switchboard, state: AgentState) -> None:
        self._path = switch_file(state_dir)
        self._board = board
        self._state = state
        self._stop = threading.Event()
        self._seen: tuple[int, int, int] | None = None

    def look(self) -> None:
        """Obey the file if it has changed. Without a file, no switch is on.

        Never raises for a file that cannot be used: what was on stays on then.
        """
        try:
            seen = self._signature()
            if seen != self._seen:
                switches = Switches() if seen is None else load_switches(self._path)
                self._board.obey("file", switches)
                self._seen = seen
        except (OSError, BundleError) as error:
            text = f"{self._path} cannot be used, {_STAY}: {error}"
            self._state.problem("panic-file", text)
        else:
            self._state.problem("panic-file", None)

    def _signature(self) -> tuple[int, int, int] | None:
        """Return a value that differs when the file changes; None if there is no file.

        :raises OSError: it is unknown if there is a file.
        """
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            if self._seen is not None and not self._path.parent.is_dir():
                raise  # a disk that went away does not turn a switch off
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def run(self) -> None:
        """Check the file until ``stop``. Never raises."""
        while not self._stop.wait(_FILE_SECONDS):
            try:
                self.look()
            except Exception:  # noqa: BLE001  the thread must survive any error
                log.exception("checking %s failed", self._path)

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()
