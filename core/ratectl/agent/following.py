"""What an agent follows, a store or a directory, and the threads that do it."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self

from ratectl.agent.adoption import Adoption
from ratectl.agent.directory import DirectorySync
from ratectl.agent.enforcement import Enforcement
from ratectl.agent.last_good import slot_without_disk, take_slot
from ratectl.agent.report import Reporter
from ratectl.agent.shadow import Beside
from ratectl.agent.state import AgentState, AgentStatus
from ratectl.agent.switches import FileSwitches, StoreSwitches, Switchboard
from ratectl.agent.sync import StoreSync
from ratectl.agent.wall_clock import WallClock
from ratectl.engine import describe_engine
from ratectl.errors import UsageError
from ratectl.runtime.urls import shown
from ratectl.stores import check_url, in_one_process, open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.agent.last_good import Slot
    from ratectl.engine.api import Engine
    from ratectl.signing.signatures import Trust

__all__ = ["DirectoryFollowing", "Following", "Settings", "StoreFollowing", "follow"]

_CHILD_WAITS: Final = 0.2
"""Seconds: a child that execs or exits at once must not have connected for nothing."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What an agent was told, and what it tells."""

    source: str
    wanted_id: str | None
    state_dir: Path
    report_interval: float
    trust: Trust | None
    open_engine: Callable[[], Engine]
    errors: Callable[[], int]
    """How many decisions have failed."""
    failing: Callable[[], str | None]
    """Returns the problem of recent decisions; None if none failed."""


class _Part(Protocol):
    """What has a thread of its own."""

    def run(self) -> None:
        """Go on until ``stop``. Never raises."""

    def stop(self) -> None:
        """Ask the thread to end."""


class Following(ABC):
    """Keeps an engine on what one source says, and on the kill switch of a file."""

    def __init__(self, settings: Settings, engine: Engine, before: Self | None = None) -> None:
        """``before``: of the process that forked this one, whose threads are not here."""
        self.settings = settings
        self.engine = engine
        if before is None:
            self.state = AgentState(AgentStatus(engine=describe_engine()))
            self.board = Switchboard(engine, self.state)
            self.wall = WallClock()
            self.enforcement = Enforcement(engine, self.wall, state=self.state)
        else:
            self.state = AgentState(before.state.now)
            self.board = before.board.inherited(self.state)
            self.wall = before.wall
            self.enforcement = before.enforcement
            self.enforcement.after_fork_in_child(self.state)
        self._delay = 0.0 if before is None else _CHILD_WAITS
        self._parts: dict[str, _Part] = {}
        self._threads: list[threading.Thread] = []

    @property
    @abstractmethod
    def id(self) -> str:
        """How the agent appears in ``ratectl agents``."""

    def in_child(self) -> Self:
        """Return what follows in a forked child, started; the engine decides there already."""
        following = type(self)(self.settings, self.engine, self)
        following.start()
        return following

    def lost_in_child(self, error: Exception) -> None:
        """Note in a forked child that nothing is followed there; the threads are the parent's."""
        self.state = AgentState(replace(self.state.now, connected=False))
        text = f"this forked process follows nothing, and keeps what is in force: {error}"
        self.state.problem("process", text)

    @property
    def runs_here(self) -> bool:
        """True in the threads of the agent, which cannot wait for their own end."""
        return threading.current_thread() in self._threads

    def close(self) -> None:
        """Stop all threads, then let go of what they used. Not for those threads.

        Safe to repeat, also after an exception at any moment.
        """
        for part in self._parts.values():
            part.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=10)

    def _file(self) -> FileSwitches:
        """The kill switch's file, looked at once."""
        file = FileSwitches(self.settings.state_dir, self.board, self.state)
        file.look()
        return file

    def start(self) -> None:
        """Enforce what is on disk, and give each part a thread. An exception leaves none behind."""
        try:
            self._start_from_disk()
            for name, part in self._parts.items():
                run = partial(self._run_later, part)
                thread = threading.Thread(target=run, name=f"ratectl-{name}", daemon=True)
                self._threads.append(thread)
                thread.start()
        except BaseException:
            self.close()
            raise

    def _start_from_disk(self) -> None:  # noqa: B027  nothing is kept of a directory
        """Enforce what an earlier process has kept."""

    def _run_later(self, part: _Part) -> None:
        time.sleep(self._delay)
        part.run()


