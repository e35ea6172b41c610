"""Parts of a program that end with an agent: exports of its metrics, and servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ratectl.agent.log import log

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Companion", "Companions"]


class Companion(Protocol):
    """Part of a program that uses an agent until the agent is closed."""

    def close(self) -> None:
        """End. Safe to repeat."""

    def in_child(self) -> None:
        """Go on in a forked child, or end there: no thread of the parent exists."""


class Companions:
    """Companions of one agent."""

    def __init__(self) -> None:
        self._all: list[Companion] = []

    def join(self, companion: Companion) -> None:
        """Add a companion: it is closed with the agent."""
        self._all.append(companion)

    def close(self) -> None:
        """Close all, the newest first. Never raises."""
        while self._all:
            newest = self._all[-1]
            _tried(newest.close)
            self._all.remove(newest)  # now: a child that is forked meanwhile has it as well

    def in_child(self) -> None:
        """Tell all of a fork. Never raises."""
        for companion in self._all:
            _tried(companion.in_child)


def _tried(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception:  # noqa: BLE001  the others go on
        log.exception("a companion of the agent failed")
