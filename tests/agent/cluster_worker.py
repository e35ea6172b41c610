"""A process that asks an agent as fast as it may, and writes when it was admitted.

The first line is the longest time (ns) for which it did not run though it should have.

Arguments: store, state directory, file for the instants, requests for each second, seconds, number
of tenants, of which each request is of the next one, cost of a request, and what it has cost in the
end: known after 200 ms. It prints ``ready`` when its agent has a generation, and begins when it
reads a line.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from ratectl import Agent

if TYPE_CHECKING:
    from ratectl import Decision


def main(
    store: str,
    state: str,
    out: str,
    pace: float,
    seconds: float,
    tenants: int,
    cost: int,
    used: int,
) -> None:
    """Ask for a while."""
    agent = Agent(store, id=Path(state).name, state_dir=state, ready_timeout=10)
    print("ready", os.getpid(), flush=True)
    sys.stdin.readline()
    admitted: list[str] = []
    unsettled: deque[tuple[int, Decision]] = deque()
    names = itertools.cycle([f"t{number}" for number in range(tenants)])
    stall = 0
    until = time.monotonic_ns() + int(seconds * 1e9)
    while (now := time.monotonic_ns()) < until:
        # The decision uses this very reading of the clock, which all processes share.
        tenant = next(names)
        decision = agent._engine.check("/", {"tenant": tenant}, cost, now)
        if decision.allowed:
            admitted.append(f"{now} {tenant}")
            if used != cost:
                unsettled.append((now, decision))
        while unsettled and unsettled[0][0] < now - 200_000_000:
            unsettled.popleft()[1].settle(used)
        time.sleep(1 / pace)
        stall = max(stall, time.monotonic_ns() - now - int(1e9 / pace))
    Path(out).write_text("\n".join([str(stall), *admitted]), "utf-8")
    print("done", *agent.status.problems.values(), flush=True)
    sys.stdin.readline()
    agent.close()


if __name__ == "__main__":
    store, state, out, pace, seconds, *numbers = sys.argv[1:]
    main(store, state, out, float(pace), float(seconds), *map(int, numbers))