class StoreFollowing(Following):
    """Follows the head of a store, and reports there."""

    slot: Slot
    adoption: Adoption

    def __init__(self, settings: Settings, engine: Engine, before: Self | None = None) -> None:
        super().__init__(settings, engine, before)
        if before is not None:
            before.slot.release(forked=True)
        file = self._file()
        self.slot = self._taken_slot()
        try:
            self._prepare(file, before)
        except BaseException:
            self.slot.release()
            raise

    def _prepare(self, file: FileSwitches, before: Self | None) -> None:
        """Make the parts."""
        settings, slot = self.settings, self.slot
        stop = threading.Event()
        self.beside = Beside(self.engine, self.wall, settings.open_engine)
        self.adoption = Adoption(
            self.enforcement,
            self.state,
            slot,
            settings.trust,
            stop.wait,
            self.beside,
            None if before is None else before.adoption,
        )
        folder = slot.folder.parent if slot.folder else None
        self._switches = StoreSwitches(self.board, self.state, folder, self.adoption.prove)
        self.sync = StoreSync(
            partial(open_store, settings.source), self.state, self.adoption, self._switches, stop
        )
        self._reporter = self._new_reporter()
        self._parts = {
            "panic-file": file,
            "panic": self._switches,
            "sync": self.sync,
            "report": self._reporter,
            "exceptions": self.enforcement,
        }

    def _start_from_disk(self) -> None:
        self.adoption.start()
        self._switches.start_from_disk()  # to prove them takes the environment, which that found

    def _taken_slot(self) -> Slot:
        told = self.settings
        if in_one_process(told.source):  # a later process has nothing to start from
            return slot_without_disk(told.wanted_id)
        slot = take_slot(told.state_dir, told.source, told.wanted_id)
        if slot.problem:
            self.state.problem("disk", slot.problem)
        return slot

    def _new_reporter(self) -> Reporter:
        told = self.settings
        return Reporter(
            self.slot.id,
            self.sync,
            self.engine,
            self.state,
            self.wall,
            told.errors,
            told.failing,
            told.report_interval,
            self.beside,
        )

    @property
    def id(self) -> str:
        return self.slot.id

    def close(self) -> None:
        super().close()
        self._reporter.sign_off()
        self.sync.close()
        self.slot.release()


class DirectoryFollowing(Following):
    """Follows a directory of YAML, for development."""

    def __init__(self, settings: Settings, engine: Engine, before: Self | None = None) -> None:
        """Load it at once; a child decides by what it inherited, until its thread has loaded it.

        :raises UsageError: it is not there.
        :raises PolicyError: it does not validate.
        """
        super().__init__(settings, engine, before)
        path = Path(settings.source)
        directory = DirectorySync(path, self.enforcement, self.state, self.wall, settings.failing)
        if before is None:
            _check_there(path)
            directory.load()
        self._parts = {
            "panic-file": self._file(),
            "directory": directory,
            "exceptions": self.enforcement,
        }

    @property
    def id(self) -> str:
        return f"directory-{os.getpid()}"


def _check_there(path: Path) -> None:
    """Refuse a path of nothing. One that cannot be looked at is left to loading, which says why.

    :raises UsageError: there is nothing.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{shown(str(path))!r} is neither a store URL nor a directory of policies"
        ) from None
    except OSError:
        return


def follow(settings: Settings, engine: Engine) -> Following:
    """Return what keeps ``engine`` on a store (a URL) or a directory of policies once started.

    :raises UsageError: it is neither, or cannot be used so.
    :raises PolicyError: it is a directory that does not validate.
    """
    if "://" in settings.source:
        check_url(settings.source)
        return StoreFollowing(settings, engine)
    if settings.trust is not None:
        raise UsageError("a directory is not signed: public_keys are for a store")
    return DirectoryFollowing(settings, engine)
