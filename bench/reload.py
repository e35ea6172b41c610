"""Waiting time of checks during a reload of 10,000 policies with many live buckets.

Three levels, several limits each; every generation changes the rate of every endpoint. The reload
is the real one: the bytes are verified, compiled, checked and swapped in, and the old policies are
released. It runs *in slices*, as in an agent's thread (see ``ratectl.runtime.cooperative``),
and for comparison *in one go*. A load runs at the same time. *tight*: a thread that always decides;
its waiting time is the time between two decisions. *waking*: two threads that wake up each
millisecond to decide one request; their waiting time is the delay of that decision. The machine
itself makes threads wait too: *quiet* is the same load for the same time without a reload.

Waits above a millisecond are attributed to the part of the reload at that time, or to the cycle
collector. *Longest slice* is in CPU time of the reload's thread, which other work on the machine
disturbs less: its longest computation without a pause (other threads can run during hashing).

``RELOAD_BUCKETS`` and ``RELOAD_ROUNDS`` in the environment set the numbers of buckets and rounds.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ratectl.runtime.cooperative
from bench.figures import percentile, show
from ratectl.agent import Agent
from ratectl.agent.enforcement import Enforcement
from ratectl.agent.wall_clock import WallClock
from ratectl.compiler.activation import verified
from ratectl.engine.pure import PureEngine
from ratectl.policy.bundle import digest, encode_policies
from ratectl.policy.language.model import Policy, PolicyTree
from ratectl.publishing._publish import publish
from ratectl.publishing.provenance import Provenance
from ratectl.runtime.cooperative import Pacer, cooperative, release
from ratectl.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl.engine.api import Engine

TEAMS = 100
SCOPES = 10_000
OVERRIDDEN = 20
"""One team of so many has overrides."""
SEED = 20_261_130
ROUNDS = int(os.environ.get("RELOAD_ROUNDS", "3"))
ASKED = 20_000
"""Number of different requests of a load."""
STALL_NS = 1_000_000
WAKE_SECONDS = 0.001
WAKING = 2

Request = tuple[str, dict[str, str]]


def tree(generation: int, scopes: int = SCOPES) -> PolicyTree:
    """Return a tree: common limits, teams with a budget, endpoints with their own limits."""
    said: list[dict[str, Any]] = [
        {
            "scope": "/",
            "limits": {
                "spike": {"rate": "50/min", "burst": 100, "per": "tenant"},
                "steady": {"algorithm": "sliding-window", "rate": "1500/h", "per": "tenant"},
            },
            "caps": {"spike": {"rate": "1000/s", "burst": 5000}},
        }
    ]
    for team in range(TEAMS):
        of: dict[str, Any] = {
            "scope": f"/team{team}",
            "owner": f"team-{team}",
            "budgets": {"all": {"rate": f"{10_000 + team}/s", "burst": 20_000}},
        }
        if team % OVERRIDDEN == 0:
            of["overrides"] = [
                {"name": name, "match": {"tier": name}, "limits": {"spike": {"burst": burst}}}
                for name, burst in (("gold", 400), ("silver", 200 + generation % 2))
            ]
        said.append(of)
    for number in range(scopes - len(said)):
        pace = 1 + (number + generation) % 50
        limits = {
            "spike": {"rate": f"{pace}/min", "burst": 50},
            "writes": {"rate": f"{pace}/h", "burst": 20, "per": ["tenant", "route"]},
        }
        if number % 10 == 0:
            limits["daily"] = {"algorithm": "quota", "rate": f"{1000 * pace}/day", "per": "tenant"}
        team, place = number % TEAMS, number // TEAMS
        said.append({"scope": f"/team{team}/endpoint{place}", "limits": limits})
    policies = [Policy.model_validate(one) for one in said]
    return PolicyTree({policy.scope: policy for policy in policies})


def requests(policies: PolicyTree) -> Iterator[Request]:
    """Yield requests of all endpoints again and again, each round for new tenants."""
    chance = random.Random(SEED)
    endpoints = [scope for scope in policies.policies if scope.count("/") == 2]
    number = count()
    while True:
        chance.shuffle(endpoints)
        for scope in endpoints:
            tenant = next(number)
            tier = ("gold", "silver", "free")[tenant % 3]
            yield scope, {"tenant": f"tenant{tenant}", "route": "POST /", "tier": tier}


def fill(engine: Engine, policies: PolicyTree, buckets: int) -> list[Request]:
    """Send requests until that many buckets are live; return some of the requests."""
    asked: list[Request] = []
    for number, request in enumerate(requests(policies)):
        if number % 5_000 == 0 and engine.usage().buckets >= buckets:
            break
        engine.check(*request)
        asked.append(request)
    return random.Random(SEED).sample(asked, min(ASKED, len(asked)))


# -- what happens when


class Span(NamedTuple):
    name: str
    start: int
    end: int
    depth: int


COLLECTOR = 99
"""Parts during which a pass of the collector may run."""


class Journal:
    """Record of a reload: its parts, its longest slices, and the passes of the collector."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.slices: list[tuple[int, int, int]] = []
        """Start, end, and CPU time."""
        self._depth = 0
        self._collecting = 0

    def clear(self) -> None:
        self.spans.clear()
        self.slices.clear()

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        start = time.perf_counter_ns()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self.spans.append(Span(name, start, time.perf_counter_ns(), self._depth))

    def follow(self, owner: Any, attribute: str, name: str) -> None:
        """Record every call of a function or method."""
        call = getattr(owner, attribute)

        def noted(*args: Any, **named: Any) -> Any:
            with self.during(name):
                return call(*args, **named)

        setattr(owner, attribute, noted)

    def collector(self, phase: str, info: dict[str, int]) -> None:
        """A callback of the collector."""
        if phase == "start":
            self._collecting = time.perf_counter_ns()
        else:
            name = f"collector, generation {info['generation']}"
            now = time.perf_counter_ns()
            self.spans.append(Span(name, self._collecting, now, COLLECTOR))

    def at(self, start: int, end: int) -> str:
        """Return the innermost part that ran for most of this time."""
        whole = end - start
        lasting = [
            span
            for span in self.spans
            if min(end, span.end) - max(start, span.start) > whole / 2
        ]  # fmt: skip
        return max(lasting, key=lambda span: span.depth).name if lasting else "anything else"

    def took(self, rounds: int) -> dict[str, float]:
        """Return the milliseconds of each part of a round."""
        taken: dict[str, float] = {}
        for span in self.spans:
            taken[span.name] = taken.get(span.name, 0.0) + (span.end - span.start) / 1e6 / rounds
        return {name: round(ms, 1) for name, ms in taken.items()}

    def longest(self) -> dict[str, float]:
        """Return the longest slice of each part, in milliseconds of CPU time."""
        found: dict[str, float] = {}
        for start, end, cpu in self.slices:
            name = self.at(start, end)
            found[name] = max(found.get(name, 0.0), round(cpu / 1e6, 3))
        return dict(sorted(found.items(), key=lambda each: -each[1]))


