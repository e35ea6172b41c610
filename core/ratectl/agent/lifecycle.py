"""Lifecycle of an agent: its status, how it is closed, and what it does in a forked child."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Self

from ratectl.agent.companions import Companions
from ratectl.runtime.closing import Closing

if TYPE_CHECKING:
    from types import TracebackType

    from ratectl.agent.expiries import Expiries
    from ratectl.agent.following import Following
    from ratectl.agent.line import Line
    from ratectl.agent.state import AgentStatus
    from ratectl.agent.usage.meter import UsageMeter

__all__ = ["Lifecycle"]


class Lifecycle(Closing):
    """Status, end and forks of an agent. As a context manager, it is closed at the end."""

    _expiries: Expiries
    _following: Following
    _line: Line
    _meter: UsageMeter

    def __init__(self) -> None:
        self._closing = False
        """True once closing has begun: a forked child then follows nothing."""
        self._closed = False
        self._closes = threading.RLock()
        self._companions = Companions()

    # Status -------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Name of this agent in ``ratectl agents``."""
        return self._following.id

    @property
    def status(self) -> AgentStatus:
        """Generation in force, connection, and current problems."""
        return self._following.state.now

    @property
    def generation(self) -> int:
        """Generation in force; 0 before any."""
        return self._following.state.now.generation

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait (seconds) until any generation is in force; False on time-out."""
        return self.wait_for_generation(1, timeout)

    def wait_for_generation(self, generation: int, timeout: float | None = None) -> bool:
        """Wait (seconds) until at least ``generation`` is in force; False on time-out."""
        return self._following.state.wait_for_generation(generation, timeout)

    # The end ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop following the source; decisions go on by the policies in force. Safe to repeat.

        Not for signal handlers: ``sys.exit()`` there is enough, as agents are closed at exit.
        """
        self._closing = True
        if self._closed or self._closes._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001
            return
        if self._following.runs_here:
            # A finalizer may run in the middle of a call of the store that has to be closed.
            threading.Thread(target=self.close, name="ratectl-close", daemon=True).start()
            return
        with self._closes:
            if not self._closed:
                self._companions.close()
                self._following.close()
                self._closed = True  # an exception before this leaves it to the next call

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.close)  # joins threads, which may take seconds

    def _follow_in_child(self) -> None:
        self._line.after_fork_in_child()
        self._expiries.after_fork_in_child()
        if self._closing:
            self._closed = True  # the threads, the store and the record belong to the parent
            self._companions.in_child()
            return
        try:
            self._meter = self._meter.in_child()
            self._following = self._following.in_child(self._meter)
        except Exception as error:
            self._following.failed_in_child(error)
            raise
        finally:
            self._companions.in_child()
