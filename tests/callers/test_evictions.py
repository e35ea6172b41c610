"""Evictions of buckets in the middle of decisions that use them."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

import pytest

from callers.house import ROUNDS, House, each_house
from callers.test_interruptions import Acting, Garbage, collecting_all_the_time, fork, interrupted
from soak import scaled

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.engine.decision import Decision

ONE_OF: Final = scaled(7, 1)
"""Number of runs of the collector of which one evicts: if each did, a test would take minutes."""

BUCKETS: Final = 8
"""Size of the table: a few new keys evict all buckets that may be evicted."""


@pytest.fixture(params=each_house(), ids=lambda case: "-".join(case))
def small(request: pytest.FixtureRequest) -> House:
    """An engine with a table of a few buckets."""
    return House(*request.param, max_buckets=BUCKETS)


class Flood:
    """Requests new keys, so that other buckets are evicted; sometimes reloads or forks."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.ran = 0
        self._thread = threading.get_ident()
        self.kept: list[Decision] = []
        """Decisions in use, so that the engine has to allocate the next one."""

    def __call__(self) -> None:
        if threading.get_ident() != self._thread:
            return  # a thread of another test runs the collector
        for _ in range(2 * BUCKETS):
            self.ran += 1
            decision = self.house.engine.check("/a", {"tenant": f"flood{self.ran}"})
            decision.release()
            self.kept.append(decision)
        if self.ran % 7 == 0:
            self.house.reload(extra={"rate": "1000/s", "per": "tenant"})
        if self.ran % 50 == 0:
            fork(self.house)


def by_finalizers(flood: Flood, work: Callable[[int], None]) -> None:
    with collecting_all_the_time():
        for number in range(ROUNDS):
            Garbage(flood)
            work(number)
    gc.collect()


def by_weak_references(flood: Flood, work: Callable[[int], None]) -> None:
    kept: list[Any] = []
    with collecting_all_the_time():
        for number in range(ROUNDS):
            garbage = Garbage(lambda: None)
            kept.append(weakref.ref(garbage, lambda _: flood()))
            del garbage
            work(number)
    gc.collect()


def by_the_collector(flood: Flood, work: Callable[[int], None]) -> None:
    collections = itertools.count()

    def callback(phase: str, info: Any) -> None:
        if phase == "stop" and next(collections) % ONE_OF == 0:
            flood()

    gc.callbacks.append(callback)
    try:
        with collecting_all_the_time():
            for number in range(ROUNDS):
                Garbage(lambda: None)
                work(number)
    finally:
        gc.callbacks.remove(callback)


def by_signals(flood: Flood, work: Callable[[int], None]) -> None:
    with interrupted(flood, 1e-3) as ran:
        number = 0
        while ran[0] < ROUNDS:
            number += 1
            work(number)


@pytest.mark.parametrize(
    "interrupt",
    [by_finalizers, by_weak_references, by_the_collector, by_signals],
    ids=lambda interrupt: interrupt.__name__,
)
def test_buckets_can_be_evicted_in_the_middle_of_a_decision(
    small: House, interrupt: Callable[[Flood, Callable[[int], None]], None]
) -> None:
    kept: list[Decision] = []

    def work(number: int) -> None:
        decision = small.engine.check("/a", {"tenant": str(number % (2 * BUCKETS))}, number % 3)
        if number % 5:
            decision.settle(number % 4)
            decision.release()
        else:
            kept.append(decision)
        small.engine.check_many([("/a", {"tenant": str(key)}) for key in range(3)])
        if number % 10 == 0:
            small.engine.usage()

    flood = Flood(small)
    interrupt(flood, work)
    assert flood.ran >= ROUNDS
    for decision in kept:  # their buckets are gone
        decision.settle(1)
        decision.release()
    small.reload()
    small.check_all_is_well(failures=None)


def test_attribute_mapping_can_evict_its_own_buckets(small: House) -> None:
    flood = Flood(small)
    for _ in range(ROUNDS):
        decision = small.engine.check("/a", Acting(flood))
        decision.settle(2)
        decision.release()
    small.check_all_is_well()


@pytest.mark.parametrize("cost", [0, 1, 1000])
def test_bucket_can_be_evicted_while_the_answer_is_allocated(small: House, cost: int) -> None:
    """The collector runs where the answer is allocated."""
    flood, evicted = Flood(small), 0
    check, attributes, kept = small.engine.check, {"tenant": "t"}, flood.kept
    gc.collect()  # free decisions of other tests
    kept += [check("/a", attributes, 0) for _ in range(2_000)]
    for _ in range(ROUNDS):
        kept += [check("/a", attributes, 0) for _ in range(100)]  # ... and those freed since
        kept.append(check("/a", attributes))
        with collecting_all_the_time():
            gc.disable()
            garbage = [Garbage(flood) for _ in range(6)]
            before = flood.ran
            del garbage
            gc.enable()
            kept.append(check("/a", attributes, cost))
        evicted += flood.ran > before
    if (
        small.kind != "quota"
    ):  # used buckets are not evicted; without free ones, the collector is paused
        assert evicted > ROUNDS / 2
    small.check_all_is_well(failures=None)