PARTS = (
    ("ratectl.agent.adoption", "read_blob", "read from the store"),
    ("ratectl.agent.adoption", "verified", "verify"),
    ("ratectl.agent.adoption", "release", "let go"),
    ("ratectl.compiler.activation", "digest", "hash"),
    ("ratectl.compiler.activation", "decode_policies", "decode"),
    ("ratectl.compiler.activation", "too_much_inherited", "count what is inherited"),
    ("ratectl.compiler.activation", "compiled", "compile"),
    ("ratectl.compiler.activation", "_self_check", "self-check"),
)


@contextmanager
def followed(engine: Any) -> Iterator[Journal]:
    """Yield a journal that records what happens in this block."""
    journal = Journal()

    class Watched(Pacer):
        def begin(self) -> None:
            super().begin()
            self.began = time.perf_counter_ns(), time.thread_time_ns()

        def end(self) -> None:
            start, cpu = self.began
            used = time.thread_time_ns() - cpu
            journal.slices.append((start, time.perf_counter_ns(), used))
            super().end()

    replaced: list[tuple[Any, str, Any]] = [(ratectl.runtime.cooperative, "Pacer", Pacer)]
    for module, attribute, name in PARTS:
        owner = importlib.import_module(module)
        replaced.append((owner, attribute, getattr(owner, attribute)))
        journal.follow(owner, attribute, name)
    journal.follow(engine, "swap", "swap")
    journal.follow(engine._groups, "prepare", "swap: prepare")
    journal.follow(engine._groups, "start", "swap: start")
    ratectl.runtime.cooperative.Pacer = Watched  # type: ignore[misc]
    gc.callbacks.append(journal.collector)
    try:
        yield journal
    finally:
        gc.callbacks.remove(journal.collector)
        for owner, attribute, before in replaced:
            setattr(owner, attribute, before)


# -- loads


