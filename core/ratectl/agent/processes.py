"""The agents of a process: they decide on through forks, and are closed when it ends."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from ratectl.collector import Pause, end, pause

if TYPE_CHECKING:
    from ratectl.engine.base import Engine

__all__ = ["belongs"]

_log = logging.getLogger("ratectl.agent")


class Member(Protocol):
    """An agent."""

    _engine: Engine

    def _follow_in_child(self) -> None:
        """Follow what the parent follows, with threads of its own."""

    def close(self) -> None:
        """Does nothing the second time."""


_members: weakref.WeakSet[Member] = weakref.WeakSet()
"""Also closed ones: they decide on."""

_forking: list[tuple[list[Member], Pause | None]] = []
"""Agents whose engines stand still, and no finalizer runs, for a fork. One fork may come in the
middle of another, in a finalizer or a signal handler."""

_lock = threading.RLock()
"""Held by who forks, from before until after, and by who reads or changes ``_members``."""


def belongs(agent: Member) -> None:
    """Look after an agent from now on, for as long as it lives."""
    with _lock:
        _members.add(agent)
    _close_with_worker()


# Forks ------------------------------------------------------------------------------------------


def _before_fork() -> None:
    paused = pause()
    _lock.acquire()
    agents = list(_members)
    _forking.append((agents, paused))
    for agent in agents:
        agent._engine.before_fork()  # noqa: SLF001
    _watch_workers()


def _after_fork_in_parent() -> None:
    agents, paused = _forking.pop() if _forking else ([], None)
    for agent in agents:
        agent._engine.after_fork(child=False)  # noqa: SLF001
    if _lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001
        _lock.release()
    end(paused)


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603  its other owners are not here
    agents, _ = _forking.pop() if _forking else ([], None)
    _forking.clear()
    _lock = threading.RLock()
    # All decide before any follows: to follow takes threads, and there may be none.
    for agent in agents:
        agent._engine.after_fork(child=True)  # noqa: SLF001
    for agent in agents:
        try:
            agent._follow_in_child()  # noqa: SLF001
        except Exception:  # noqa: BLE001  nobody who forks expects anything from it
            _log.exception("a forked child goes on with what is in force, and follows nothing")


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
