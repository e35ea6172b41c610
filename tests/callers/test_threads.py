"""Decisions in many threads, with reloads; in greenlets, tasks and forked children."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import greenlet
import pytest

from callers.house import BURST, ROUNDS, SANITIZED, House

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREADS = 4


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(work: Callable[[int], Any]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS), timeout=50))


def test_threads_that_share_one_bucket_admit_exactly_its_burst(house: House) -> None:
    def work(number: int) -> None:
        for step in range(2 * ROUNDS):
            house.ask()
            if step % 10 == 0:
                house.engine.check("/a", {"tenant": f"{number}"}).release()

    together(work)
    assert len(house.admitted) == BURST
    assert house.left() == 0
    house.check_all_is_well()


def test_threads_can_reload_settle_and_release_at_the_same_time(house: House) -> None:
    reloading = threading.Lock()

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(ROUNDS):
            decision = house.engine.check("/a", {"tenant": chance.choice("xyz")})
            if chance.random() < 0.3:
                decision.settle(chance.randrange(3))
            decision.release()
            house.ask()
            if chance.random() < 0.05:
                with reloading:
                    house.reload(**{f"e{chance.randrange(3)}": {"rate": "99/s", "per": "tenant"}})
            if chance.random() < 0.05:
                house.engine.usage()

    together(work)
    house.reload()
    assert len(house.admitted) == BURST
    house.check_all_is_well()


def test_slots_are_given_back_by_other_threads(house: House) -> None:
    taken: list[Any] = []

    def take(number: int) -> None:
        for _ in range(ROUNDS):
            taken.append(house.engine.check("/a", {"tenant": "t"}))

    together(take)
    assert sum(decision.reason == "ok" for decision in taken) == BURST

    def give_back(number: int) -> None:
        for decision in taken:
            decision.release()

    together(give_back)
    assert house.left() == (BURST if house.holds else 0)
    house.check_all_is_well()


def test_context_manager_releases_the_slot_of_an_ending_thread(house: House) -> None:
    def work() -> None:
        with suppress(SystemExit), house.engine.check("/a", {"tenant": "t"}):
            raise SystemExit

    for _ in range(2 * BURST):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
    assert house.left() == (BURST if house.holds else 0)
    house.check_all_is_well()


def test_cancelled_tasks_release_their_slots(house: House) -> None:
    async def request(number: int) -> None:
        with house.engine.check("/a", {"tenant": "t"}):
            await asyncio.sleep(0.001 * (number % 3))

    async def many() -> None:
        tasks = [asyncio.create_task(request(number)) for number in range(ROUNDS)]
        await asyncio.sleep(0.001)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(many())
    if house.holds:
        assert house.left() == BURST
    house.check_all_is_well()


@pytest.mark.skipif(SANITIZED, reason="greenlets copy stacks, which is an error to the sanitizer")
def test_greenlets_may_switch_in_the_middle_of_a_decision(house: House) -> None:
    """As with gevent: a mapping waits for I/O, and another greenlet decides."""
    done: list[Any] = []

    class Waiting:
        def get(self, name: str) -> str:
            hub.switch()
            return "t"

    def request() -> None:
        done.append(house.ask(Waiting()))

    def turn() -> None:
        while any(not each.dead for each in waiting):
            for each in waiting:
                if not each.dead:
                    each.switch()

    hub = greenlet.greenlet(turn)
    waiting = [greenlet.greenlet(request, hub) for _ in range(2 * BURST)]
    hub.switch()
    assert len(done) == 2 * BURST
    assert len(house.admitted) == BURST
    house.check_all_is_well()


def _in_child(house: House, number: int) -> None:
    for _ in range(BURST + 5):
        house.ask({"tenant": f"child{number}"})
    house.reload()
    house.check_all_is_well()


def test_children_forked_while_threads_decide_have_an_intact_engine(house: House) -> None:
    """A child inherits an intact engine, whatever the other threads were doing."""
    stop = threading.Event()

    def work(number: int) -> None:
        step = 0
        while not stop.is_set():
            step += 1
            house.engine.check("/a", {"tenant": f"{number}-{step % 50}"}).release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(10):
            with closing(house.engine.standstill()) as held:
                next(held)
                child = os.fork()
            if not child:
                house.engine.after_fork_in_child()
                code = 1
                try:
                    signal.signal(signal.SIGALRM, signal.SIG_DFL)
                    signal.alarm(30)
                    _in_child(house, number)
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    house.check_all_is_well()


def test_multiprocessing_workers_decide(house: House) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_in_child, args=(house, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    house.check_all_is_well()