class Load:
    """Threads that decide, with the waiting time of each decision (ns)."""

    def __init__(self, check: Callable[..., object], asked: list[Request]) -> None:
        self.waits = array("q")
        self.stalls: list[tuple[int, int]] = []
        self._check = check
        self._asked = asked
        self._stop = False

    def start(self, kind: str) -> list[threading.Thread]:
        threads = {
            "alone": [],
            "tight": [threading.Thread(target=self._tight)],
            "waking": [threading.Thread(target=self._waking, args=(at,)) for at in range(WAKING)],
        }[kind]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        del self.waits[:]
        self.stalls.clear()
        return threads

    def _tight(self) -> None:
        check, clock, waits = self._check, time.perf_counter_ns, self.waits
        last = clock()
        while not self._stop:
            for scope, attributes in self._asked:
                check(scope, attributes)
                now = clock()
                waits.append(now - last)
                if now - last > STALL_NS:
                    self.stalls.append((last, now))
                if self._stop:
                    return
                last = now

    def _waking(self, at: int) -> None:
        clock = time.perf_counter_ns
        asked = self._asked[at::WAKING]
        for number in count():
            if self._stop:
                return
            due = clock() + round(WAKE_SECONDS * 1e9)
            time.sleep(WAKE_SECONDS)
            self._check(*asked[number % len(asked)])
            now = clock()
            self.waits.append(now - due)
            if now - due > STALL_NS:
                self.stalls.append((due, now))

    def stop(self, threads: list[threading.Thread]) -> None:
        self._stop = True
        for thread in threads:
            thread.join()


class Measured(NamedTuple):
    """Results of rounds of work with a load."""

    ms: list[float]
    loads: list[Load]

    def figures(self, journal: Journal | None = None) -> dict[str, Any]:
        """Return the longest wait, p99.99, and the waits above a millisecond with their causes."""
        waits = [wait / 1e6 for load in self.loads for wait in load.waits]
        stalls = [stall for load in self.loads for stall in load.stalls]
        found: dict[str, Any] = {
            "longest": round(max(waits, default=0.0), 3),
            "longest_by_round": [round(max(load.waits, default=0) / 1e6, 3) for load in self.loads],
            "p99.99": round(percentile(waits, 0.9999), 3) if waits else 0.0,
            "above_1ms": len(stalls),
            "decisions": len(waits),
        }
        if journal is not None:
            blamed: dict[str, list[float]] = {}
            for start, end in stalls:
                blamed.setdefault(journal.at(start, end), []).append((end - start) / 1e6)
            found["above_1ms_during"] = {
                name: {"times": len(took), "longest": round(max(took), 3)}
                for name, took in sorted(blamed.items(), key=lambda each: -max(each[1]))
            }
        return found


def beside(
    kind: str, check: Callable[..., object], asked: list[Request], work: Callable[[], float | None]
) -> Measured:
    """Run rounds of work with a load; the work may return its own time (ms)."""
    measured = Measured([], [])
    for _ in range(ROUNDS):
        load = Load(check, asked)
        threads = load.start(kind)
        started = time.perf_counter()
        took = work()
        measured.ms.append((time.perf_counter() - started) * 1e3 if took is None else took)
        time.sleep(0.1)  # wait for later effects, for example a pass of the collector
        load.stop(threads)
        measured.loads.append(load)
    return measured


def tell(title: str, of: dict[str, Any]) -> None:
    print(
        f"    {title:<14} longest {of['longest']:>8.2f} ms   p99.99 {of['p99.99']:>7.2f} ms"
        f"   above 1 ms: {of['above_1ms']} of {of['decisions']}"
    )
    for name, stalls in of.get("above_1ms_during", {}).items():
        print(f"      {name}: {stalls['times']}, longest {stalls['longest']:.2f} ms")


def compared(
    title: str,
    kind: str,
    check: Callable[..., object],
    asked: list[Request],
    work: Callable[[], float | None],
    journal: Journal,
) -> dict[str, Any]:
    """Measure the load with the work, and the load alone."""
    gc.collect()
    journal.clear()
    done = beside(kind, check, asked, work)
    figures: dict[str, Any] = {"took": show(title, done.ms), "parts": journal.took(ROUNDS)}
    if journal.slices:
        figures["longest_slice"] = journal.longest()
        print(f"    longest slice, CPU ms: {figures['longest_slice']}")
    if kind == "alone":
        print(f"    parts, ms: {figures['parts']}")
        return figures
    figures["loaded"] = done.figures(journal)
    tell("loaded", figures["loaded"])
    journal.clear()
    seconds = sum(done.ms) / len(done.ms) / 1e3
    quiet = beside(kind, check, asked, lambda: time.sleep(seconds))
    figures["quiet"] = quiet.figures(journal)
    tell("quiet", figures["quiet"])
    return figures


