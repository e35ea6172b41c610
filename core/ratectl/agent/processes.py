"""Agents of a process: they keep deciding across forks, and are closed when the process ends."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from functools import partial
from inspect import GEN_SUSPENDED, getgeneratorstate
from typing import TYPE_CHECKING, Any, Final, Protocol

from ratectl.agent.log import log
from ratectl.runtime.gc_pause import pausing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ratectl.engine.api import Engine

__all__ = ["register"]


class Member(Protocol):
    """An agent."""

    _engine: Engine

    def _follow_in_child(self) -> None:
        """Follow the parent's source with new threads."""

    def close(self) -> None:
        """Close the agent. Safe to repeat."""


_TRIES: Final = 1_000
"""Attempts of a fork hook. Bounded, so that an error at every attempt (no stack left) ends too."""

_members: weakref.WeakSet[Member] = weakref.WeakSet()
"""All agents. Closed ones are included: they still decide."""

_forking: list[_Fork] = []
"""Forks under way. A finalizer or a signal handler may fork in the middle of another fork."""

_lock = threading.RLock()
"""Held during a whole fork, and while ``_members`` is read or changed."""


def register(agent: Member) -> None:
    """Keep an agent working across forks, and close it when the process ends."""
    with _lock:
        _members.add(agent)
    _close_with_worker()


# Forks ------------------------------------------------------------------------------------------


class _Fork:
    """Locks of one fork: no finalizer runs, and all engines stand still.

    Each lock is held by its own generator, from the first step until the generator is closed. So
    after an exception at any moment (from a signal handler, for example) it is known which are
    held.
    """

    def __init__(self) -> None:
        self._held: dict[object, Generator[None]] = {}

    def hold(self) -> None:
        """Take the locks that are not held yet. Safe to repeat."""
        self._hold("collector", pausing)
        self._hold("members", partial(_holding, _lock))
        if self not in _forking:
            _forking.append(self)
        for agent in list(_members):
            self._hold(agent, agent._engine.standstill)  # noqa: SLF001
        _watch_workers()

    def _hold(self, name: object, make: Callable[[], Generator[None]]) -> None:
        holder = self._held.get(name)
        if holder is None or getgeneratorstate(holder) != GEN_SUSPENDED:
            self._held[name] = make()
            next(self._held[name])

    def release(self) -> None:
        """Release all locks, in reverse order. Safe to repeat."""
        for holder in reversed(self._held.values()):
            holder.close()

    def release_in_child(self) -> None:
        """Release all locks, and replace those that missing threads may hold. Safe to repeat."""
        global _lock  # noqa: PLW0603  its other owners do not exist in the child
        self.release()
        _lock = threading.RLock()
        for agent in list(_members):
            agent._engine.after_fork_in_child()  # noqa: SLF001


def _holding(lock: threading.RLock) -> Generator[None]:
    with lock:
        yield


def _insist(work: Callable[[], object]) -> None:
    """Repeat ``work`` until it finishes without an exception, then raise the last exception.

    A fork hook that stops halfway would keep locks for ever. The interpreter prints an exception
    of a hook and goes on.
    """
    interruption: BaseException | None = None
    for _ in range(_TRIES):
        try:
            work()
            break
        except BaseException as error:  # noqa: BLE001
            interruption = error
    if interruption is not None:
        raise interruption


def _before_fork() -> None:
    _insist(_Fork().hold)


def _after_fork_in_parent() -> None:
    if _forking:
        _insist(_forking.pop().release)


def _after_fork_in_child() -> None:
    fork = _forking.pop() if _forking else _Fork()
    # First make all engines decide: following needs threads, and starting them may fail.
    try:
        _insist(fork.release_in_child)
    finally:
        for agent in list(_members):
            _follow_in_child(agent)


def _follow_in_child(agent: Member) -> None:
    try:
        agent._follow_in_child()  # noqa: SLF001
    except BaseException:  # noqa: BLE001  the code that forks does not expect an exception
        log.exception("a forked child keeps the policies in force, and gets no updates")


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)


# Ends -------------------------------------------------------------------------------------------


@atexit.register
def _close_all() -> None:
    with _lock:
        agents = list(_members)
    for agent in agents:
        agent.close()


class _Workers:
    """Owner of the after-fork hook: ``multiprocessing`` keeps a hook while its owner lives."""


_workers = _Workers()
_watched = False
_closing_in: int | None = None
"""Process id of the worker that closes its agents when it ends."""


def _watch_workers() -> None:
    """Make ``multiprocessing`` workers forked from this process close their agents."""
    global _watched  # noqa: PLW0603
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None and not _watched:
        util.register_after_fork(_workers, lambda _: _close_with_worker())
        _watched = True


def _close_with_worker() -> None:
    """Close the agents when this ``multiprocessing`` worker ends: workers skip ``atexit``."""
    global _closing_in  # noqa: PLW0603
    # Every worker has the module loaded. It is not imported for processes that do not use it.
    process: Any = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None or _closing_in == os.getpid():
        return
    from multiprocessing import util

    util.Finalize(None, _close_all, exitpriority=0)
    _closing_in = os.getpid()
