"""Requests that wait with costs in several units, in virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hall import Hall, each_hall
from virtual import SECOND

from engine.model import Limit
from engine.plans import by_scope, plan_set, rate
from engine.rules import Slots
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from engine.engines import MakeEngine
    from engine.rules import Rule
    from ratectl.engine.decision import Decision

pytestmark = each_hall


def hall_of(make: MakeEngine, **rules: Rule) -> Hall:
    """Return a hall with one limit for each unit, which is named after the unit."""
    hall = Hall(make, {"/": {}})
    publish(hall, **rules)
    return hall


def publish(hall: Hall, **rules: Rule) -> None:
    hall.generation += 1
    limits = [Limit("/", unit, rule, unit=unit) for unit, rule in rules.items()]
    hall.engine.swap(plan_set(hall.generation, by_scope(*limits)))


async def timed(hall: Hall, cost: Any, wait: float | None = None) -> tuple[bool, float]:
    decision = await hall.acquire(cost, wait=wait)
    return decision.allowed, round(hall.seconds, 6)


async def all_of(*waiting: Any) -> list[Any]:
    return list(await asyncio.gather(*waiting))


def test_request_waits_for_its_units_only(make: MakeEngine) -> None:
    hall = hall_of(make, requests=rate(10, 1, 10), tokens=rate(100, 1, 100))
    assert hall.engine.check("/", {}, {"tokens": 100})
    found = hall.run(
        all_of(timed(hall, {"tokens": 100}), timed(hall, 1), timed(hall, {"tokens": 50}))
    )
    assert found == [(True, 1.0), (True, 0.0), (True, 1.5)]
    used = {of.unit: (of.allowed, of.refused, of.waited) for of in hall.engine.usage().limits}
    assert used == {"requests": (4, 0, 0), "tokens": (3, 0, 2)}


def test_requests_of_a_unit_pass_in_the_order_of_arrival(make: MakeEngine) -> None:
    hall = hall_of(make, requests=rate(100, 1, 100), tokens=rate(1, 1, 10))
    assert hall.engine.check("/", {}, {"tokens": 10})
    costs = [{"tokens": 8}, {"tokens": 1}, {"tokens": 1, "requests": 0}]
    found = hall.run(all_of(*[timed(hall, cost) for cost in costs]))
    assert found == [(True, 8.0), (True, 9.0), (True, 10.0)]


def test_cost_above_the_capacity_of_its_unit_is_refused_at_once(make: MakeEngine) -> None:
    """Also for a request that is not the first in its queue; other units may allow as much."""
    hall = hall_of(make, requests=rate(1, 1, 5), tokens=rate(1, 1, 50))
    assert hall.engine.check("/", {}, {"tokens": 50, "requests": 5})

    async def main() -> list[tuple[bool, float]]:
        first = asyncio.create_task(timed(hall, {"tokens": 20}))
        await asyncio.sleep(0)
        never = await hall.acquire({"tokens": 51})
        assert (never.reason, never.unit, hall.seconds) == ("never", "tokens", 0)
        return [await first, await timed(hall, {"tokens": 20, "requests": 1})]

    assert hall.run(main()) == [(True, 20.0), (True, 40.0)]


def test_refusal_at_a_deadline_names_the_unit(make: MakeEngine) -> None:
    hall = hall_of(make, requests=rate(9, 1, 9), tokens=rate(1, 1, 10))
    assert hall.engine.check("/", {}, {"tokens": 10})

    async def main() -> Decision:
        first = asyncio.create_task(hall.acquire({"tokens": 9}))
        await asyncio.sleep(0)
        refused = await hall.acquire({"tokens": 9}, wait=5)
        assert await first
        return refused

    refused = hall.run(main())
    assert (refused.allowed, refused.limit, refused.unit) == (False, "tokens", "tokens")


def test_release_wakes_a_request_that_waits_for_slots_of_a_unit(make: MakeEngine) -> None:
    hall = hall_of(make, jobs=Slots(4, 600 * SECOND))

    async def main() -> tuple[bool, float]:
        held = await hall.acquire({"jobs": 3})
        waiting = asyncio.create_task(timed(hall, {"jobs": 2}))
        await asyncio.sleep(7)
        held.release()
        return await waiting

    assert hall.run(main()) == (True, 7.0)


def test_refund_of_a_unit_wakes_who_waits_for_it(make: MakeEngine) -> None:
    hall = hall_of(make, tokens=rate(1, 3_600, 100))

    async def main() -> tuple[bool, float]:
        held = await hall.acquire({"tokens": 100})
        waiting = asyncio.create_task(timed(hall, {"tokens": 60}))
        await asyncio.sleep(3)
        held.settle({"tokens": 20})
        return await waiting

    assert hall.run(main()) == (True, 3.0)


def test_cancelled_request_gives_back_every_unit(make: MakeEngine) -> None:
    hall = hall_of(make, requests=rate(1, 3_600, 10), tokens=rate(1, 3_600, 100))
    leave = hall.line.leave
    hall.line.leave = lambda request: _interrupted(leave, request)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        hall.run(hall.acquire({"tokens": 40}))
    hall.line.leave = leave  # type: ignore[method-assign]
    hall.engine.usage()
    assert hall.engine.check("/", {}, 0)
    assert [of.lowest for of in hall.engine.usage().limits] == [10, 100]


def _interrupted(leave: Any, request: Any) -> None:
    leave(request)
    if not request.scope.endswith("!"):
        request.scope += "!"
        raise KeyboardInterrupt


def test_change_of_a_unit_queues_requests_again(make: MakeEngine) -> None:
    hall = hall_of(make, tokens=rate(1, 3_600, 10))

    async def main() -> tuple[bool, float]:
        assert await hall.acquire({"tokens": 10})
        waiting = asyncio.create_task(timed(hall, {"tokens": 10}))
        await asyncio.sleep(2)
        publish(hall, bytes=rate(1, 3_600, 10))
        hall.line.changed()
        return await waiting

    assert hall.run(main()) == (True, 2.0)


def test_wrong_cost_is_an_error_before_anything_waits(make: MakeEngine) -> None:
    hall = hall_of(make, tokens=rate(1, 3_600, 10))
    for cost in ({"tokens": -1}, {1: 1}, -1, "1"):
        with pytest.raises(UsageError, match="cost"):
            hall.run(hall.acquire(cost))  # type: ignore[arg-type]
