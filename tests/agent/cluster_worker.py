"""A process that asks an agent as fast as it may, and writes when it was admitted.

Arguments: store, state directory, file for the instants, requests for each second, seconds.
It prints ``ready`` when its agent has a generation, and begins when it reads a line.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from ratectl import Agent


def main(store: str, state: str, out: str, pace: float, seconds: float) -> None:
    """Ask for a while."""
    agent = Agent(store, id=Path(state).name, state_dir=state, ready_timeout=10)
    print("ready", os.getpid(), flush=True)
    sys.stdin.readline()
    admitted: list[int] = []
    until = time.monotonic_ns() + int(seconds * 1e9)
    while (now := time.monotonic_ns()) < until:
        # The decision uses this very reading of the clock, which all processes share.
        if agent._engine.check("/", {}, 1, now).allowed:
            admitted.append(now)
        time.sleep(1 / pace)
    Path(out).write_text("\n".join(map(str, admitted)), "utf-8")
    print("done", *agent.status.problems.values(), flush=True)
    sys.stdin.readline()
    agent.close()


if __name__ == "__main__":
    store, state, out, pace, seconds = sys.argv[1:]
    main(store, state, out, float(pace), float(seconds))
