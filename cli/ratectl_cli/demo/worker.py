"""Agent process of the demo: a service that asks its agent before it answers a request.

It reads one line of JSON from standard input, and ends when that input ends, so that it never
outlives the demo. It prints one line when it is ready and one with its figures.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

from ratectl.agent import Agent
from ratectl_cli.demo.feed import Feed, scope_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main", "serve"]

_REPORT_SECONDS = 0.2
_READY_SECONDS = 10.0


def serve(settings: dict[str, Any], stop: threading.Event, say: Callable[..., None]) -> None:
    """Decide requests until ``stop``."""
    feed = Feed(**settings["feed"])
    with Agent(
        settings["store"],
        id=settings["id"],
        state_dir=settings["state_dir"],
        report_interval=_REPORT_SECONDS,
        ready_timeout=_READY_SECONDS,
    ) as agent:
        say(ready=True, generation=agent.generation)
        say(**_replay(agent, feed, stop))


def _replay(agent: Agent, feed: Feed, stop: threading.Event) -> dict[str, Any]:
    decided = refused = errors = slowest = 0
    clock = time.perf_counter_ns
    started = time.monotonic()
    for due, request in feed.requests():
        ahead = started + due - time.monotonic()
        if stop.wait(ahead) if ahead > 0 else stop.is_set():
            break
        begun = clock()
        decision = agent.check(scope_of(request), request.attributes)
        slowest = max(slowest, clock() - begun)
        decided += 1
        refused += not decision
        errors += decision.reason == "error"
    return {"decided": decided, "refused": refused, "errors": errors, "slowest_ns": slowest}


def main(stdin: TextIO = sys.stdin, stdout: TextIO = sys.stdout) -> None:
    """Serve until standard input ends."""
    # Ctrl-C reaches every process of a terminal; the demo decides what ends when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = json.loads(stdin.readline())
    stop = threading.Event()

    def until_the_end() -> None:
        while stdin.read(4096):
            pass
        stop.set()

    def say(**what: Any) -> None:
        stdout.write(json.dumps(what) + "\n")
        stdout.flush()

    threading.Thread(target=until_the_end, daemon=True).start()
    serve(settings, stop, say)


if __name__ == "__main__":
    main()
