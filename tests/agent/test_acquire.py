"""Requests that wait their turn, in virtual time: order, costs, several limits, changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hall import Hall, each_hall, one, slots
from virtual import SECOND

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from engine.engines import MakeEngine
    from ratectl.engine.decision import Decision

pytestmark = each_hall

TENANT_AND_ALL = {
    "/": {
        "limits": {"own": {"rate": "1/s", "burst": 1, "per": "tenant"}},
        "budgets": {"all": {"rate": "10/s", "burst": 1}},
    }
}


async def in_order(*waiting: Any) -> list[Any]:
    """Start coroutines in this order, and return the numbers of those that ended, in order."""
    ended: list[int] = []

    async def follow(number: int, of: Any) -> None:
        assert await of
        ended.append(number)

    async with asyncio.TaskGroup() as group:
        for number, of in enumerate(waiting):
            group.create_task(follow(number, of))
            await asyncio.sleep(0)
    return ended


def test_500_requests_at_50_per_second(make: MakeEngine) -> None:
    """Waiting calls pass in the order of arrival, with two checks each; none counts as refused."""
    hall = Hall(make, one(rate="50/s", burst=1))
    assert hall.run(in_order(*[hall.acquire() for _ in range(500)])) == list(range(500))
    assert hall.seconds == pytest.approx(499 / 50)
    # One check announces when the first request is due, and one admits it then.
    assert hall.checks <= 2 * 500
    used = hall.usage()
    assert (used.allowed, used.refused, used.never, used.waited) == (500, 0, 0, 499)
    assert used.top_refused == ()


def test_a_window_admits_many_at_once_with_one_check_each(make: MakeEngine) -> None:
    hall = Hall(make, one(algorithm="sliding-window", rate="100/min"))
    assert hall.run(in_order(*[hall.acquire() for _ in range(300)])) == list(range(300))
    assert hall.checks <= 300 + 40


def test_costly_request_is_served_before_later_small_ones(make: MakeEngine) -> None:
    hall = Hall(make, one(rate="10/s", burst=20))
    assert hall.engine.check("/", {}, 20)
    waiting = [hall.acquire(), hall.acquire(20), *(hall.acquire() for _ in range(50))]
    assert hall.run(in_order(*waiting)) == list(range(52))
    assert hall.seconds == pytest.approx(7.1)
    used = hall.usage()
    assert (used.allowed, used.refused) == (53, 0)


def test_tenant_that_waits_for_its_own_limit_is_in_nobodys_way(make: MakeEngine) -> None:
    """A budget that all tenants share is used fully while one tenant waits for its own limit."""
    hall = Hall(make, TENANT_AND_ALL)

    async def acquire(tenant: str) -> tuple[str, float]:
        await hall.acquire(tenant=tenant)
        return tenant, round(hall.seconds, 6)

    async def main() -> list[Any]:
        busy = [acquire("busy") for _ in range(5)]
        others = [acquire(f"other{number}") for number in range(20)]
        return await asyncio.gather(*busy, *others)

    passed = hall.run(main())
    assert [at for _, at in passed[5:]] == pytest.approx(
        [0.1 * k for k in range(1, 10)] + [0.1 * k for k in range(11, 22)], abs=0.11
    )
    assert [round(at, 1) for _, at in passed[:5]] == pytest.approx([0, 1, 2, 3, 4], abs=0.11)
    assert hall.checks < 4 * 25


def test_requests_of_two_crossing_limits_are_not_passed_over(make: MakeEngine) -> None:
    """A request that needs two scarce buckets, each wanted by others too, gets its turn.

    Their tokens come at different times, so somebody else can always take one of them.
    """
    limits = {
        "a": {"rate": "1/s", "burst": 1, "per": "a"},
        "b": {"rate": "1/s", "burst": 1, "per": "b"},
    }
    hall = Hall(make, {"/": {"limits": limits}})
    assert hall.engine.check("/", {"a": "x", "b": "-1"})
    hall.clock.now += SECOND // 2
    assert hall.engine.check("/", {"a": "-1", "b": "x"})
    passed: list[float] = []

    async def main() -> None:
        both = asyncio.create_task(hall.acquire(a="x", b="x"))
        await asyncio.sleep(0)
        rivals = [
            asyncio.create_task(hall.acquire(**pair))
            for number in range(60)
            for pair in ({"a": "x", "b": f"{number}"}, {"a": f"{number}", "b": "x"})
        ]
        assert await both
        passed.append(hall.seconds)
        for rival in rivals:
            rival.cancel()
        await asyncio.gather(*rivals, return_exceptions=True)

    hall.run(main())
    assert passed[0] <= 4


def test_order_of_requests_with_the_same_buckets_and_any_costs(make: MakeEngine) -> None:
    hall = Hall(make, TENANT_AND_ALL | {"/x": {"limits": {"own": {"burst": 3}}}})
    hall.write(
        {
            "/": {
                "limits": {"own": {"rate": "5/s", "burst": 5, "per": "tenant"}},
                "budgets": {"all": {"rate": "7/s", "burst": 5}},
            }
        }
    )
    waiting = [hall.acquire(1 + number * 7 % 5, tenant="t") for number in range(40)]
    assert hall.run(in_order(*waiting)) == list(range(40))


# -- slots


def test_release_wakes_the_next_request_at_once(make: MakeEngine) -> None:
    hall = Hall(make, slots(2, hold="1h"))
    order: list[int] = []

    async def work(number: int) -> None:
        with await hall.acquire() as decision:
            assert decision
            order.append(number)
            await asyncio.sleep(0.01)

    async def main() -> None:
        await asyncio.gather(*[work(number) for number in range(100)])

    hall.run(main())
    assert order == list(range(100))
    assert hall.seconds == pytest.approx(0.5)
    assert hall.checks <= 2 * 100 + 2
    used = hall.usage()
    assert (used.allowed, used.refused, used.waited) == (100, 0, 98)
    assert hall.engine.check("/", {}, 0).remaining == 2


def test_costly_request_gets_its_slots_before_later_ones(make: MakeEngine) -> None:
    hall = Hall(make, slots(4))

    async def work(cost: int) -> int:
        with await hall.acquire(cost):
            await asyncio.sleep(1)
        return cost

    async def main() -> None:
        await in_order(*[work(cost) for cost in (1, 2, 4, 1, 1, 3, 2)])

    hall.run(main())
    assert hall.seconds == pytest.approx(5)


def test_slot_that_is_never_released_is_free_after_its_hold(make: MakeEngine) -> None:
    hall = Hall(make, slots(1, hold="3s"))
    assert hall.engine.check("/", {})
    assert hall.run(in_order(hall.acquire())) == [0]
    assert 3 <= hall.seconds <= 3.5


def test_refund_wakes_the_next_request(make: MakeEngine) -> None:
    hall = Hall(make, one(rate="1/min", burst=100))
    decision = hall.engine.check("/", {}, 100)

    async def main() -> None:
        waiting = asyncio.create_task(hall.acquire(50))
        await asyncio.sleep(1)
        decision.settle(10)
        assert await waiting

    hall.run(main())
    assert hall.seconds == pytest.approx(1)


# -- deadlines


def test_announced_wait_beyond_the_deadline_fails_at_once(make: MakeEngine) -> None:
    hall = Hall(make, one(rate="1/min", burst=5))
    assert hall.engine.check("/", {}, 5)

    async def main() -> list[Decision]:
        refused = [await hall.acquire(2, wait=100), await hall.acquire(0 + 1, wait=0)]
        assert hall.seconds == 0
        patient = asyncio.create_task(hall.acquire(2, wait=120))
        await asyncio.sleep(0)
        # The first of the line is due in 120 s: nobody behind it passes before.
        refused.append(await hall.acquire(wait=119))
        assert hall.seconds == 0
        assert await patient
        assert hall.seconds == pytest.approx(120)
        return refused

    refused = hall.run(main())
    assert [(of.reason, of.limit, of.scope, of.capacity) for of in refused] == [
        ("limited", "l", "/", 5)
    ] * 3
    assert [of.retry_after for of in refused] == [120, 60, None]
    used = hall.usage()
    assert (used.allowed, used.refused, used.waited) == (2, 3, 1)


def test_request_behind_others_gives_up_at_its_deadline(make: MakeEngine) -> None:
    hall = Hall(make, slots(1, hold="1h"))
    assert hall.engine.check("/", {})

    async def main() -> None:
        first = asyncio.create_task(hall.acquire(wait=3))
        await asyncio.sleep(0)
        second = await hall.acquire(wait=2)
        assert (second.reason, second.retry_after) == ("limited", None)
        assert hall.seconds == pytest.approx(2)
        assert not await first
        assert hall.seconds == pytest.approx(3)

    hall.run(main())
    used = hall.usage()
    assert (used.allowed, used.refused, used.waited) == (1, 2, 2)
    assert used.top_refused == (("(all)", 2),)


def test_cost_above_the_capacity_fails_at_once_whoever_waits(make: MakeEngine) -> None:
    hall = Hall(make, one(rate="1/min", burst=2))
    assert hall.engine.check("/", {}, 2)

    async def main() -> None:
        never = await hall.acquire(3)
        assert never.reason == "never"
        waiting = asyncio.create_task(hall.acquire())
        await asyncio.sleep(0)
        never = await hall.acquire(3)
        assert (never.reason, hall.seconds) == ("never", 0)
        assert await waiting

    hall.run(main())
    assert (hall.usage().never, hall.usage().refused) == (2, 0)


@pytest.mark.parametrize("wait", [-1, float("nan"), "1", True, [1]])
def test_wait_is_a_number_of_seconds(make: MakeEngine, wait: Any) -> None:
    hall = Hall(make, one(rate="1/min", burst=2))
    with pytest.raises(UsageError, match="wait is a number of seconds"):
        hall.run(hall.acquire(wait=wait))


# -- changes


@pytest.mark.parametrize(("rate", "seconds"), [("20/s", 5 + 2.5), ("5/s", 5 + 10)])
def test_generation_with_another_rate_holds_for_waiting_requests(
    make: MakeEngine, rate: str, seconds: float
) -> None:
    hall = Hall(make, one(rate="10/s", burst=1))

    async def publish() -> bool:
        await asyncio.sleep(5)
        hall.write(one(rate=rate, burst=1))
        return True

    async def main() -> list[int]:
        return await in_order(*[hall.acquire() for _ in range(101)], publish())

    order = hall.run(main())
    assert [number for number in order if number < 101] == list(range(101))
    assert hall.seconds == pytest.approx(seconds, abs=0.2)
    assert hall.checks <= 2 * 101 + 2
    assert hall.usage().refused == 0


def test_generation_ends_a_long_wait(make: MakeEngine) -> None:
    hall = Hall(make, one(rate="1/day", burst=1))
    assert hall.engine.check("/", {})

    async def main() -> None:
        waiting = [asyncio.create_task(hall.acquire()) for _ in range(20)]
        await asyncio.sleep(1)
        hall.write({"/": {"limits": {"other": {"rate": "10/s", "burst": 20}}}})
        assert all(await asyncio.gather(*waiting))

    hall.run(main())
    assert hall.seconds == pytest.approx(1, abs=0.1)


def test_generation_that_lowers_the_capacity_below_a_cost_ends_its_wait(make: MakeEngine) -> None:
    hall = Hall(make, one(rate="1/min", burst=10))
    assert hall.engine.check("/", {}, 10)

    async def main() -> None:
        waiting = asyncio.create_task(hall.acquire(6))
        small = asyncio.create_task(hall.acquire())
        await asyncio.sleep(1)
        hall.write(one(rate="1/min", burst=5))
        assert (await waiting).reason == "never"
        assert hall.seconds == pytest.approx(1)
        assert await small

    hall.run(main())


def test_order_survives_a_generation_with_other_keys(make: MakeEngine) -> None:
    """Requests of two queues meet the same bucket afterwards: they pass in the order of arrival."""
    hall = Hall(make, one(rate="1/min", burst=1, per="tenant"))

    async def publish() -> bool:
        await asyncio.sleep(1)
        hall.write(one(rate="10/s", burst=1))
        return True

    async def main() -> list[int]:
        waiting = [hall.acquire(tenant="ab"[number * 3 % 5 > 1]) for number in range(40)]
        return await in_order(*waiting, publish())

    order = hall.run(main())
    late = [number for number in order if number < 40][2:]
    assert late == sorted(late)


@pytest.mark.parametrize("mode", ["open", "shadow"])
def test_kill_switch_ends_all_waits(make: MakeEngine, mode: Any) -> None:
    hall = Hall(make, one(rate="1/day", burst=1))

    async def main() -> None:
        waiting = [asyncio.create_task(hall.acquire(wait=10**6)) for _ in range(20)]
        await asyncio.sleep(1)
        hall.engine.waive({"/": mode})
        assert all(await asyncio.gather(*waiting))

    hall.run(main())
    assert hall.seconds == pytest.approx(1)


def test_request_that_no_policy_covers_never_waits(make: MakeEngine) -> None:
    hall = Hall(make, {"/a": {"limits": {"l": {"rate": "1/day", "burst": 1}}}})

    async def main() -> None:
        assert await hall.acquire(scope="/a")
        waiting = asyncio.create_task(hall.acquire(scope="/a"))
        await asyncio.sleep(0)
        assert (await hall.acquire(scope="/b")).reason == "no_policy"
        waiting.cancel()

    hall.run(main())


def test_shadow_limit_never_makes_a_request_wait(make: MakeEngine) -> None:
    limits = {
        "l": {"rate": "1/day", "burst": 1, "mode": "shadow"},
        "real": {"rate": "10/s", "burst": 1},
    }
    hall = Hall(make, {"/": {"limits": limits}})
    assert hall.run(in_order(*[hall.acquire() for _ in range(20)])) == list(range(20))
    assert (hall.usage().allowed, hall.usage().shadow_refused, hall.usage().waited) == (1, 19, 0)
