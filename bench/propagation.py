"""Time from the return of an apply until the last of three agents acknowledges the generation.

Each round publishes a generation and waits until every agent's record in the store names it. Real
processes, a real etcd (started here) and a SQLite file; both stores in turn, round by round.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from bench.figures import show
from bench.stores import places
from ratectl.policy.language.model import Policy, PolicyTree
from ratectl.publishing._publish import publish
from ratectl.publishing.provenance import Provenance
from ratectl.records import AGENTS, AgentRecord
from ratectl.stores import open_store
from ratectl.stores.base import Events

if TYPE_CHECKING:
    from ratectl.stores.base import Store

ROUNDS = 100
AGENTS_RUN = 3

_AGENT = """
import sys, ratectl
agent = ratectl.Agent(sys.argv[1], id=sys.argv[2], state_dir=sys.argv[3])
sys.stdin.read()
agent.close()
"""


class Fleet:
    """Three agent processes on one store."""

    def __init__(self, url: str, state_dir: str) -> None:
        self.store: Store = open_store(url)
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-c", _AGENT, url, f"bench-{n}", state_dir],
                stdin=subprocess.PIPE,
            )
            for n in range(AGENTS_RUN)
        ]
        publish(self.store, _tree(0), Provenance("bench"))
        # Open before the first round: etcd delivers events from before a watch's start in a loop
        # of 100 ms, which would be measured instead.
        self._watch = self.store.watch(AGENTS, self.store.list(AGENTS).revision + 1)
        self._events = iter(self._watch)
        self._wait(1)

    def _wait(self, generation: int) -> None:
        """Wait until every agent's record names ``generation``."""
        waiting = self._behind(generation)
        for event in self._events if waiting else ():
            for change in event.changes if isinstance(event, Events) else ():
                if change.item is not None:
                    record = AgentRecord.decode(change.item.value)
                    if record.generation >= generation:
                        waiting.discard(record.id)
            if not waiting:
                return

    def _behind(self, generation: int) -> set[str]:
        there = {
            record.id
            for item in self.store.list(AGENTS).items
            if (record := AgentRecord.decode(item.value)).generation >= generation
        }
        return {f"bench-{n}" for n in range(AGENTS_RUN)} - there

    def round(self, number: int) -> float:
        """Publish once; return the milliseconds from then to the last acknowledgement."""
        entry = publish(self.store, _tree(number), Provenance("bench"))
        returned = time.perf_counter()
        assert entry is not None
        self._wait(entry.generation)
        return (time.perf_counter() - returned) * 1e3

    def close(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            process.wait(20)
        self._watch.close()
        self.store.close()


def _tree(number: int) -> PolicyTree:
    said = {"scope": "/", "limits": {"spike": {"rate": f"{number + 1}/s", "per": "tenant"}}}
    return PolicyTree({"/": Policy.model_validate(said)})


def run() -> dict[str, object]:
    with places() as found:
        fleets = {name: Fleet(url, found.state_dir) for name, url in found.urls.items()}
        taken: dict[str, list[float]] = {name: [] for name in fleets}
        try:
            for number in range(1, ROUNDS + 1):
                for name, fleet in fleets.items():
                    taken[name].append(fleet.round(number))
        finally:
            for fleet in fleets.values():
                fleet.close()
        return {name: show(f"{name}: {AGENTS_RUN} agents", ms) for name, ms in taken.items()}
