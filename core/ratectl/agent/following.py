"""Following of an agent's source, a store or a directory, by threads of the agent."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self

from ratectl.agent.adoption import Adoption
from ratectl.agent.cluster import TIMING, ClusterPart
from ratectl.agent.cluster_status import note_alone, status_alone
from ratectl.agent.directory import DirectorySync
from ratectl.agent.enforcement import Enforcement
from ratectl.agent.kept_counters import KeptCounters
from ratectl.agent.last_good import slot_without_disk, take_slot
from ratectl.agent.report import Reporter
from ratectl.agent.resets import StoreResets
from ratectl.agent.shadow import ShadowEvaluator
from ratectl.agent.state import AgentState, AgentStatus
from ratectl.agent.switches import FileSwitches, StoreSwitches, Switchboard
from ratectl.agent.sync import StoreSync
from ratectl.cluster.peers import peers_of
from ratectl.cluster.pools import PooledLimits, UnsharedLimits
from ratectl.engine import describe_engine
from ratectl.errors import UsageError
from ratectl.records import utc_now
from ratectl.runtime.urls import shown
from ratectl.stores import check_url, in_one_process, is_server, open_store

if TYPE_CHECKING:
    from ratectl.agent.cluster_status import ClusterStatus
    from ratectl.agent.last_good import Slot
    from ratectl.agent.settings import Settings
    from ratectl.agent.usage.meter import UsageMeter
    from ratectl.cluster.peers import Peers
    from ratectl.engine.api import Engine
    from ratectl.engine.limit_plan import GroupName

__all__ = ["DirectoryFollowing", "Following", "GivenFollowing", "StoreFollowing", "follow"]

_CHILD_WAITS: Final = 0.2
"""Seconds before a forked child connects: it may exec or exit at once."""


class _Part(Protocol):
    """Part of an agent that has its own thread."""

    def run(self) -> None:
        """Work until ``stop``. Never raises."""

    def stop(self) -> None:
        """Ask the thread to end."""


class Following(ABC):
    """Keeps an engine on the policies of one source, and on the kill switch of a file."""

    _cluster: ClusterPart | None = None

    def __init__(self, settings: Settings, engine: Engine, parent: Self | None = None) -> None:
        """``parent``: the following of the process that forked this one; its threads are gone."""
        self.settings = settings
        self.engine = engine
        if parent is None:
            self.state = AgentState(AgentStatus(engine=describe_engine()))
            self.board = Switchboard(engine, self.state)
            self.wall = settings.wall
            self.enforcement = Enforcement(
                engine,
                self.wall,
                state=self.state,
                pools=self._new_pools(),
                central=settings.central,
            )
        else:
            self.state = AgentState(parent.state.now)
            self.board = parent.board.inherited(self.state)
            self.wall = parent.wall
            self.enforcement = parent.enforcement
            self.enforcement.after_fork_in_child(self.state)
        engine.describe_by(self.note_of)
        settings.central.report_to(partial(self.state.problem, "redis"))
        self._delay = 0.0 if parent is None else _CHILD_WAITS
        self._parts: dict[str, _Part] = {}
        self._threads: list[threading.Thread] = []

    def _new_pools(self) -> PooledLimits | UnsharedLimits | None:
        """Return what collects the limits across the cluster; None: they count in each process."""
        return None

    def _unshared(self, remedy: str) -> UnsharedLimits:
        """Return a collector that reports limits across the cluster which this process counts.

        :param remedy: what to do so that they are shared.
        """
        text = f"limits across the cluster count in this process alone: {remedy}"
        return UnsharedLimits(lambda some: self.state.problem("cluster", text if some else None))

    def cluster_status(self) -> ClusterStatus | None:
        """Return what this process does for limits across the cluster; None without any."""
        part = self._cluster
        return status_alone(self.enforcement.pools) if part is None else part.status()

    def note_of(self, name: GroupName) -> str | None:
        """Return a sentence about a limit across the cluster; None for other limits."""
        part = self._cluster
        return note_alone(self.enforcement.pools, name) if part is None else part.note_of(name)

    @property
    @abstractmethod
    def id(self) -> str:
        """Name of the agent in ``ratectl agents``."""

    def in_child(self, meter: UsageMeter) -> Self:
        """Start and return a copy of this following, for a forked child with the same engine."""
        following = type(self)(replace(self.settings, meter=meter), self.engine, self)
        following.start()
        return following

    def failed_in_child(self, error: Exception) -> None:
        """Report in a forked child that no thread follows the source there."""
        self.state = AgentState(replace(self.state.now, connected=False))
        text = f"this forked process gets no updates and keeps the policies in force: {error}"
        self.state.problem("process", text)

    @property
    def runs_here(self) -> bool:
        """True in the agent's own threads, which cannot join themselves."""
        return threading.current_thread() in self._threads

    def close(self) -> None:
        """Stop all threads, then release their resources. Not to be called by those threads.

        Safe to repeat, also after an exception at any moment.
        """
        for part in self._parts.values():
            part.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=10)

    def _file_switches(self) -> FileSwitches:
        """Return the switches of the state directory's file, read once."""
        switches = FileSwitches(self.settings.state_dir, self.board, self.state)
        switches.look()
        return switches

    def start(self) -> None:
        """Enforce last-good, and start one thread for each part; an exception stops them all."""
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

    def _start_from_disk(self) -> None:  # noqa: B027  a directory has no last-good
        """Enforce last-good of an earlier process."""

    def _run_later(self, part: _Part) -> None:
        time.sleep(self._delay)
        part.run()


