"""Time from `panic on` until every request passes, with 10,000 policies, and the same for off.

A real agent process whose every limit refuses, with steady requests; a real etcd (started here)
and a SQLite file. The time ends with the first answer after which all requested scopes pass. It is
measured on an idle agent, and while the agent applies a generation
in which every policy has changed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from bench.figures import show
from bench.stores import places
from ratectl.kill_switch.switches import Switch, change_switches
from ratectl.policy.language.model import Policy, PolicyTree
from ratectl.publishing._publish import publish
from ratectl.publishing.provenance import Provenance
from ratectl.stores import open_store

if TYPE_CHECKING:
    from ratectl.stores.base import Store

POLICIES = 10_000
ROUNDS = 20
BUSY_ROUNDS = 3

_AGENT = """
import sys, time, ratectl
scopes = ["/", *(f"/team-{n}/x" for n in range(0, int(sys.argv[3]), 7))]
agent = ratectl.Agent(sys.argv[1], state_dir=sys.argv[2], ready_timeout=120)
def until(wanted):
    streak = 0
    while streak < len(scopes):  # every one of them, one after the other
        for scope in scopes:
            streak = streak + 1 if agent.check(scope).allowed is wanted else 0
        time.sleep(0.001)
    return time.perf_counter()
until(False)
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "generation":
        print(agent.generation, flush=True)
    else:
        print(until(line.strip() == "on"), flush=True)
agent.close()
"""


class Bench:
    """An agent process on a store with many refusing policies."""

    def __init__(self, url: str, state_dir: str) -> None:
        self.store: Store = open_store(url, timeout=60)
        self._generation = 0
        self.publish()
        self._agent = subprocess.Popen(
            [sys.executable, "-c", _AGENT, url, state_dir, str(POLICIES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the agent logs a warning for every switch
            text=True,
        )
        assert self._told() == "ready"

    def publish(self) -> None:
        """Publish a generation in which every policy is changed."""
        self._generation += 1
        none = {"limits": {"l": {"rate": "0/s", "burst": self._generation}}}
        scopes = ["/", *(f"/team-{number}" for number in range(POLICIES))]
        said = {scope: Policy.model_validate({"scope": scope, **none}) for scope in scopes}
        publish(self.store, PolicyTree(said), Provenance("bench"))

    def turn(self, *, on: bool) -> float:
        """Turn the switch; return the milliseconds until the agent obeys, from before the write."""
        switch = Switch.now("/", "open", "bench", "bench")
        self._tell("on" if on else "off")
        started = time.perf_counter()
        change_switches(
            self.store, lambda known: known.turned_on(switch) if on else known.turned_off()
        )
        return (float(self._told()) - started) * 1e3

    @property
    def generation(self) -> int:
        """Return the generation that the agent enforces."""
        self._tell("generation")
        return int(self._told())

    def turn_while_busy(self) -> tuple[float, float]:
        """Turn the switch on while the agent applies a generation; return both times."""
        self.publish()
        started = time.perf_counter()
        time.sleep(0.2)
        taken = self.turn(on=True)
        assert self.generation < self._generation, "the agent was still busy"
        while self.generation < self._generation:
            time.sleep(0.01)
        busy = (time.perf_counter() - started) * 1e3
        self.turn(on=False)
        return taken, busy

    def _tell(self, word: str) -> None:
        assert self._agent.stdin is not None
        self._agent.stdin.write(f"{word}\n")
        self._agent.stdin.flush()

    def _told(self) -> str:
        assert self._agent.stdout is not None
        return self._agent.stdout.readline().strip()

    def close(self) -> None:
        assert self._agent.stdin is not None
        self._agent.stdin.close()
        self._agent.wait(60)
        self.store.close()


def run() -> dict[str, object]:
    with places() as found:
        return {name: _of(name, url, found.state_dir) for name, url in found.urls.items()}


def _of(name: str, url: str, state_dir: str) -> dict[str, Any]:
    bench = Bench(url, state_dir)
    try:
        turned = [(bench.turn(on=True), bench.turn(on=False)) for _ in range(ROUNDS)]
        busy = [bench.turn_while_busy() for _ in range(BUSY_ROUNDS)]
    finally:
        bench.close()
    return {
        "on": show(f"{name}: on", [each[0] for each in turned]),
        "off": show(f"{name}: off", [each[1] for each in turned]),
        "on_while_busy": show(f"{name}: on, taking a generation", [each[0] for each in busy]),
        "busy": show(f"{name}: (taking that generation)", [each[1] for each in busy]),
    }
