"""What an agent knows of itself; written by its threads, read by anyone."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.records import Obeyed

__all__ = ["AgentState", "AgentStatus"]

_log = logging.getLogger("ratectl.agent")


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """A moment of an agent."""

    generation: int = 0
    """The generation it enforces; 0 before any."""
    sequence: int = 0
    """Of the newest head that it accepted."""
    rollout: str | None = None
    """The rollout whose candidate it enforces."""
    source: str = "none"
    """Where that came from: ``store``, ``last-good``, ``directory`` or ``none``."""
    connected: bool = False
    """Whether the store (or directory) answered last time."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """What is wrong now, by what it concerns: ``store``, ``generation``, ``quarantine``,
    ``report``, ``disk``, ``decisions``, ``exceptions``, ``process`` or ``panic…``."""
    rejected: int | None = None
    """The generation that was refused and is live in the store all the same."""
    applied: str | None = None
    """When the generation was swapped in (ISO 8601, UTC)."""
    swap_ms: float | None = None
    """From seeing the head to enforcing it."""
    panic: tuple[Obeyed, ...] = ()
    """Kill switches that are on and obeyed here."""
    panic_sequence: int = 0
    """Of the store's record of switches that is obeyed; 0 for none."""

    @property
    def error(self) -> str | None:
        """All problems in one line; None when there are none, and policies are in force."""
        return self.known_problems or self._waits_for

    @property
    def known_problems(self) -> str | None:
        """All problems in one line; None when there are none (yet)."""
        return "; ".join(self.problems.values()) or None

    @property
    def _waits_for(self) -> str | None:
        """Return the step that is missing before policies are in force; None when they are."""
        if self.generation:
            return None
        what = "the first policies to be read" if self.connected else "the store's first answer"
        return f"waiting for {what}: on_error answers every request until then"

    @property
    def state(self) -> str:
        """``rejected``, ``serving`` or ``waiting``."""
        if self.rejected is not None:
            return "rejected"
        return "serving" if self.generation else "waiting"


class AgentState:
    """The current ``AgentStatus``, replaced whole, with a way to wait for changes."""

    def __init__(self, status: AgentStatus | None = None) -> None:
        self._changed = threading.Condition()
        self._status = status or AgentStatus()

    @property
    def now(self) -> AgentStatus:
        return self._status

    def update(self, **changes: Any) -> None:
        """Set fields. Nobody is woken, and nothing reported, where that is how it is already."""
        with self._changed:
            status = replace(self._status, **changes)
            if status != self._status:
                self._set(status)

    def _set(self, status: AgentStatus) -> None:
        self._status = status
        self._changed.notify_all()

    def problem(self, concern: str, text: str | None, **changes: Any) -> None:
        """Note a problem, or (None) that it is over. Only what is news is logged.

        The end is logged as a warning too: a log that shows the problem has to show its end.
        """
        with self._changed:
            known = self._status.problems.get(concern)
            if text != known or changes:
                problems = {
                    name: said for name, said in self._status.problems.items() if name != concern
                }
                if text is not None:
                    problems[concern] = text
                self.update(problems=problems, **changes)
        if text is None and known is not None:
            _log.warning("no longer: %s", known)
        elif text != known:
            _log.warning("%s", text)

    def wait_for_generation(self, at_least: int, timeout: float | None) -> bool:
        """Wait (seconds) until a generation of at least this number is enforced."""
        with self._changed:
            return self._changed.wait_for(lambda: self._status.generation >= at_least, timeout)

    def wait_for_change(self, seen: AgentStatus, timeout: float) -> AgentStatus:
        """Wait (seconds) until the status is no longer ``seen``; returns the newest."""
        with self._changed:
            self._changed.wait_for(lambda: self._status is not seen, timeout)
            return self._status

    def wake(self) -> None:
        """Make every waiter look again."""
        with self._changed:
            self._set(replace(self._status))
