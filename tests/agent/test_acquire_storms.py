"""Storms of waiting requests: cancelled, timed out, and interrupted at any moment.

Nothing that the engine admitted is lost, nobody stays in the line, and the order holds.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from hall import Hall, each_hall
from virtual import SECOND

from soak import scaled

if TYPE_CHECKING:
    from engine.engines import MakeEngine

pytestmark = each_hall

TENANTS = ("a", "b", "c")


def _policies(draw: random.Random) -> dict[str, Any]:
    """Return a few limits, always with the same names."""
    limits = {
        "l": {"rate": f"{draw.choice((5, 20, 50))}/s", "burst": draw.choice((4, 8)),
              **draw.choice(({}, {"per": "tenant"}, {"per": "card"}))},
        "slots": {"algorithm": "concurrency", "max": draw.choice((4, 6)), "hold": "1h",
                  **draw.choice(({}, {"per": "tenant"}))},
        "window": {"algorithm": "sliding-window", "rate": f"{draw.choice((20, 40))}/s",
                   "per": "tenant"},
    }  # fmt: skip
    budgets = {"all": {"rate": f"{draw.choice((20, 60))}/s", "burst": draw.choice((4, 10))}}
    return {"/": {"limits": limits, "budgets": budgets}}


class Storm:
    """Many requests with random ends."""

    def __init__(self, make: MakeEngine, seed: int) -> None:
        self.draw = random.Random(seed)
        self.hall = Hall(make, _policies(self.draw))
        self.admitted = self.refused = 0
        self.order: dict[tuple[str, str], list[int]] = {}
        """Numbers of the admitted requests by their attributes, in the order of admission."""

    async def request(self, number: int) -> None:
        draw, hall = self.draw, self.hall
        await asyncio.sleep(draw.random())
        who = draw.choice(TENANTS), draw.choice("xy")
        wait = draw.choice((None, None, None, 0, 0.05, 1, 5))
        arrival = hall.clock.now * 1_000 + number
        decision = await hall.acquire(draw.randint(0, 4), "/", wait, tenant=who[0], card=who[1])
        if not decision:
            assert decision.reason == "limited"
            assert wait is not None
            self.refused += 1
            return
        self.admitted += 1
        self.order.setdefault(who, []).append(arrival)
        with decision:
            if draw.random() < 0.3:
                decision.settle(draw.randint(0, 5))
            if draw.random() < 0.5:
                await asyncio.sleep(draw.random() / 10)

    async def blow(self, count: int, publications: int) -> None:
        draw = self.draw
        tasks = [asyncio.create_task(self.request(number)) for number in range(count)]
        for task in draw.sample(tasks, count // 3):
            loop = asyncio.get_running_loop()
            loop.call_later(2 * draw.random(), task.cancel)
        for _ in range(publications):
            await asyncio.sleep(draw.random())
            self.hall.write(_policies(draw))
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if not isinstance(error, asyncio.CancelledError | None):
                raise error


@pytest.mark.parametrize("seed", range(scaled(15, 300)))
def test_cancelled_requests_lose_nothing(make: MakeEngine, seed: int) -> None:
    storm = Storm(make, seed)
    hall = storm.hall
    hall.run(storm.blow(120, publications=0))
    limits = [of for of in hall.engine.usage().limits if of.limit == "all"]
    assert [of.allowed for of in limits] == [storm.admitted]
    assert sum(of.refused for of in hall.engine.usage().limits) == storm.refused
    for passed in storm.order.values():
        assert passed == sorted(passed)
    for tenant in TENANTS:
        hall.clock.now += 3_600 * SECOND // 10
        left = hall.engine.check("/", {"tenant": tenant, "card": "z"}, 0)
        assert (left.remaining, left.reason) == (left.capacity, "ok")


@pytest.mark.parametrize("seed", range(scaled(15, 300)))
def test_publications_hang_nobody(make: MakeEngine, seed: int) -> None:
    storm = Storm(make, seed)
    storm.hall.run(storm.blow(120, publications=6))
    allowed = sum(of.allowed for of in storm.hall.engine.usage().limits if of.limit == "all")
    assert allowed == storm.admitted


def test_task_that_is_cancelled_when_it_is_woken_passes_the_turn_on(make: MakeEngine) -> None:
    hall = Hall(make, {"/": {"limits": {"l": {"algorithm": "concurrency", "max": 1}}}})

    async def main() -> None:
        held = hall.engine.check("/", {})
        first = asyncio.create_task(hall.acquire())
        second = asyncio.create_task(hall.acquire())
        await asyncio.sleep(0.001)
        held.release()
        first.cancel()
        assert await second
        assert first.cancelled()

    hall.run(main())
    assert hall.seconds < 0.01


def test_cancelled_scope_of_time_takes_nothing(make: MakeEngine) -> None:
    hall = Hall(make, {"/": {"limits": {"l": {"rate": "1/s", "burst": 1}}}})

    async def main() -> None:
        assert await hall.acquire()
        for seconds in (0.5, 0.25):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(seconds):
                    await hall.acquire()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(hall.acquire(), 0.05)
        assert await hall.acquire()

    hall.run(main())
    assert hall.seconds == pytest.approx(1)
    assert hall.usage().refused == 0
