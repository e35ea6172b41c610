"""Reservations under attack: interruptions, signal handlers, finalizers, threads, and failures."""

from __future__ import annotations

import gc
import random
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from reserving import ACME, agent_of, free_slots, left

import ratectl
from ratectl.agent.given import GivenPolicies

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

QUOTA = {"algorithm": "quota", "rate": "100_000/day"}
TOKENS = {"tokens": 4_000}


def attacked() -> ratectl.Agent:
    """Return an agent with a quota of tokens, and two slots."""
    return agent_of(
        tokens=QUOTA,
        slots={"algorithm": "concurrency", "max": 2, "hold": "1h", "unit": "requests"},
    )


# At every line ----------------------------------------------------------------------------------


class Late(BaseException):
    """Raised by a time limit."""


OURS = "agent/reservation.py", "agent/expiries.py"
ENGINE = (
    "engine/deciding.py", "engine/pure.py", "engine/looks.py",
    "engine/native/engine.py", "buckets/settle.py", "buckets/bucket_set.py",
    "native/bucket_set.py", "algorithms/quota.py",
)  # fmt: skip


def interrupted(
    work: Callable[[], object],
    line: int,
    attack: Callable[[], object],
    files: tuple[str, ...] = OURS,
) -> bool:
    """Run ``work``, and ``attack`` before its nth line. Return False if it has fewer lines.

    Counted are the lines of these files. ``attack`` may raise ``Late``.
    """
    left_over = line

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left_over
        if not frame.f_code.co_filename.endswith(files):
            return None
        if event == "line":
            left_over -= 1
            if left_over == 0:
                sys.settrace(None)
                attack()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except Late:
        pass
    finally:
        sys.settrace(before)
    return left_over <= 0


def late() -> None:
    raise Late


@pytest.mark.parametrize("wait", [0, None])
def test_interrupted_opening_takes_nothing(wait: float | None) -> None:
    agent = attacked()
    line = 1
    while True:
        reservation = agent.reserve("/", ACME, TOKENS, wait=wait, on_expiry="refund")
        if not interrupted(reservation.open, line, late):
            break
        assert (left(agent), free_slots(agent), len(agent._expiries)) == (100_000, 2, 0)
        with reservation:
            assert (left(agent), free_slots(agent)) == (96_000, 1)
            reservation.used(tokens=0)
        line += 1
    assert line > 15


def test_reservation_whose_end_was_interrupted_does_not_expire() -> None:
    line = 1
    while True:
        agent = attacked()
        reservation = agent.reserve("/", ACME, TOKENS, on_expiry="refund").open()
        if not interrupted(reservation.close, line, late):
            break
        ended = reservation._ended
        agent.clock.advance(60)
        assert (reservation.expired, left(agent)) == ((not ended), 96_000 if ended else 100_000)
        line += 1
    assert line > 5


def test_interrupted_end_frees_the_slots_and_can_be_repeated() -> None:
    line, kept = 1, 0
    while True:
        agent = attacked()
        reservation = agent.reserve("/", ACME, TOKENS, on_expiry="refund").open()
        reservation.used(tokens=500)
        if not interrupted(reservation.close, line, late):
            break
        assert left(agent) in (96_000, 99_500)
        kept += free_slots(agent) < 2
        reservation.close()
        assert (left(agent), free_slots(agent), len(agent._expiries)) == (99_500, 2, 0)
        line += 1
    assert line > 15
    assert kept <= 5, "only where it begins, and just before the release itself"


@pytest.mark.parametrize("total", [500, 5_000])
def test_interrupted_report_is_made_up_for_at_the_end(total: int) -> None:
    line = 1
    while True:
        agent = attacked()
        reservation = agent.reserve("/", ACME, TOKENS).open()
        reservation.used(tokens=4_500)
        if not interrupted(lambda: reservation.used(tokens=total), line, late):  # noqa: B023
            break
        reservation.close()
        assert left(agent) == 100_000 - reservation._used["tokens"]
        line += 1
    assert line > 15


