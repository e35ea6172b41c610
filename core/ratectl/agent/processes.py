"""The agents of a process: they decide on through forks, and are closed when it ends."""

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

__all__ = ["belongs"]


class Member(Protocol):
    """An agent."""

    _engine: Engine

    def _follow_in_child(self) -> None:
        """Follow what the parent follows, with threads of its own."""

    def close(self) -> None:
        """Does nothing the second time."""


_TRIES: Final = 1_000
"""How often a hook of fork begins again: what fails each time (no stack is left) ends as well."""

_members: weakref.WeakSet[Member] = weakref.WeakSet()
"""Also closed ones: they decide on."""

_forking: list[_Fork] = []
"""Forks under way. One fork may come in the middle of another, in a finalizer or a signal
handler."""

_lock = threading.RLock()
"""Held by who forks, from before until after, and by who reads or changes ``_members``."""


def belongs(agent: Member) -> None:
    """Look after an agent from now on, for as long as it lives."""
    with _lock:
        _members.add(agent)
    _close_with_worker()


# Forks ------------------------------------------------------------------------------------------


class _Fork:
    """All that is held for one fork: no finalizer runs, and all engines stand still.

    Each thing is held by a generator of its own, from its first step until it is closed. So an
    exception at any moment, of a signal handler for example, leaves no doubt about what is held.
    """

    def __init__(self) -> None:
        self._held: dict[object, Generator[None]] = {}

    def hold(self) -> None:
        """Take what is not held yet. Safe to repeat."""
        self._hold("collector", pausing)
        self._hold("members", partial(_holding, _lock))
        if self not in _forking:
            _forking.append(self)
        for agent in list(_members):
            self._hold(agent, agent._engine.standstill)  # noqa: SLF001
        _watch_workers()

    def _hold(self, what: object, make: Callable[[], Generator[None]]) -> None:
        known = self._held.get(what)
        if known is None or getgeneratorstate(known) != GEN_SUSPENDED:
            self._held[what] = make()
            next(self._held[what])

    def let_go(self) -> None:
        """Release all that is held, in reverse order. Safe to repeat."""
        for held in reversed(self._held.values()):
            held.close()

    def let_go_in_child(self) -> None:
        """Release all that is held, and take new locks. Safe to repeat."""
        global _lock  # noqa: PLW0603  its other owners are not here
        self.let_go()
        _lock = threading.RLock()
        for agent in list(_members):
            agent._engine.after_fork_in_child()  # noqa: SLF001


def _holding(lock: threading.RLock) -> Generator[None]:
    with lock:
        yield


def _insist(work: Callable[[], object]) -> None:
    """Do something that may be repeated to its end, whatever interrupts it.

    The interruption is raised afterwards. Interpreters print it and go on, since it is raised in a
    hook of fork: a hook that stops halfway would keep locks for ever.
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
        _insist(_forking.pop().let_go)


def _after_fork_in_child() -> None:
    fork = _forking.pop() if _forking else _Fork()
    # All decide before any follows: to follow takes threads, and there may be none.
    try:
        _insist(fork.let_go_in_child)
    finally:
        for agent in list(_members):
            _follow_in_child(agent)


def _follow_in_child(agent: Member) -> None:
    try:
        agent._follow_in_child()  # noqa: SLF001
    except BaseException:  # noqa: BLE001  nobody who forks expects anything from it
        log.exception("a forked child goes on with what is in force, and follows nothing")


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
    """What ``multiprocessing`` remembers, weakly, to tell a forked worker of."""


_workers = _Workers()
_watched = False
_closing_in: int | None = None
"""The worker that closes its agents at its end."""


def _watch_workers() -> None:
    """Have workers of ``multiprocessing`` that are forked from here close their agents."""
    global _watched  # noqa: PLW0603
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None and not _watched:
        util.register_after_fork(_workers, lambda _: _close_with_worker())
        _watched = True


def _close_with_worker() -> None:
    """A worker of ``multiprocessing`` ends in good order without what ``atexit`` knows."""
    global _closing_in  # noqa: PLW0603
    # It is loaded in each of its workers, and not for the sake of those who have none.
    process: Any = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None or _closing_in == os.getpid():
        return
    from multiprocessing import util

    util.Finalize(None, _close_all, exitpriority=0)
    _closing_in = os.getpid()
