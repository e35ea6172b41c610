"""Reservations: estimates, reports, ends and expiries, by a clock that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any

import pytest
from reserving import ACME, agent_of, free_slots, left

import ratectl
from ratectl import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

QUOTA = {"algorithm": "quota", "per": "tenant"}
TOKENS = {"tokens": 4_000}


@pytest.fixture
def agent() -> ratectl.Agent:
    """Return an agent with a quota of tokens, one of requests, and slots."""
    return agent_of(
        tokens={**QUOTA, "rate": "10_000/day"},
        requests={**QUOTA, "rate": "1_000/day"},
        slots={"algorithm": "concurrency", "max": 2, "hold": "1h", "unit": "requests"},
    )


# While it is open -------------------------------------------------------------------------------


def test_estimate_is_charged_where_the_block_begins(agent: ratectl.Agent) -> None:
    reservation = agent.reserve("/", ACME, TOKENS)
    assert left(agent) == 10_000
    with reservation as entered:
        assert entered is reservation
        assert entered.decision.reason == "ok"
        assert (left(agent), left(agent, "requests")) == (6_000, 999)


def test_largest_of_estimate_and_used_is_charged_until_the_end(agent: ratectl.Agent) -> None:
    with agent.reserve("/", ACME, TOKENS) as reservation:
        assert reservation
        for total, remaining in ((0, 6_000), (3_999, 6_000), (4_001, 5_999), (5_500, 4_500)):
            reservation.used(tokens=total)
            assert left(agent) == remaining
        reservation.used(tokens=100)
        assert left(agent) == 6_000
    assert left(agent) == 9_900


def test_a_report_is_the_total_and_the_last_one_counts(agent: ratectl.Agent) -> None:
    with agent.reserve("/", ACME, TOKENS) as reservation:
        for total in (10, 30, 20):
            reservation.used(tokens=total)
    assert left(agent) == 9_980


def test_overuse_is_a_debt_that_later_requests_wait_for() -> None:
    agent = agent_of(tokens={"rate": "100/s", "burst": 1_000})
    with agent.reserve("/", ACME, {"tokens": 1_000}) as reservation:
        reservation.used(tokens=3_000)
    refused = agent.check("/", ACME, {"tokens": 1})
    assert (refused.reason, refused.retry_after) == ("limited", 20.01)


def test_all_units_are_charged_together_or_not_at_all() -> None:
    agent = agent_of(
        **{
            "tokens": {**QUOTA, "rate": "100/day"},
            "gpu-seconds": {**QUOTA, "rate": "10/day"},
        }
    )
    with agent.reserve("/", ACME, {"tokens": 50, "gpu-seconds": 11}) as reservation:
        assert not reservation
        assert reservation.decision.reason == "never"
    assert (left(agent), left(agent, "gpu-seconds")) == (100, 10)
    with agent.reserve("/", ACME, {"tokens": 50, "gpu-seconds": 5}) as reservation:
        reservation.used({"gpu-seconds": 3}, tokens=20)
    assert (left(agent), left(agent, "gpu-seconds")) == (80, 7)


def test_unit_that_the_estimate_does_not_name_is_charged_as_it_is_reported(
    agent: ratectl.Agent,
) -> None:
    with agent.reserve("/", ACME) as reservation:
        reservation.used(tokens=70)
        assert (left(agent), left(agent, "requests")) == (9_930, 999)
    assert (left(agent), left(agent, "requests")) == (9_930, 999)


def test_integer_estimate_is_a_number_of_requests(agent: ratectl.Agent) -> None:
    agent = agent_of(requests={**QUOTA, "rate": "1_000/day"})
    with agent.reserve("/", ACME, 10) as reservation:
        assert left(agent, "requests") == 990
        reservation.used(requests=3)
        assert left(agent, "requests") == 990
    assert left(agent, "requests") == 997


# The end ----------------------------------------------------------------------------------------


def test_unit_that_was_never_reported_stays_at_its_estimate(agent: ratectl.Agent) -> None:
    with agent.reserve("/", ACME, TOKENS) as reservation:
        reservation.used()
    assert (left(agent), left(agent, "requests")) == (6_000, 999)


def test_total_of_zero_gives_the_whole_estimate_back(agent: ratectl.Agent) -> None:
    with agent.reserve("/", ACME, TOKENS) as reservation:
        reservation.used(tokens=0)
    assert (left(agent), left(agent, "requests")) == (10_000, 999)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError])
def test_exception_ends_the_reservation_and_passes(
    agent: ratectl.Agent, error: type[BaseException]
) -> None:
    def stream() -> None:
        with agent.reserve("/", ACME, TOKENS) as reservation:
            reservation.used(tokens=7)
            raise error

    with pytest.raises(error):
        stream()
    assert (left(agent), free_slots(agent)) == (9_993, 2)


def test_slots_are_held_until_the_end_and_not_until_the_expiry(agent: ratectl.Agent) -> None:
    for on_expiry in ("keep", "refund"):
        with agent.reserve("/", ACME, expires=5, on_expiry=on_expiry) as reservation:  # type: ignore[arg-type]
            agent.clock.advance(6)
            assert reservation.expired
            assert free_slots(agent) == 1
        assert free_slots(agent) == 2


def test_reservation_without_a_block_is_opened_and_closed(agent: ratectl.Agent) -> None:
    reservation = agent.reserve("/", ACME, TOKENS)
    assert reservation.open() is reservation
    with reservation.open():  # a later block does not charge again
        assert (left(agent), free_slots(agent)) == (6_000, 1)
        reservation.used(tokens=500)
    for _ in range(2):
        reservation.close()
        assert (left(agent), free_slots(agent)) == (9_500, 2)
    with pytest.raises(UsageError, match="has ended: make one for each request"):
        reservation.open()


def test_report_after_the_end_corrects_the_charge(agent: ratectl.Agent) -> None:
    with agent.reserve("/", ACME, TOKENS) as reservation:
        reservation.used(tokens=500)
    reservation.used(tokens=800)
    assert left(agent) == 9_200
    reservation.used(tokens=100)
    assert left(agent) == 9_900


def test_attributes_are_those_of_the_call(agent: ratectl.Agent) -> None:
    attributes = dict(ACME)
    reservation = agent.reserve("/", attributes, TOKENS)
    attributes["tenant"] = "globex"
    with reservation:
        assert (left(agent), left(agent, tenant="globex")) == (6_000, 10_000)


def test_closing_before_opening_has_no_effect(agent: ratectl.Agent) -> None:
    reservation = agent.reserve("/", ACME, TOKENS)
    reservation.close()
    with reservation:
        assert left(agent) == 6_000


def test_refused_reservation_charges_nothing_and_ignores_reports(agent: ratectl.Agent) -> None:
    with agent.reserve("/", ACME, {"tokens": 10_001}, on_expiry="refund") as reservation:
        assert not reservation
        assert reservation.decision.limit == "tokens"
        reservation.used(tokens=50)
        agent.clock.advance(61)
        assert not reservation.expired
    assert (left(agent), left(agent, "requests"), free_slots(agent)) == (10_000, 1_000, 2)


# Expiry -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reported", [None, 300, 4_500])
@pytest.mark.parametrize("on_expiry", ["keep", "refund"])
def test_expiry_keeps_or_gives_back_what_was_not_used(
    agent: ratectl.Agent, on_expiry: Any, reported: int | None
) -> None:
    reservation = agent.reserve("/", ACME, TOKENS, expires=60, on_expiry=on_expiry).open()
    if reported is not None:
        reservation.used(tokens=reported)
    agent.clock.advance(59.999999999)
    assert not reservation.expired
    assert left(agent) == 10_000 - max(reported or 0, 4_000)
    agent.clock.advance(1e-9)
    charged = reported or 0 if on_expiry == "refund" else max(reported or 0, 4_000)
    assert (left(agent), left(agent, "requests")) == (10_000 - charged, 999)
    assert reservation.expired
    reservation.close()
    charged = charged if reported is None else reported
    assert (left(agent), left(agent, "requests")) == (10_000 - charged, 999)
    assert reservation.expired


def test_each_report_renews(agent: ratectl.Agent) -> None:
    with agent.reserve("/", ACME, TOKENS, expires=10, on_expiry="refund") as reservation:
        for total in range(20):
            agent.clock.advance(9.5)
            reservation.used(tokens=total)
        agent.clock.advance(9.5)
        reservation.used()
        agent.clock.advance(9.5)
        assert not reservation.expired
        assert left(agent) == 6_000


def test_report_after_the_expiry_corrects_and_does_not_renew(agent: ratectl.Agent) -> None:
    with agent.reserve("/", ACME, TOKENS, expires=10, on_expiry="refund") as reservation:
        agent.clock.advance(10)
        for total in (250, 3_900, 4_500):
            reservation.used(tokens=total)
            assert reservation.expired
            assert left(agent) == 10_000 - total
    assert left(agent) == 5_500


def test_expired_reservation_that_keeps_stays_at_the_larger_of_both(agent: ratectl.Agent) -> None:
    with agent.reserve("/", ACME, TOKENS, expires=10) as reservation:
        agent.clock.advance(10)
        for total, remaining in ((250, 6_000), (4_500, 5_500), (300, 6_000)):
            reservation.used(tokens=total)
            assert left(agent) == remaining
    assert left(agent) == 9_700


def test_reservation_that_has_ended_does_not_expire(agent: ratectl.Agent) -> None:
    with agent.reserve("/", ACME, TOKENS, expires=10, on_expiry="refund") as reservation:
        reservation.used(tokens=900)
    agent.clock.advance(100)
    assert not reservation.expired
    assert (left(agent), len(agent._expiries)) == (9_100, 0)


def test_reservation_may_never_expire(agent: ratectl.Agent) -> None:
    with agent.reserve("/", ACME, TOKENS, expires=math.inf, on_expiry="refund") as reservation:
        agent.clock.advance(86_399)
        assert not reservation.expired


def test_expired_reservation_that_names_requests_gives_them_back(agent: ratectl.Agent) -> None:
    agent = agent_of(requests={**QUOTA, "rate": "1_000/day"})
    for cost in (10, {"requests": 10}):
        with agent.reserve("/", ACME, cost, expires=1, on_expiry="refund"):
            agent.clock.advance(1)
            assert left(agent, "requests") == 1_000


def test_expiry_goes_on_after_the_agent_was_closed(agent: ratectl.Agent) -> None:
    reservation = agent.reserve("/", ACME, TOKENS, expires=10, on_expiry="refund").open()
    agent.close()
    agent.clock.advance(10)
    assert reservation.expired
    assert left(agent) == 10_000


# Waiting ----------------------------------------------------------------------------------------


def test_block_waits_in_line() -> None:
    agent = agent_of(tokens={"rate": "100/s", "burst": 1_000})
    assert agent.check("/", ACME, {"tokens": 1_000})
    with agent.reserve("/", ACME, {"tokens": 500}, wait=4) as refused:
        assert refused.decision.retry_after == 5

    async def stream() -> int | None:
        async with agent.reserve("/", ACME, {"tokens": 500}, wait=5) as reservation:
            assert reservation
            reservation.used(tokens=100)
        return left(agent)

    async def main() -> int | None:
        task = asyncio.create_task(stream())
        await asyncio.sleep(0)
        agent.clock.advance(5)
        return await task

    assert asyncio.run(main()) == 400


@pytest.mark.parametrize("wait", [0, None])
def test_asynchronous_block_ends_when_its_task_is_cancelled(
    agent: ratectl.Agent, wait: float | None
) -> None:
    async def stream() -> None:
        async with agent.reserve("/", ACME, TOKENS, wait=wait) as reservation:
            reservation.used(tokens=40)
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(stream())
        await asyncio.sleep(0)
        assert left(agent) == 6_000
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (left(agent), free_slots(agent)) == (9_960, 2)


def test_cancelled_wait_takes_nothing_and_can_be_repeated(agent: ratectl.Agent) -> None:
    async def main() -> None:
        held = [agent.check("/", ACME) for _ in range(2)]
        reservation = agent.reserve("/", ACME, TOKENS, wait=None)
        task = asyncio.create_task(contextlib.AsyncExitStack().enter_async_context(reservation))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for decision in held:
            decision.release()
        assert left(agent) == 10_000
        async with reservation:
            assert left(agent) == 6_000

    asyncio.run(main())


# Streams ----------------------------------------------------------------------------------------


def test_generator_that_is_closed_early_ends_its_reservation(agent: ratectl.Agent) -> None:
    def stream() -> Iterator[int]:
        with agent.reserve("/", ACME, TOKENS) as reservation:
            for number in range(1, 100):
                reservation.used(tokens=number * 10)
                yield number

    chunks = stream()
    assert [next(chunks), next(chunks)] == [1, 2]
    chunks.close()
    assert (left(agent), free_slots(agent)) == (9_980, 2)
    next(another := stream())
    del another
    assert (left(agent), free_slots(agent)) == (9_970, 2)


def test_asynchronous_generator_that_is_closed_early_ends_its_reservation(
    agent: ratectl.Agent,
) -> None:
    async def stream() -> AsyncIterator[int]:
        async with agent.reserve("/", ACME, TOKENS) as reservation:
            for number in range(1, 100):
                reservation.used(tokens=number * 10)
                yield number

    async def main() -> None:
        async with contextlib.aclosing(stream()) as chunks:  # type: ignore[type-var]
            async for number in chunks:
                if number == 3:
                    break

    asyncio.run(main())
    assert (left(agent), free_slots(agent)) == (9_970, 2)