# -- reloads


def engines() -> dict[str, tuple[Callable[..., Engine], int]]:
    """Return the available engines, with the number of buckets for each."""
    found: dict[str, tuple[Callable[..., Engine], int]] = {"pure": (PureEngine, 100_000)}
    with contextlib.suppress(ImportError):
        fast = importlib.import_module("ratectl.engine.native.engine").FastEngine
        found["c"] = (fast, 1_000_000)
    return found


def wanted_buckets(usual: int) -> int:
    return int(os.environ.get("RELOAD_BUCKETS") or usual)


def reloading(name: str, make: Callable[..., Engine], buckets: int) -> dict[str, Any]:
    """Reload an engine's policies again and again: alone, and with each load."""
    bundles = [encode_policies(tree(generation)) for generation in range(2)]
    hashes = [digest(data) for data in bundles]
    options = {"max_buckets": 2 * buckets} if name == "c" else {}
    engine = make(time.monotonic_ns, **options)
    enforcement = Enforcement(engine, WallClock())
    enforcement.enforce(tree(0), 1)
    asked = fill(engine, tree(0), wanted_buckets(buckets))
    figures: dict[str, Any] = {"buckets": engine.usage().buckets}
    print(
        f"  {name}: {SCOPES} policies, {len(bundles[0])} bytes; {figures['buckets']} live buckets"
    )
    generations = count(2)

    def reload() -> None:
        """Reload as an agent's thread does."""
        generation = next(generations)
        at = (generation - 1) % 2
        with journal.during("verify"):
            policies = verified(bundles[at], hashes[at])
        spent = enforcement.enforce(policies, generation)
        with journal.during("let go"):
            spent.append(list(policies.policies.values()))
            del policies
            release(*spent)

    def in_slices() -> None:
        with cooperative():
            reload()

    with followed(engine) as journal:
        for way, work in (("in one go", reload), ("in slices", in_slices)):
            for kind in ("alone", "tight", "waking"):
                title = f"{way}, {kind}"
                figures[title] = compared(title, kind, engine.check, asked, work, journal)
    return figures


_PUBLISH = """
import sys
from pathlib import Path
from ratectl.policy.bundle import decode_policies
from ratectl.publishing.provenance import Provenance
from ratectl.publishing._publish import publish
from ratectl.stores import open_store
tree = decode_policies(Path(sys.argv[2]).read_bytes())
store = open_store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
publish(store, tree, Provenance("bench"))
store.close()
"""


def agents() -> dict[str, Any]:
    """Measure reloads of an agent; the time is the agent's own, from reading the new head."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/rates.db"
        for number in range(2):
            (Path(folder) / f"bundle{number}").write_bytes(encode_policies(tree(number)))
        with open_store(url) as store:
            publish(store, tree(0), Provenance("bench"))
        # Usage reports are not a part of a reload, and have many limits here.
        with Agent(url, state_dir=f"{folder}/state", report_interval=3_600) as agent:
            return _following(agent, url, folder)


def _following(agent: Agent, url: str, folder: str) -> dict[str, Any]:
    engine = agent._engine
    asked = fill(engine, tree(0), wanted_buckets(100_000))
    figures: dict[str, Any] = {"engine": engine.name, "buckets": engine.usage().buckets}
    print(f"  an agent on SQLite, {engine.name}: {figures['buckets']} live buckets")

    def reload() -> float | None:
        generation = agent.generation
        publisher.stdin.write(b"go\n")  # type: ignore[union-attr]
        publisher.stdin.flush()  # type: ignore[union-attr]
        assert agent.wait_for_generation(generation + 1, 120)
        time.sleep(0.5)  # the agent persists the new generation, and releases the old one
        ready()
        return agent.status.swap_ms

    def ready() -> None:
        """Start the next publisher, which reads and validates before the measurement."""
        nonlocal publisher
        publisher.communicate()
        bundle = f"{folder}/bundle{agent.generation % 2}"
        command = [sys.executable, "-c", _PUBLISH, url, bundle]
        publisher = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert publisher.stdout is not None
        publisher.stdout.readline()

    publisher = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)
    ready()
    with followed(engine) as journal:
        for kind in ("tight", "waking"):
            title = f"an agent, {kind}"
            figures[title] = compared(title, kind, agent.check, asked, reload, journal)
    publisher.communicate()
    return figures


def run() -> dict[str, object]:
    figures: dict[str, object] = {}
    for name, (make, buckets) in engines().items():
        figures[name] = reloading(name, make, buckets)
    figures["agent"] = agents()
    return figures