class StoreFollowing(Following):
    """Follows the head of a store, and reports there."""

    slot: Slot
    adoption: Adoption
    _kept: KeptCounters | None = None
    _resets: StoreResets

    def __init__(self, settings: Settings, engine: Engine, parent: Self | None = None) -> None:
        super().__init__(settings, engine, parent)
        if parent is not None:
            parent.slot.release(forked=True)
        file_switches = self._file_switches()
        self.slot = self._taken_slot()
        try:
            self._prepare(file_switches, parent)
        except BaseException:
            self.slot.release()
            raise

    def _prepare(self, file_switches: FileSwitches, parent: Self | None) -> None:
        """Make the parts."""
        settings, slot = self.settings, self.slot
        stop = threading.Event()
        self.shadow = ShadowEvaluator(self.engine, self.wall, settings.open_engine)
        self._kept = self._new_kept() if parent is None else None
        self.adoption = Adoption(
            self.enforcement,
            self.state,
            slot,
            settings.trust,
            stop.wait,
            self.shadow,
            self._kept,
            None if parent is None else parent.adoption,
        )
        folder = slot.folder.parent if slot.folder else None
        self._switches = StoreSwitches(self.board, self.state, folder, self.adoption.verify)
        before = None if parent is None else parent._resets  # noqa: SLF001
        self._resets = StoreResets(self.engine, self.state, self.adoption.verify, before)
        if self._kept is not None:
            self._kept.follow(lambda: self.adoption.in_force, self._resets)
        self.sync = StoreSync(
            partial(open_store, settings.source),
            self.state,
            self.adoption,
            self._switches,
            self._resets,
            stop,
        )
        self._reporter = self._new_reporter()
        self._cluster = self._new_cluster(parent)
        self._parts = {
            **({} if self._cluster is None else {"cluster": self._cluster}),
            "panic-file": file_switches,
            "panic": self._switches,
            "sync": self.sync,
            "report": self._reporter,
            "exceptions": self.enforcement,
            **({} if self._kept is None else {"counters": self._kept}),
        }

    def _new_kept(self) -> KeptCounters | None:
        """Return what keeps the buckets on disk; None if they end with the process."""
        settings, slot = self.settings, self.slot
        if settings.counters is None or slot.folder is None:
            return None  # the slot's problem says why there is no folder
        if settings.counters.problem is not None:
            self.state.problem("counters", settings.counters.problem)
            return None
        return KeptCounters(
            self.engine, self.enforcement, self.state, self.wall, slot.folder,
            settings.counters.value,
        )  # fmt: skip

    def _new_cluster(self, parent: Self | None) -> ClusterPart | None:
        """Return what takes part in the cluster; None if this process shares no limits."""
        if parent is not None and parent._cluster is not None:  # noqa: SLF001
            parent._cluster.after_fork_in_child()  # noqa: SLF001
        pools, peers, settings = self.enforcement.pools, self._peers, self.settings
        if not isinstance(pools, PooledLimits) or peers is None:
            return None
        cluster = ClusterPart(
            partial(open_store, settings.source), peers, self.engine, pools, self.state,
            self.slot.id, settings.wall.monotonic_ns,
        )  # fmt: skip
        settings.meter.shared = cluster
        return cluster

    def _new_pools(self) -> PooledLimits | UnsharedLimits | None:
        if in_one_process(self.settings.source):
            return None
        if self._peers is None:
            return self._unshared(
                "set RATECTL_CLUSTER_LISTEN to an address at which other agents reach it, and "
                "certificates (docs/cluster.md)"
            )
        return PooledLimits(self.engine, TIMING)

    @cached_property
    def _peers(self) -> Peers | None:
        """Return the way to other processes that follow the store; None if it reaches none."""
        source = self.settings.source
        return None if in_one_process(source) else peers_of(server=is_server(source))

    def _start_from_disk(self) -> None:
        self.adoption.start()
        if self._kept is not None:
            self._kept.start()
        self._switches.start_from_disk()  # verifying them needs the environment of last-good

    def _taken_slot(self) -> Slot:
        told = self.settings
        if in_one_process(told.source):  # a later process has nothing to start from
            return slot_without_disk(told.wanted_id)
        slot = take_slot(told.state_dir, told.source, told.wanted_id)
        if slot.problem:
            self.state.problem("disk", slot.problem)
        return slot

    def _new_reporter(self) -> Reporter:
        return Reporter(
            agent_id=self.slot.id,
            instance=self.slot.instance,
            sync=self.sync,
            engine=self.engine,
            state=self.state,
            wall=self.wall,
            failures=self.settings.failures,
            meter=self.settings.meter,
            interval=self.settings.report_interval,
            shadow=self.shadow,
            origins=self.enforcement.origins,
        )

    @property
    def id(self) -> str:
        return self.slot.id

    def close(self) -> None:
        super().close()
        if self._kept is not None:
            self._kept.save()
        self._reporter.sign_off()
        self.sync.close()
        self.slot.release()


