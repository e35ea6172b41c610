"""Watches of the in-memory store."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ratectl.runtime.wakeup import Wakeup
from ratectl.stores.base import Events, Progress, Resync, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.stores.base import WatchEvent
    from ratectl.stores.memory.contents import Contents, State

__all__ = ["MemoryWatch"]

PROGRESS_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 1.0
"""Longest wait between two looks. A writer that was interrupted may have woken no watch."""


class MemoryWatch(Watch):
    """See :class:`~ratectl.stores.base.Watch`. Iterate from one thread at a time."""

    def __init__(self, contents: Contents, prefix: str, from_revision: int) -> None:
        self._contents = contents
        self._prefix = prefix
        self._next = from_revision
        self._wakeup = Wakeup()
        self._closed = False

    def __iter__(self) -> Iterator[WatchEvent]:
        progress_due = 0.0
        try:
            self._contents.waiting.append(self._wakeup)
            while not self._closed:
                state = self._contents.state()
                yield from self._news(state)
                now = time.monotonic()
                if now >= progress_due and not self._closed:
                    progress_due = now + PROGRESS_SECONDS
                    yield Progress(state.revision)
                self._wakeup.wait(min(LOOK_SECONDS, state.due - time.monotonic()))
        finally:
            with suppress(ValueError):  # interrupted before it was added
                self._contents.waiting.remove(self._wakeup)

    def close(self) -> None:
        """See :meth:`Watch.close`."""
        self._closed = True
        self._wakeup.set()

    def _news(self, state: State) -> Iterator[WatchEvent]:
        """Yield everything that happened up to ``state`` and was not delivered yet."""
        reason = ""
        if self._next < state.compacted:
            reason = f"revisions before {state.compacted} are compacted"
        elif self._next > state.revision + 1:
            reason = f"the store is at revision {state.revision}"
        if reason:
            yield Resync(state.snapshot(self._prefix), reason)
            self._next = state.revision + 1
        for event in state.history:
            if self._closed:
                return
            if event.revision >= self._next:
                changes = tuple(c for c in event.changes if c.key.startswith(self._prefix))
                if changes:
                    yield Events(event.revision, changes)
                # After the yield: an abandoned event is delivered again.
                self._next = event.revision + 1
        self._next = max(self._next, state.revision + 1)
