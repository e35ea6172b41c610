"""Many tasks, threads and event loops ask a real server at once."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from central.asking import ACME, HEAD, SPIKE, in_task
from support import once

if TYPE_CHECKING:
    import ratectl

pytestmark = [once, pytest.mark.valkey]


def test_many_tasks_ask_at_once(agent_of: Any) -> None:
    agent = agent_of(SPIKE.replace("burst: 3", "burst: 50"))

    async def ask_all() -> list[bool]:
        return [
            each.allowed
            for each in await asyncio.gather(*(agent.acheck("/", ACME) for _ in range(300)))
        ]

    assert sum(asyncio.run(ask_all())) == 50


def test_many_threads_ask_at_once(agent_of: Any) -> None:
    agent = agent_of(SPIKE.replace("burst: 3", "burst: 50"))
    allowed: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda: allowed.extend(
                agent.check_blocking("/", ACME).allowed for _ in range(20)
            )
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(allowed), sum(allowed)) == (160, 50)


def test_every_event_loop_has_its_own_connections(agent_of: Any) -> None:
    agent = agent_of(SPIKE)
    assert [in_task(agent, "/", ACME).allowed for _ in range(4)] == [True, True, True, False]
    gc.collect()
    assert len(agent._central._service._loops) == 0  # nothing of a closed loop is kept


def test_a_cancelled_task_gives_back_what_it_took(agent_of: Any) -> None:
    agent = agent_of(
        HEAD + "limits:\n  slots: {algorithm: concurrency, max: 1, across: redis}\n"
        "  local: {algorithm: concurrency, max: 1}\n"
    )

    async def cancelled() -> None:
        task = asyncio.create_task(agent.acheck("/"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(200):
            decision = await agent.acheck("/")
            if decision.allowed:
                return
            await asyncio.sleep(0.01)
        pytest.fail("the slots are still held")

    asyncio.run(cancelled())


def test_a_loop_that_stands_still_does_not_lose_the_answer(agent_of: Any) -> None:
    agent = agent_of(SPIKE, redis_deadline=0.1)

    async def ask() -> ratectl.Decision:
        await agent.acheck("/", ACME)
        task = asyncio.create_task(agent.acheck("/", ACME))
        await asyncio.sleep(0)
        time.sleep(0.3)
        return await task

    assert asyncio.run(ask()).remaining == 1
    assert agent.check_blocking("/", ACME, 0).remaining == 1
    assert agent._central._service.breaker._failures == 0