class DirectoryFollowing(Following):
    """Follows a directory of YAML, for development."""

    def __init__(self, settings: Settings, engine: Engine, parent: Self | None = None) -> None:
        """Load the directory at once; a forked child keeps the parent's policies until it loads.

        :raises UsageError: the directory does not exist.
        :raises PolicyError: it does not validate.
        """
        super().__init__(settings, engine, parent)
        path = Path(settings.source)
        self.enforcement.origins.folder = str(path)
        directory = DirectorySync(path, self.enforcement, self.state, self.wall, settings.failures)
        if parent is None:
            _check_exists(path)
            directory.load()
        self._parts = {
            "panic-file": self._file_switches(),
            "directory": directory,
            "exceptions": self.enforcement,
        }

    def _new_pools(self) -> UnsharedLimits:
        return self._unshared("publish the policies to a store (ratectl apply), and follow that")

    @property
    def id(self) -> str:
        return f"directory-{os.getpid()}"


class GivenFollowing(Following):
    """Enforces policies that the program gives, for ever.

    A thread runs only where exceptions have to begin and end by the system's clock.
    """

    def __init__(self, settings: Settings, engine: Engine, parent: Self | None = None) -> None:
        """:raises BundleError: the policies must not be enforced."""
        super().__init__(settings, engine, parent)
        assert settings.given is not None
        if parent is None:
            self.enforcement.enforce(settings.given.tree, 1)
            self.state.update(
                generation=1, sequence=1, source="policies", connected=True, applied=utc_now()
            )
        if settings.given.clock is None and settings.given.tree.exceptions:
            self._parts = {"exceptions": self.enforcement}

    @property
    def id(self) -> str:
        return f"policies-{os.getpid()}"


def _check_exists(path: Path) -> None:
    """Refuse a path that does not exist. Loading reports other errors of the path.

    :raises UsageError: it does not exist.
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
    """Return the following of given policies, a store (a URL) or a directory, not yet started.

    :raises UsageError: the source is neither, or does not go with the settings.
    :raises PolicyError: it is a directory that does not validate.
    """
    if settings.given is not None:
        return GivenFollowing(settings, engine)
    if "://" in settings.source:
        check_url(settings.source)
        return StoreFollowing(settings, engine)
    if settings.trust is not None:
        raise UsageError("a directory is not signed: public_keys are for a store")
    return DirectoryFollowing(settings, engine)
