"""Reloads while threads decide: each decision is the oracle's for the same serial order.

An engine makes a decision only if nothing has happened since it last read its clock. So a clock
that never gives the same instant twice records the order in which checks and swaps took place.
"""

from __future__ import annotations

import itertools
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from engine.engines import each_engine
from engine.model import Limit, Oracle
from engine.plans import by_scope, plan_set, rate, verdict, window
from engine.rules import SECOND
from soak import scaled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.engines import MakeEngine
    from engine.model import Published, Verdict

THREADS = 4
EACH = 1_500
SWAP_EVERY = THREADS * EACH // 200

T = ("tenant",)
RATES = (rate(100, burst=40), rate(1_000, 60, burst=40), rate(7, burst=3), rate(900, burst=200))
WINDOWS = (window(16), window(9), window(14, 3), rate(50, burst=60))  # exact: few instants


class Journal:
    """A clock: every reading is later than the last, and remembered by its thread."""

    def __init__(self) -> None:
        self.now = 10**15
        self.mine = threading.local()
        self.steps = itertools.cycle((1, 999, 10**6, 7 * 10**6, 3, 20 * 10**6))
        self.reading = threading.Lock()

    def __call__(self) -> int:
        with self.reading:
            self.now += next(self.steps)
            self.mine.now = now = self.now
        return now


@pytest.fixture(autouse=True)
def eager_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def _published(generation: int) -> Published:
    """Rates, bursts, counts, algorithms, scopes and keys: something changes every time."""
    limits = [
        Limit("/", "l", RATES[generation % 4], T),
        Limit("/", "m", WINDOWS[generation // 4 % 4], shadow=generation % 7 == 0),
    ]
    if generation // 10 % 2:
        limits.append(Limit("/a", "l", RATES[generation // 2 % 4], T if generation % 3 else ()))
    return by_scope(*limits)


@each_engine
def test_every_decision_matches_the_oracle_in_serial_order(make: MakeEngine) -> None:
    clock = Journal()
    engine = make(clock)
    engine.swap(plan_set(1, _published(1)))
    asked: list[tuple[int, str, str, int, Verdict]] = []
    swapped = [(clock.now, 1)]
    generations = itertools.count(2)
    turns = itertools.count()

    def work(number: int) -> None:
        for step in range(EACH):
            scope, tenant, cost = ("/", "/a")[step % 2], "xyz"[step * number % 3], step % 5
            actual = verdict(engine.check(scope, {"tenant": tenant}, cost))
            asked.append((clock.mine.now, scope, tenant, cost, actual))
            if next(turns) % SWAP_EVERY == 0:
                generation = next(generations)
                engine.swap(plan_set(generation, _published(generation)))
                swapped.append((clock.mine.now, generation))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS), timeout=60))
    assert len(asked) == THREADS * EACH
    assert len(swapped) == 201
    _compare(asked, swapped)
    reasons = {actual.reason for *_, actual in asked}
    assert {"ok", "limited", "never"} <= reasons


@pytest.mark.parametrize("seed", range(scaled(8, 200)))
@each_engine
def test_generations_in_any_order_migrate_as_the_oracle_says(make: MakeEngine, seed: int) -> None:
    """The test above cannot choose the order of generations, as threads race; this one does."""
    chance = random.Random(seed)
    clock = Journal()
    engine, oracle = make(clock), Oracle()
    for step in range(300):
        if not step or chance.random() < 1 / 8:
            generation = chance.randrange(1, 45)
            engine.swap(plan_set(generation, _published(generation)))
            oracle.swap(generation, _published(generation), clock.now)
        scope, tenant, cost = chance.choice(["/", "/a"]), chance.choice("xyz"), step % 5
        actual = verdict(engine.check(scope, {"tenant": tenant}, cost))
        assert actual == oracle.check(scope, {"tenant": tenant}, cost, clock.now)


@each_engine
@pytest.mark.parametrize("seed", range(scaled(8, 200)))
def test_requests_during_a_swap_see_it_as_done(
    seed: int, make: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The swap works in pieces; requests between them reach some limits first."""
    monkeypatch.setattr("ratectl.engine.control._PIECES", 1)
    chance = random.Random(seed)
    engine, oracle = make(lambda: 0), Oracle()
    now, asked = 10**15, 0
    for generation in [chance.randrange(1, 45) for _ in range(40)]:

        def between(generation: int = generation, at: int = now) -> None:
            nonlocal now, asked
            if engine.generation != generation:
                return  # the swap is only being prepared
            if oracle.generation != generation:
                oracle.swap(generation, _published(generation), at)
            for _ in range(chance.randrange(3)):
                now += chance.choice((1, 999, 7 * 10**6, 10**9))
                asked += 1
                who = {"tenant": chance.choice("xyz")}
                scope, cost = chance.choice(["/", "/a"]), chance.randrange(5)
                actual = verdict(engine.check(scope, who, cost, now=now))
                assert actual == oracle.check(scope, who, cost, now)

        if engine.generation != generation:
            engine.swap(plan_set(generation, _published(generation)), now=now, pause=between)
            between()
    assert asked > 50


def _compare(
    asked: list[tuple[int, str, str, int, Verdict]], swapped: list[tuple[int, int]]
) -> None:
    oracle = Oracle()
    pending = sorted(swapped)
    for at, scope, tenant, cost, actual in sorted(asked):
        while pending and pending[0][0] < at:
            when, generation = pending.pop(0)
            oracle.swap(generation, _published(generation), when)
        assert actual == oracle.check(scope, {"tenant": tenant}, cost, at)


@each_engine
def test_each_decision_reads_the_clock_once_in_order(make: MakeEngine) -> None:
    """The assumption of the tests above."""
    clock = Journal()
    engine = make(clock)
    before = clock.now
    engine.swap(plan_set(1, _published(1)))
    engine.check("/", {})
    engine.check("/", {}, now=SECOND)
    assert clock.now == before + 1 + 999
