"""Waiting in threads, and in threads and event loops at the same time."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hall import Hall, each_hall, one, slots
from virtual import run

from etcd_server import wait_for
from ratectl.agent.line import FOREVER, Line, Request
from ratectl.agent.waiting import pass_in_task, pass_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import ratectl
    from engine.engines import MakeEngine
    from ratectl.engine.decision import Decision


def acquire(hall: Hall, cost: int = 1, wait: float | None = None, **attributes: str) -> Decision:
    return pass_in_thread(hall.line, "/", attributes, cost, wait)


def real(make: MakeEngine, policies: Mapping[str, Any]) -> Hall:
    """Return a hall in real time."""
    hall = Hall(make, policies)
    hall.clock = time.monotonic_ns  # type: ignore[assignment]
    engine = make(time.monotonic_ns)
    hall.engine, hall.generation = engine, 0
    hall.write(policies)
    hall.line = Line(engine, time.monotonic_ns)
    return hall


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(20) as pool:
        yield pool


@each_hall
def test_threads_pass_in_the_order_of_arrival(make: MakeEngine, pool: ThreadPoolExecutor) -> None:
    """No time passes: releases alone wake the next."""
    hall = Hall(make, slots(1))
    order: list[int] = []

    def work(number: int) -> None:
        with acquire(hall) as decision:
            assert decision
            order.append(number)

    held = hall.engine.check("/", {})
    waiting = []
    for number in range(20):
        waiting.append(pool.submit(work, number))
        wait_for(lambda: len(hall.line) == len(waiting), "it waits")
    held.release()
    for done in waiting:
        done.result(10)
    assert order == list(range(20))
    hall.check_empty()
    assert hall.checks <= 2 * 20 + 2


@each_hall
def test_threads_and_event_loops_share_a_line(make: MakeEngine, pool: ThreadPoolExecutor) -> None:
    hall = real(make, slots(3))
    lock = threading.Lock()
    inside = most = passed = 0

    def enter() -> None:
        nonlocal inside, most, passed
        with lock:
            inside += 1
            passed += 1
            most = max(most, inside)

    def leave() -> None:
        nonlocal inside
        with lock:
            inside -= 1

    def in_thread() -> None:
        for _ in range(30):
            with acquire(hall) as decision:
                assert decision
                enter()
                leave()

    async def one_task() -> None:
        with await hall.acquire() as decision:
            assert decision
            enter()
            await asyncio.sleep(0)
            leave()

    async def tasks() -> None:
        await asyncio.gather(*[one_task() for _ in range(60)])

    works = [pool.submit(in_thread) for _ in range(4)]
    works += [pool.submit(asyncio.run, tasks()) for _ in range(2)]
    for work in works:
        work.result(30)
    assert (passed, inside) == (240, 0)
    assert most <= 3
    hall.check_empty()
    used = hall.usage()
    assert (used.allowed, used.refused) == (240, 0)
    assert hall.engine.check("/", {}, 0).remaining == 3


@each_hall
def test_threads_wait_for_tokens_in_real_time(make: MakeEngine, pool: ThreadPoolExecutor) -> None:
    hall = real(make, one(rate="100/s", burst=1))
    begun = time.monotonic()
    for done in [pool.submit(acquire, hall) for _ in range(20)]:
        assert done.result(10)
    assert time.monotonic() - begun >= 0.189
    hall.check_empty()
    assert hall.usage().refused == 0


@each_hall
def test_thread_gives_up_at_its_deadline(make: MakeEngine) -> None:
    hall = real(make, slots(1))
    assert acquire(hall)
    refused = acquire(hall, wait=0.05)
    assert (refused.reason, refused.limit) == ("limited", "l")
    assert not acquire(hall, wait=0)
    hall.check_empty()
    assert (hall.usage().refused, hall.usage().waited) == (2, 1)


# -- interruptions


class Late(BaseException):
    """Raised by a time limit."""


def interrupted(work: Callable[[], object], delay: float) -> bool:
    """Run ``work`` until it ends or a signal handler raises; return True for the latter."""

    def handle(*_: object) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        work()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Late:
        return True
    finally:
        signal.signal(signal.SIGALRM, before)
    return False


@each_hall
def test_interrupted_threads_leave_the_line(
    make: MakeEngine, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler raises at any moment, while other threads pass through the same line."""
    # Nobody would be passed over: a request that stays in the line would stop all others.
    monkeypatch.setattr("ratectl.agent.line._PATIENCE", FOREVER // 2)
    hall = real(make, one(rate="3000/s", burst=2))
    stop = threading.Event()

    def others() -> None:
        while not stop.is_set():
            assert acquire(hall)

    gc_callbacks = gc.callbacks[:]
    gc.callbacks.clear()  # Hypothesis's: an exception there is not the line's
    works = [pool.submit(others) for _ in range(2)]

    def work() -> None:
        while True:
            acquire(hall)

    try:
        for number in range(400):
            assert interrupted(work, 1e-6 * (30 + number * 37 % 2_000))
    finally:
        stop.set()
        gc.callbacks[:] = gc_callbacks
    for done in works:
        done.result(10)
    hall.check_empty()
    assert acquire(hall, wait=1)
    assert hall.usage().refused == 0


@each_hall
def test_interruption_of_a_waiting_thread_wakes_the_next(
    make: MakeEngine, pool: ThreadPoolExecutor
) -> None:
    hall = Hall(make, slots(2))
    assert acquire(hall)
    # Two slots are needed: the small request waits behind it, though there is a slot for it.
    small = None

    def work() -> None:
        nonlocal small
        small = pool.submit(lambda: (wait_for(lambda: len(hall.line) == 1, ""), acquire(hall)))
        acquire(hall, 2)

    assert interrupted(work, 0.2)
    assert small is not None
    assert small.result(10)[1]
    hall.check_empty()


@each_hall
def test_exception_at_any_change_of_the_queues_is_repaired(make: MakeEngine) -> None:
    """The change is cut off after each of its steps in turn."""
    for step in range(1, 40):
        hall = Hall(make, slots(1))
        held = hall.engine.check("/", {})
        cut = _CutOff(step)

        async def main(held: Any = held, cut: Any = cut, hall: Hall = hall) -> None:
            first = asyncio.create_task(hall.acquire(wait=100))
            await asyncio.sleep(1)
            cut.into(hall.line)
            second = asyncio.create_task(hall.acquire(wait=100))
            third = asyncio.create_task(hall.acquire(wait=100))
            await asyncio.sleep(1)
            held.release()
            ended = []
            for task in (first, second, third):
                try:
                    with await task as decision:
                        ended.append(bool(decision))
                except _Cut:
                    ended.append(False)
            assert ended.count(False) == (1 if cut.done else 0)

        hall.run(main())
        assert hall.seconds < 10
        assert hall.engine.check("/", {}, 0).remaining == 1


class _Cut(Exception):
    pass


class _CutOff:
    """Raises once, in the given call of a method that changes queues."""

    def __init__(self, step: int) -> None:
        self._left = step
        self.done = False

    def into(self, line: Line) -> None:
        queues: Any = line._queues
        for name in ("_stand", "_decide", "_obstacle", "add", "remove", "refused"):
            setattr(queues, name, self._cutting(getattr(queues, name)))

    def _cutting(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def cut(*args: Any) -> Any:
            self._left -= 1
            if not self._left:
                self.done = True
                raise _Cut
            return method(*args)

        return cut


@each_hall
def test_code_that_interrupts_a_change_of_the_line_does_not_wait_for_it(make: MakeEngine) -> None:
    """As a signal handler, or a finalizer, may do."""
    hall = Hall(make, one(rate="1/min", burst=2))
    assert hall.engine.check("/", {})
    got: list[Decision] = []
    add: Any = hall.line._add

    def interrupt(request: Request) -> None:
        add(request)
        if not got:
            got.append(acquire(hall))

    hall.line._add = interrupt  # type: ignore[method-assign]

    async def main() -> None:
        first = asyncio.create_task(hall.acquire(2))
        second = asyncio.create_task(hall.acquire())
        assert all(await asyncio.gather(first, second))

    hall.run(main())
    assert got[0]
    assert hall.usage().allowed == 4


# -- requests whose owner is gone


@each_hall
def test_abandoned_coroutine_leaves_the_line(make: MakeEngine) -> None:
    hall = Hall(make, slots(1))
    held = hall.engine.check("/", {})

    async def main() -> None:
        abandoned: Any = hall.acquire()
        abandoned.send(None)
        assert len(hall.line) == 1
        waiting = asyncio.create_task(hall.acquire())
        await asyncio.sleep(0.01)
        del abandoned
        gc.collect()
        assert len(hall.line) == 1
        held.release()
        assert await waiting

    hall.run(main())
    assert hall.seconds < 0.1


@each_hall
@pytest.mark.parametrize("how", ["release", "time"])
def test_request_of_a_closed_event_loop_is_dropped(make: MakeEngine, how: str) -> None:
    hall = Hall(make, slots(1, hold="3s"))
    held = hall.engine.check("/", {})
    loop = asyncio.new_event_loop()
    lost = loop.create_task(pass_in_task(hall.line, "/", {}, 1, None))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    async def main() -> None:
        waiting = asyncio.create_task(hall.acquire())
        await asyncio.sleep(0.01)
        if how == "release":
            held.release()
        assert await waiting

    hall.run(main())
    assert hall.seconds < (0.1 if how == "release" else 20)
    lost._log_destroy_pending = False  # type: ignore[attr-defined]


@each_hall
def test_request_of_a_stopped_event_loop_is_passed_over_and_comes_back(make: MakeEngine) -> None:
    hall = Hall(make, slots(1))
    held = hall.engine.check("/", {})
    loop = asyncio.new_event_loop()
    stopped = loop.create_task(pass_in_task(hall.line, "/", {}, 1, None))
    loop.run_until_complete(asyncio.sleep(0))

    async def main() -> Decision:
        waiting = asyncio.create_task(hall.acquire())
        await asyncio.sleep(0.01)
        held.release()
        return await waiting

    second = run(hall.clock, main())
    assert 5 <= hall.seconds <= 20
    loop.run_until_complete(asyncio.sleep(0.001))
    assert not stopped.done()
    assert len(hall.line) == 1
    second.release()
    assert loop.run_until_complete(asyncio.wait_for(stopped, 10))
    loop.close()
    hall.check_empty()


# -- agents


Make = Any


def write(folder: Path, limit: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "all.yaml").write_text(
        f"apiVersion: ratectl/v1\nscope: /\nlimits:\n  l: {limit}\n", encoding="utf-8"
    )
    return str(folder)


SLOT = "{algorithm: concurrency, max: 1, hold: 1h}"


def test_waiting_goes_on_after_the_agent_is_closed(
    tmp_path: Path, make_agent: Make, pool: ThreadPoolExecutor
) -> None:
    agent: ratectl.Agent = make_agent(write(tmp_path / "p", SLOT))
    held = agent.acquire_sync("/")
    waiting = pool.submit(agent.acquire_sync, "/")
    wait_for(lambda: len(agent._line) == 1, "it waits")
    agent.close()
    assert not waiting.done()
    held.release()
    assert waiting.result(10)
    assert not agent.acquire_sync("/", wait=0)


def test_forked_child_does_not_wait_for_threads_of_its_parent(
    tmp_path: Path, make_agent: Make, pool: ThreadPoolExecutor
) -> None:
    agent: ratectl.Agent = make_agent(write(tmp_path / "p", SLOT))
    held = agent.acquire_sync("/")
    waiting = [pool.submit(agent.acquire_sync, "/") for _ in range(3)]
    wait_for(lambda: len(agent._line) == 3, "they wait")
    child = os.fork()
    if not child:
        held.release()
        with agent.acquire_sync("/", wait=3) as first:
            late = agent.acquire_sync("/", wait=0.05)
        os._exit(0 if first and not late and agent.acquire_sync("/", wait=3) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not any(of.done() for of in waiting)
    held.release()
    for of in waiting:
        of.result(10).release()
    assert len(agent._line) == 0


def test_edited_policies_end_a_wait(
    tmp_path: Path, make_agent: Make, pool: ThreadPoolExecutor
) -> None:
    agent: ratectl.Agent = make_agent(write(tmp_path / "p", "{rate: 1/day, burst: 1}"))
    assert agent.acquire_sync("/")
    waiting = pool.submit(agent.acquire_sync, "/", wait=10**6)
    wait_for(lambda: len(agent._line) == 1, "it waits")
    write(tmp_path / "p", "{rate: 1000/s, burst: 1}")
    assert waiting.result(30)


def test_deadline_of_an_agent_that_has_no_policies(tmp_path: Path, make_agent: Make) -> None:
    agent: ratectl.Agent = make_agent(f"sqlite:///{tmp_path}/none.db", ready_timeout=0.1)
    assert agent.acquire_sync("/").reason == "error"
    assert asyncio.run(agent.acquire("/")).reason == "error"
