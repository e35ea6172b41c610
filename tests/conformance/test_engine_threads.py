"""Threads: exactly the limit is admitted, and every count is exact."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from engine.model import Limit
from engine.plans import by_scope, plan_set, rate, window

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.engine_rig import Rig
    from engine.rules import Rule

THREADS = 5
EACH = 400


def together(work: Callable[[int], None]) -> None:
    """Run ``work`` in several threads that start at the same time; raise their errors."""
    gate = threading.Barrier(THREADS)

    def run(number: int) -> None:
        gate.wait(10)
        work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(run, range(THREADS), timeout=60))


@pytest.mark.usefixtures("eager_threads")
@pytest.mark.parametrize("rule", [rate(1, burst=777), window(777)], ids=["tokens", "window"])
def test_threads_admit_exactly_the_limit(rig: Rig, rule: Rule) -> None:
    rig.publish(Limit("/", "l", rule), Limit("/", "m", rate(1, burst=9_999), ("tenant",)))
    passed = [0] * THREADS

    def work(number: int) -> None:
        for _ in range(EACH):
            passed[number] += rig.ask(tenant=str(number)).allowed

    together(work)
    assert sum(passed) == 777
    usage = rig.usage()
    assert (usage.allowed, usage.refused) == (777, THREADS * EACH - 777)
    rig.publish(Limit("/", "m", rate(1, burst=9_999), ("tenant",)))
    for number in range(THREADS):
        assert rig.left(tenant=str(number)) == 9_999 - passed[number]


@pytest.mark.usefixtures("eager_threads")
def test_threads_that_meet_new_keys_share_one_bucket_each(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1, burst=3), ("tenant",)))
    passed = [0] * THREADS

    def work(number: int) -> None:
        for key in range(EACH):
            passed[number] += rig.ask(tenant=str(key)).allowed

    together(work)
    assert sum(passed) == 3 * EACH
    assert rig.engine.usage().buckets == EACH


@pytest.mark.usefixtures("eager_threads")
def test_swaps_neither_add_nor_lose_tokens(rig: Rig) -> None:
    """Rates, windows and shadow limits are added and removed; the burst stays."""
    passed = [0] * THREADS
    rules = [rate(1, burst=500), rate(7, 60, burst=500), rate(0, 1, burst=500)]
    extra = Limit("/", "m", rate(1, burst=10**6), ("tenant",), shadow=True)

    def publish(generation: int) -> None:
        limits = [Limit("/", "l", rules[generation % 2])] + [extra] * (generation % 3 > 0)
        rig.engine.swap(plan_set(generation, by_scope(*limits)))

    publish(1)

    def work(number: int) -> None:
        for step in range(EACH):
            passed[number] += rig.ask(tenant=str(number)).allowed
            if step % 10 == 0:
                publish(number * EACH + step + 1)

    together(work)
    assert sum(passed) == 500
    assert rig.usage().allowed == 500


def test_fork_waits_for_the_lock_and_releases_it(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1, burst=2)))
    for child in (False, True):
        fork = rig.engine.standstill()
        next(fork)
        late: list[bool] = []
        other = threading.Thread(target=lambda late=late: late.append(rig.ask().allowed))
        if not child:  # after a fork, the child has no other threads
            other.start()
            assert late == []
        fork.close()
        if child:
            rig.engine.after_fork_in_child()
        if not child:
            other.join(10)
            assert late == [True]
        rig.publish(Limit("/", "l", rate(1, burst=2)))
    assert [rig.ask().allowed, rig.ask().allowed] == [True, False]
