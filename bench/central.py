"""Decisions per second by limits that a Valkey server counts, beside those of a local limit.

One real server on this machine, over loopback: a network adds its round trip to each decision. All
processes share the cores, so that the server and the clients wait for each other.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from ratectl import Agent
from valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS: Final = 2.0
LOCAL: Final = "apiVersion: ratectl/v1\nscope: /\nlimits:\n  a: {rate: 900_000_000/s, per: key}\n"
ONE: Final = LOCAL.replace("per: key", "per: key, across: redis")
THREE: Final = ONE + (
    "  b: {algorithm: sliding-window, rate: 900_000_000/min, per: key, across: redis}\n"
    "  c: {algorithm: quota, rate: 900_000_000/day, across: redis}\n"
)
KEYS: Final = [{"key": f"k{number}"} for number in range(1000)]


def run() -> dict[str, object]:
    """Measure each way to ask once."""
    figures: dict[str, object] = {}
    with Agent.from_policies(LOCAL) as agent:
        local = _rate(agent.check)
        figures["check, local limit"] = {"per_second": local, "ratio": 1.0}
    server = ValkeyServer.start()
    try:
        for name, policies in (("1 limit", ONE), ("3 limits", THREE)):
            with Agent.from_policies(policies, redis=server.url, redis_deadline=5) as agent:
                for way, rate in _ways(agent).items():
                    figures[f"{way}, {name}"] = {"per_second": rate, "ratio": rate / local}
                assert not agent.status.problems, agent.status.problems
    finally:
        server.stop()
    for name, figure in figures.items():
        per_second, ratio = figure["per_second"], figure["ratio"]  # type: ignore[index]
        print(f"    {name:38} {per_second:>12,.0f}/s   {ratio:8.2%} of a local decision")
    return figures


def _ways(agent: Agent) -> dict[str, float]:
    return {
        "check_blocking, 1 thread": _rate(agent.check_blocking),
        "check_blocking, 8 threads": _threads(agent, 8),
        "acheck, 1 task": asyncio.run(_tasks(agent, 1)),
        "acheck, 50 tasks": asyncio.run(_tasks(agent, 50)),
    }


def _rate(check: Callable[..., object]) -> float:
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        for key in KEYS[:100]:
            check("/", key)
        count += 100
    return count / (time.perf_counter() - began)


def _threads(agent: Agent, number: int) -> float:
    rates: list[float] = []
    threads = [
        threading.Thread(target=lambda: rates.append(_rate(agent.check_blocking)))
        for _ in range(number)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


async def _tasks(agent: Agent, number: int) -> float:
    end = time.perf_counter() + SECONDS

    async def ask() -> int:
        count = 0
        while time.perf_counter() < end:
            await agent.acheck("/", KEYS[count % len(KEYS)])
            count += 1
        return count

    return sum(await asyncio.gather(*[ask() for _ in range(number)])) / SECONDS
