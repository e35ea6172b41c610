"""Obedience to resets (see ``resets.orders``): each at most once, by agents that run already.

An agent starts with full buckets. So it takes note of the resets that it finds at its first read of
the store, and obeys none of them. One that goes on with the buckets of an earlier process
(``kept_counters``) also goes on with its number. Of others, only an agent that has begun to decide
while the store did not answer, by the policies on its disk, obeys those of a later time than its
start. Afterwards it remembers one number: the
highest sequence that it has handled. A record that is delivered twice, deleted, put back, or taken
from a backup has lower numbers, and changes nothing.

A reset that has expired is not obeyed, by the wall clock of the agent's machine. If that clock is
fast, by more than the time for which a reset lasts, the agent obeys none: nothing is given away. If
it is slow, the agent also obeys a reset that reaches it late, and still only once.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ratectl.agent.log import log
from ratectl.errors import BundleError
from ratectl.resets.orders import Reset, Resets
from ratectl.runtime.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.agent.state import AgentState
    from ratectl.engine.api import Engine
    from ratectl.engine.buckets.resets import ResetCounts
    from ratectl.signing.continuation import Signable
    from ratectl.stores.base import Item, Store

__all__ = ["StoreResets"]

_BUCKETS: Final = ("bucket", "buckets")


class StoreResets:
    """Obeys the resets of a store. Two threads may call ``see``."""

    def __init__(
        self,
        engine: Engine,
        state: AgentState,
        verify: Callable[[Store | None, Signable], None],
        parent: StoreResets | None = None,
    ) -> None:
        """``verify`` raises ``BundleError`` for a reset that must not be obeyed.

        ``parent``: resets of the process that forked this one, whose buckets go on here.
        """
        self._engine = engine
        self._state = state
        self._verify = verify
        self._seeing = threading.Lock()
        self._started = datetime.now(UTC)
        self._handled: int | None = None if parent is None else parent._handled  # noqa: SLF001
        """Highest sequence that was handled; None before the first read."""
        self._resumed: datetime | None = None
        """Time at which this process began to go on with the buckets of an earlier one."""

    @property
    def reached(self) -> tuple[int | None, str]:
        """The highest sequence that was handled, and the time at which the counting began."""
        return self._handled, self._started.isoformat()

    def resume(self, handled: int | None, started: str) -> None:
        """Go on with the buckets of an earlier process, which had ``reached`` this.

        Resets that it missed are obeyed, also those that have expired meanwhile.

        :raises ValueError: ``started`` is no time.
        """
        self._started = datetime.fromisoformat(started)
        self._handled = handled
        self._resumed = datetime.now(UTC)
        self._state.update(reset_sequence=handled or 0)

    def see(self, store: Store, item: Item | None) -> None:
        """React to the record as read from the store; None if there is none.

        :raises StoreError: the store's identity could not be read; resets of before are handled.
        """
        with self._seeing:
            try:
                resets = Resets() if item is None else Resets.decode(item.value)
            except BundleError as error:
                self._state.problem("reset", f"{error}; no bucket is reset")
                return
            if self._handled is None:
                self._handled = self._noted(store, resets.all)
                self._state.update(reset_sequence=self._handled)
            self._obey_new(store, resets.all, self._handled)

    def _noted(self, store: Store, resets: Sequence[Reset]) -> int:
        """Return the highest sequence that was there before this agent began to decide; 0 for none.

        A number that nobody has signed does not count.
        """
        decides = self._engine.generation > 0
        for reset in reversed(resets):
            later = decides and datetime.fromisoformat(reset.time) > self._started
            if not later and self._refusal(store, reset) is None:
                return reset.sequence
        return 0

    def _obey_new(self, store: Store, resets: Sequence[Reset], handled: int) -> None:
        refused = None
        for reset in resets:
            if reset.sequence <= handled:
                continue
            why = self._refusal(store, reset)
            if why is not None:
                refused = why
                continue
            # First: whatever happens afterwards, it is not obeyed again.
            self._handled = reset.sequence
            missed = self._resumed is not None and reset.is_over(self._resumed)
            if reset.is_over(datetime.now(UTC)) and not missed:
                log.warning("%s is not obeyed: it has expired", _named(reset))
                continue
            refused = self._obey(reset) or refused
        self._state.problem("reset", refused)

    def _refusal(self, store: Store, reset: Reset) -> str | None:
        """Return why a reset must not be obeyed; None if it may."""
        try:
            self._verify(store, reset)
        except BundleError as error:
            return f"{_named(reset)} is not obeyed: {error}"
        return None

    def _obey(self, reset: Reset) -> str | None:
        """Reset the buckets; return why that failed, if it did."""
        try:
            counts = self._engine.reset(reset.scope, reset.limit, reset.key, budget=reset.budget)
        except Exception as error:  # noqa: BLE001  an order must not end the thread
            log.exception("%s has failed", _named(reset))
            return f"{_named(reset)} has failed: {type(error).__name__}: {error}"
        if counts is None:
            log.warning(
                "%s changed nothing: the policies in force have no such limit", _named(reset)
            )
        else:
            log.warning("%s: %s; reason: %s", _named(reset), _done(counts), printable(reset.reason))
        shared = 0 if counts is None else counts.shared
        self._state.update(reset_sequence=reset.sequence, reset_shared=shared)
        return None


def _done(counts: ResetCounts) -> str:
    """Return what a reset did."""
    text = f"made {counts.buckets} {_BUCKETS[counts.buckets != 1]} full"
    if counts.shared:
        text += f", kept {counts.shared} {_BUCKETS[counts.shared != 1]} that other keys share"
    return text


def _named(reset: Reset) -> str:
    """Return a reset's name for people, without its key."""
    return f"reset {reset.sequence} of {reset.limit} at {reset.scope}"
