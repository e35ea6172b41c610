"""Status of an agent: written by its threads, read by any thread."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ratectl.agent.log import log
from ratectl.runtime.clock import monotonic
from ratectl.runtime.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratectl.records import Obeyed

__all__ = ["AgentState", "AgentStatus"]


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """Status of an agent at one moment."""

    engine: str = ""
    """Name of the engine that decides: ``c``, or ``pure`` and why there is no compiled core."""
    generation: int = 0
    """The generation it enforces; 0 before any."""
    sequence: int = 0
    """Sequence of the newest head that it accepted."""
    rollout: str | None = None
    """The rollout whose candidate it enforces."""
    source: str = "none"
    """Origin of the generation: ``store``, ``last-good``, ``directory`` or ``none``."""
    connected: bool = False
    """True if the store (or directory) answered last time."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Current problems by concern: ``store``, ``generation``, ``quarantine``, ``report``,
    ``id``, ``disk``, ``counters``, ``decisions``, ``exceptions``, ``process``, ``cluster``,
    ``redis``, ``reset``, ``mapping`` or ``panic…``."""
    rejected: int | None = None
    """The generation that this agent rejected and that the store's head still names."""
    applied: str | None = None
    """Time at which the generation was swapped in (ISO 8601, UTC)."""
    swap_ms: float | None = None
    """Milliseconds from reading the head to enforcing the generation."""
    panic: tuple[Obeyed, ...] = ()
    """Kill switches that are on and obeyed here."""
    panic_sequence: int = 0
    """Sequence of the store's kill switch record that is obeyed; 0 for none."""
    reset_sequence: int = 0
    """Sequence of the last reset that was obeyed, or that was there at the start; 0 for none."""
    reset_shared: int = 0
    """Buckets of the last reset that other keys share: they stayed as they were."""

    @property
    def error(self) -> str | None:
        """All problems, and the missing step if the agent waits; one line, None for neither."""
        return "; ".join(filter(None, (self.known_problems, self._waits_for))) or None

    @property
    def known_problems(self) -> str | None:
        """All problems in one line; None if there are none."""
        return "; ".join(self.problems.values()) or None

    @property
    def _waits_for(self) -> str | None:
        """Return the step that is missing before the source's policies are in force.

        None if no step is missing, or if a problem reports it already.
        """
        first = "waiting for the store's first answer"
        if self.generation:
            unheard = self.source == "last-good" and not self.connected
            until = f"generation {self.generation} is enforced from disk until then"
            return f"{first}: {until}" if unheard and "store" not in self.problems else None
        if "generation" in self.problems:
            return None
        what = "waiting for the first policies to be read" if self.connected else first
        return f"{what}: on_error answers every request until then"

    @property
    def state(self) -> str:
        """``rejected``, ``serving`` or ``waiting``."""
        if self.rejected is not None:
            return "rejected"
        return "serving" if self.generation else "waiting"


class AgentState:
    """Holder of the current ``AgentStatus``, which is replaced as a whole; threads can wait for it.

    Waiters take no lock of the state: an exception raised in a waiter (a time limit by a signal)
    could leave the lock held for ever.
    """

    def __init__(self, status: AgentStatus | None = None) -> None:
        self._changing = threading.RLock()
        self._status = status or AgentStatus()
        self._waiting: list[Wakeup] = []
        """One for each waiter."""
        self.rejections = 0
        """Generations that were rejected, each time that one was."""
        self.contacted: float | None = None
        """Time of the last answer of the store (seconds since 1970); None before the first."""
        self.reported: float | None = None
        """Time of the last report that reached the store."""

    @property
    def now(self) -> AgentStatus:
        return self._status

    def update(self, **changes: Any) -> None:
        """Set fields. Wakes the waiters only if a value changes."""
        with self._changing:
            status = replace(self._status, **changes)
            if status != self._status:
                rejected = changes.get("rejected")
                self.rejections += rejected is not None and rejected != self._status.rejected
                self._set(status)

    def _set(self, status: AgentStatus) -> None:
        self._status = status
        for wakeup in tuple(self._waiting):
            wakeup.set()

    def problem(self, concern: str, text: str | None, **changes: Any) -> None:
        """Set the problem of a concern, or end it (None). Logs only changes.

        The end is a warning too: a log that shows the problem also has to show its end.
        """
        with self._changing:
            known = self._status.problems.get(concern)
            if text != known or changes:
                problems = dict(self._status.problems)
                problems.pop(concern, None)
                if text is not None:
                    problems[concern] = text
                self.update(problems=problems, **changes)
        if text is None and known is not None:
            log.warning("resolved: %s", known)
        elif text != known:
            log.warning("%s", text)

    def contact(self, *, reported: bool = False) -> None:
        """Take note of an answer of the store."""
        self.contacted = time.time()
        if reported:
            self.reported = self.contacted

    def wait_for_generation(self, at_least: int, timeout: float | None) -> bool:
        """Wait (seconds) until a generation of at least this number is enforced."""
        return self._wait_until(lambda: self._status.generation >= at_least, timeout)

    def wait_for_change(self, seen: AgentStatus, timeout: float) -> AgentStatus:
        """Wait (seconds) until the status is another than ``seen``; return the current status."""
        self._wait_until(lambda: self._status is not seen, timeout)
        return self._status

    def _wait_until(self, reached: Callable[[], bool], timeout: float | None) -> bool:
        until = None if timeout is None else monotonic() + timeout
        wakeup = Wakeup()
        try:
            self._waiting.append(wakeup)
            return _wait_until(reached, until, wakeup)
        finally:
            if wakeup in self._waiting:
                self._waiting.remove(wakeup)

    def wake(self) -> None:
        """Make every waiter check its condition again."""
        with self._changing:
            self._set(replace(self._status))


def _wait_until(reached: Callable[[], bool], until: float | None, wakeup: Wakeup) -> bool:
    # Not within the `try` of the caller: see the loops of `waiting`.
    while not reached():
        left = None if until is None else until - monotonic()
        if left is not None and left <= 0:
            return False
        wakeup.wait(math.inf if left is None else left)
    return True
