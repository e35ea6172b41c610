"""Cost of counters that outlive the process: their saves, their file, and the start after it.

An agent with 100,000 buckets, and one with a million, of token buckets that are not full. *Waking*:
a thread wakes up each millisecond to decide one request; its waiting time is the delay of that
decision. The machine itself makes threads wait too: *quiet* is the same load without a save. The
save runs in slices, as in the agent's thread; *longest slice* is in CPU time of that thread, which
other work on the machine disturbs less. *Start*: the constructor of the next agent, with the
counters and without, in turn.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.figures import percentile, show
from ratectl import Agent
from ratectl.policy.language.model import Policy, PolicyTree
from ratectl.publishing._publish import publish
from ratectl.publishing.provenance import Provenance
from ratectl.runtime.cooperative import Pacer, cooperative
from ratectl.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl.agent.kept_counters import KeptCounters

BUCKETS: Final = (100_000, 1_000_000)
TURNS: Final = 3
QUIET_SECONDS: Final = 2.0


@contextmanager
def agent_in(folder: Path, *, keeps: bool) -> Iterator[tuple[Agent, float]]:
    """Run an agent; yield it, and the seconds that its constructor took."""
    started = time.perf_counter()
    with Agent(f"sqlite:///{folder}/rates.db", state_dir=folder, keep_counters=keeps) as agent:
        took = time.perf_counter() - started
        assert agent.wait_ready(10)
        yield agent, took


def publish_in(folder: Path) -> None:
    limit = {"rate": "1000/day", "burst": 1_000, "per": "tenant"}
    policy = Policy.model_validate({"scope": "/", "limits": {"spike": limit}})
    with open_store(f"sqlite:///{folder}/rates.db") as store:
        publish(store, PolicyTree({"/": policy}), Provenance("bench", "a benchmark"))


def waits(agent: Agent, buckets: int, over: Callable[[], bool]) -> list[float]:
    """Return the milliseconds that decisions were late, until it is over."""
    found: list[float] = []
    due = time.perf_counter()
    while not over():
        due = max(due + 0.001, time.perf_counter())
        time.sleep(max(0.0, due - time.perf_counter()))
        agent.check("/", {"tenant": str(len(found) * 7_919 % buckets)})
        found.append((time.perf_counter() - due) * 1e3)
    return found


class Save(NamedTuple):
    """Times of a save, in seconds."""

    wall: float
    cpu: float
    slices: list[float]


def saving(agent: Agent, buckets: int) -> tuple[list[float], Save]:
    """Return the waits during a save, and what it took."""
    kept: KeptCounters = agent._following._kept  # type: ignore[attr-defined]
    taken: list[Save] = []

    def save() -> None:
        started, rested = time.perf_counter(), [time.thread_time()]

        def rest(seconds: float) -> None:
            rested.append(time.thread_time())
            time.sleep(seconds)

        with cooperative(Pacer(sleep=rest)):
            kept.save()
        slices = [later - before for before, later in pairwise(rested)]
        taken.append(Save(time.perf_counter() - started, rested[-1] - rested[0], slices))

    thread = threading.Thread(target=save)
    thread.start()
    found = waits(agent, buckets, lambda: not thread.is_alive())
    thread.join()
    return found, taken[0]


def measure(buckets: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publish_in(folder)
        quiet: list[float] = []
        busy: list[float] = []
        saves: list[Save] = []
        with agent_in(folder, keeps=True) as (agent, _):
            for number in range(buckets):
                agent.check("/", {"tenant": str(number)}, 9)
            for _ in range(TURNS):
                end = time.perf_counter() + QUIET_SECONDS
                quiet += waits(agent, buckets, lambda end=end: time.perf_counter() > end)
                found, save = saving(agent, buckets)
                busy += found
                saves.append(save)
        size = next(folder.rglob("counters")).stat().st_size
        starts: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(TURNS):
            for keeps in (False, True):
                with agent_in(folder, keeps=keeps) as (_, took):
                    starts[keeps].append(took * 1e3)
    ratio = percentile(busy, 0.99) / percentile(quiet, 0.99)
    print(f"  {buckets:,} buckets")
    figures = {
        "waiting, quiet": show("  waiting, quiet", quiet),
        "waiting, during a save": show("  waiting, during a save", busy),
        "start without counters": show("  start without counters", starts[False]),
        "start with counters": show("  start with counters", starts[True]),
        "p99 during a save / quiet": round(ratio, 2),
        "seconds of a save": round(statistics.median(save.wall for save in saves), 2),
        "CPU of a save for a bucket, us": round(min(save.cpu for save in saves) / buckets * 1e6, 2),
        "longest slice, ms": round(min(max(save.slices) for save in saves) * 1e3, 2),
        "bytes of a bucket": round(size / buckets, 1),
        "file, MB": round(size / 1e6, 1),
    }
    for label, value in list(figures.items())[4:]:
        print(f"    {label:<44} {value}")
    return figures


def run() -> dict[str, object]:
    return {f"{buckets} buckets": measure(buckets) for buckets in BUCKETS}