@pytest.mark.parametrize("total", [0, 5_000, 9_000])
def test_settlement_that_is_interrupted_in_the_engine_never_gives_back_too_much(
    total: int,
) -> None:
    line = 1
    while True:
        agent = attacked()
        reservation = agent.reserve("/", ACME, TOKENS).open()
        reservation.used(tokens=7_000)
        reservation._ended = True
        assert left(agent) == 93_000
        if not interrupted(lambda: reservation.used(tokens=total), line, late, ENGINE):  # noqa: B023
            break
        for _ in range(2):
            reservation.close()
            assert (left(agent) or 0) <= 100_000 - total
        line += 1
    assert line > 20


@pytest.mark.parametrize("outer", [600, 5_000])
@pytest.mark.parametrize("inner", [700, 7_000])
def test_signal_handler_may_report_during_a_report(outer: int, inner: int) -> None:
    line = 1
    while True:
        agent = attacked()
        reservation = agent.reserve("/", ACME, TOKENS).open()
        if not interrupted(
            lambda: reservation.used(tokens=outer),  # noqa: B023
            line,
            lambda: reservation.used(tokens=inner),  # noqa: B023
        ):
            break
        last = reservation._used["tokens"]
        assert last in (outer, inner)
        assert left(agent) == 100_000 - max(4_000, last)
        line += 1
    assert line > 8


@pytest.mark.parametrize("on_expiry", ["keep", "refund"])
def test_signal_handler_may_end_or_expire_it_during_a_report(on_expiry: Any) -> None:
    line = 1
    while True:
        agent = attacked()
        reservation = agent.reserve("/", ACME, TOKENS, on_expiry=on_expiry).open()

        def end() -> None:
            agent.clock.advance(60)  # noqa: B023
            reservation.close()  # noqa: B023

        if not interrupted(lambda: reservation.used(tokens=900), line, end):  # noqa: B023
            break
        assert (left(agent), free_slots(agent)) == (99_100, 2)
        line += 1
    assert line > 8


# Threads and finalizers -------------------------------------------------------------------------


