"""Acknowledgements of agents: a watch on their records, with the time of each."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from ratectl.errors import BundleError, StoreError
from ratectl.records import AGENTS, AgentRecord
from ratectl.runtime.closing import Closing
from ratectl.stores import open_store
from ratectl.stores.base import Events, Resync
from ratectl_cli.demo.fleet import DemoFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ratectl.stores.base import Item

__all__ = ["Ack", "AckWatch"]


class Ack(NamedTuple):
    """Record of an agent that enforces a generation."""

    agent: str
    generation: int
    seen: float
    """Wall-clock time at which the record was seen in the store, like the times of the history."""
    swap_ms: float | None


class AckWatch(Closing):
    """Notes when each agent's acknowledgement of each generation is first seen in the store."""

    def __init__(self, url: str) -> None:
        self._store = open_store(url)
        snapshot = self._store.list(AGENTS)
        self._acks: dict[tuple[str, int], Ack] = {}
        self._news = threading.Condition()
        self._watch = self._store.watch(AGENTS, snapshot.revision + 1)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def wait(self, agents: Sequence[str], generation: int, seconds: float) -> list[Ack]:
        """Return the acknowledgements of ``generation`` by every agent.

        :raises DemoFailed: not all of them came in time.
        """

        def missing() -> list[str]:
            return [agent for agent in agents if (agent, generation) not in self._acks]

        with self._news:
            if not self._news.wait_for(lambda: not missing(), seconds):
                raise DemoFailed(
                    f"{', '.join(missing())} did not acknowledge generation {generation} within "
                    f"{seconds:g} s"
                )
            return [self._acks[agent, generation] for agent in agents]

    def _follow(self) -> None:
        try:
            for event in self._watch:
                if isinstance(event, Events):
                    self._note(change.item for change in event.changes)
                elif isinstance(event, Resync):
                    self._note(event.snapshot.items)
        except StoreError:
            pass  # ``wait`` runs out of time and reports it

    def _note(self, items: Iterable[Item | None]) -> None:
        seen = time.time()
        with self._news:
            for item in items:
                if item is None:
                    continue
                try:
                    record = AgentRecord.decode(item.value)
                except BundleError:
                    continue
                ack = Ack(record.id, record.generation, seen, record.swap_ms)
                self._acks.setdefault((record.id, record.generation), ack)
            self._news.notify_all()

    def close(self) -> None:
        self._watch.close()
        self._thread.join(timeout=5)
        self._store.close()