def test_threads_report_and_end_while_reservations_expire() -> None:
    agent = attacked()
    made = [
        agent.reserve("/", ACME, {"tokens": 100, "requests": 0}, expires=5, on_expiry=how).open()  # type: ignore[arg-type]
        for how in ("keep", "refund") * 20
    ]
    interval = sys.getswitchinterval()

    def work(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(600):
            reservation = draw.choice(made)
            reservation.used(tokens=draw.randint(0, 200))
            if draw.random() < 0.02:
                reservation.close()
            if draw.random() < 0.05:
                agent.clock.advance(draw.random() * 2)

    threads = [threading.Thread(target=work, args=[seed]) for seed in range(4)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    for reservation in made:
        reservation.close()
    used = sum(reservation._used["tokens"] for reservation in made)
    assert (left(agent), len(agent._expiries)) == (100_000 - used, 0)


def test_dropped_reservation_is_given_back_at_its_expiry() -> None:
    agent = attacked()
    agent.reserve("/", ACME, TOKENS, expires=10, on_expiry="refund").open().used(tokens=30)
    agent.reserve("/", ACME, TOKENS, expires=10).open().used(tokens=30)
    gc.collect()
    assert left(agent) == 92_000
    agent.clock.advance(10)
    assert left(agent) == 95_970


class Owner:
    """An object whose finalizer ends its reservation."""

    def __init__(self, reservation: ratectl.Reservation) -> None:
        self.reservation = reservation
        self.itself = self

    def __del__(self) -> None:
        self.reservation.used(tokens=70)
        self.reservation.close()


def test_finalizer_may_end_a_reservation() -> None:
    agent = attacked()
    Owner(agent.reserve("/", ACME, TOKENS, on_expiry="refund").open())
    gc.collect()
    assert (left(agent), free_slots(agent), len(agent._expiries)) == (99_930, 2, 0)


# Failures of the limiter ------------------------------------------------------------------------


class Failing:
    """A decision of a limiter that fails afterwards."""

    allowed = True

    def settle(self, actual: object) -> None:
        raise RuntimeError("no settlement")

    def release(self) -> None:
        raise MemoryError


def test_failing_limiter_never_ends_a_stream(caplog: pytest.LogCaptureFixture) -> None:
    agent = attacked()
    with agent.reserve("/", ACME, TOKENS, on_expiry="refund") as reservation:
        reservation._got[:] = [Failing()]  # type: ignore[list-item]
        reservation.used(tokens=5_000)
        agent.clock.advance(60)
        reservation.used(tokens=5_001)
    assert agent._failures.count == 0
    assert [r.getMessage() for r in caplog.records] == [
        "a reservation for '/' could not be settled"
    ]


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_on_error_answers_a_reservation(on_error: Any) -> None:
    document = {"apiVersion": "ratectl/v1", "scope": "/", "on_error": on_error,
                "limits": {"tokens": {**QUOTA, "unit": "tokens", "per": "tenant"}}}  # fmt: skip
    agent = ratectl.Agent.from_policies(document, clock=ratectl.FakeClock())

    class Broken(dict[str, str]):
        def get(self, *_: object) -> Any:
            raise RuntimeError("no attributes")

    with agent.reserve("/", Broken(), TOKENS, on_expiry="refund") as reservation:
        assert bool(reservation) == (on_error == "allow")
        assert reservation.decision.reason == "error"
        reservation.used(tokens=5_000)
        agent.clock.advance(60)
    assert left(agent) == 100_000


def test_reservation_without_policy_is_allowed_and_charges_nothing() -> None:
    agent = ratectl.Agent.from_policies(
        {"apiVersion": "ratectl/v1", "scope": "/a",
         "limits": {"tokens": {**QUOTA, "unit": "tokens"}}},
        clock=ratectl.FakeClock(),
    )  # fmt: skip
    with agent.reserve("/b", {}, TOKENS, on_expiry="refund") as reservation:
        assert reservation
        assert reservation.decision.reason == "no_policy"
        reservation.used(tokens=5_000)
        assert left(agent, scope="/a") == 100_000
        assert not reservation.expired
        agent.clock.advance(60)
        assert (reservation.expired, len(agent._expiries)) == (True, 0)
        reservation.used(tokens=6_000)
    assert left(agent, scope="/a") == 100_000
    usage = agent.usage()
    assert (usage.no_policy, [limit.allowed for limit in usage.limits]) == (1, [0])


# Publications -----------------------------------------------------------------------------------


def test_publication_while_a_reservation_is_open_keeps_its_bucket() -> None:
    def document(rate: str, **more: object) -> Any:
        tokens = {"algorithm": "quota", "rate": rate, "unit": "tokens", "per": "tenant"}
        return {"apiVersion": "ratectl/v1", "scope": "/", "limits": {"tokens": tokens, **more}}

    agent = ratectl.Agent.from_policies(document("10_000/day"), clock=ratectl.FakeClock())
    enforcement = agent._following.enforcement
    attributes = dict(ACME)
    with (
        agent.reserve("/", attributes, TOKENS) as kept,
        agent.reserve("/", attributes, TOKENS, on_expiry="refund") as expiring,
    ):
        attributes["tenant"] = "globex"
        enforcement.enforce(GivenPolicies.of(document("20_000/day"), None).tree, 2)
        assert left(agent) == 12_000
        kept.used(tokens=6_000)
        assert left(agent) == 10_000
        enforcement.enforce(GivenPolicies.of(document("9_000/day"), None).tree, 3)
        assert left(agent) == 0
        agent.clock.advance(60)
        assert expiring.expired
        assert left(agent) == 3_000
        kept.used(tokens=100)
    assert (left(agent), left(agent, tenant="globex")) == (8_900, 9_000)
