"""The thread that expires reservations: it wakes in time, ends when idle, and may be late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reserving import ACME, agent_of, left

import ratectl
from etcd_server import wait_for
from ratectl.agent import expiries
from ratectl.agent.expiries import Expiries

if TYPE_CHECKING:
    import pytest

SYSTEM = {
    "apiVersion": "ratectl/v1", "scope": "/",
    "limits": {"tokens": {"algorithm": "quota", "rate": "100/day", "unit": "tokens"}},
}  # fmt: skip


def test_thread_gives_back_what_nobody_touches_again() -> None:
    with ratectl.Agent.from_policies(SYSTEM) as agent:
        agent.reserve("/", {}, {"tokens": 60}, expires=0.05, on_expiry="refund").open()
        agent.reserve("/", {}, {"tokens": 40}, expires=600, on_expiry="refund").open()
        assert agent.acquire_sync("/", {}, {"tokens": 50}, wait=None)
        assert not agent.check("/", {}, {"tokens": 11})


def test_reservation_with_an_earlier_expiry_wakes_the_thread() -> None:
    with ratectl.Agent.from_policies(SYSTEM) as agent:
        agent.reserve("/", {}, {"tokens": 40}, expires=600, on_expiry="refund").open()
        wait_for(lambda: agent._expiries._next < 1 << 62, "the thread sleeps")
        agent.reserve("/", {}, {"tokens": 60}, expires=0.05, on_expiry="refund").open()
        assert agent.acquire_sync("/", {}, {"tokens": 60}, wait=None)


def test_thread_runs_only_while_there_are_reservations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiries, "_IDLE", 0.01)
    with ratectl.Agent.from_policies(SYSTEM) as agent:
        for _ in range(3):
            assert not agent._expiries._runs
            with agent.reserve("/", {}, on_expiry="refund"):
                assert agent._expiries._runs
            agent._expiries._wakeup.set()
            wait_for(lambda: not agent._expiries._runs, "the thread has ended")
        with agent.reserve("/", {}):
            assert not agent._expiries._runs


def test_reservation_is_allowed_if_no_thread_can_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    with ratectl.Agent.from_policies(SYSTEM) as agent:
        lost = agent.reserve("/", {}, {"tokens": 60}, expires=0.01, on_expiry="refund").open()
        assert lost
        assert "give nothing back when they expire, for now" in caplog.text
        monkeypatch.undo()
        agent.reserve("/", {}, {"tokens": 1}, on_expiry="refund").open()
        assert agent.acquire_sync("/", {}, {"tokens": 90}, wait=None)


def late() -> ratectl.Agent:
    """Return an agent whose reservations have expired, and where that has had no effect yet."""
    agent = agent_of(tokens={"algorithm": "quota", "rate": "10_000/day"})
    agent._expiries.passed = lambda: None  # type: ignore[method-assign]
    return agent


def test_report_that_comes_before_the_thread_finds_the_reservation_expired() -> None:
    agent = late()
    with agent.reserve("/", ACME, {"tokens": 4_000}, on_expiry="refund") as reservation:
        agent.clock.advance(60)
        assert left(agent) == 6_000
        reservation.used(tokens=50)
        assert reservation.expired
        assert left(agent) == 9_950


def test_late_heartbeat_refunds_before_the_thread_runs() -> None:
    agent = late()
    with agent.reserve("/", ACME, {"tokens": 4_000}, on_expiry="refund") as reservation:
        agent.clock.advance(60)
        reservation.used()
        assert left(agent) == 10_000


def test_late_close_refunds_before_the_thread_runs() -> None:
    agent = late()
    with agent.reserve("/", ACME, {"tokens": 4_000}, on_expiry="refund") as reservation:
        agent.clock.advance(60)
    assert reservation.expired
    assert left(agent) == 10_000


def test_reservation_that_is_added_during_a_scan_wakes_the_thread() -> None:
    now = 0
    waiting = Expiries(lambda: now, by_thread=True)
    waiting._runs = True  # no thread: the test is the thread
    deadlines = {"renewed": 5, "added": 50}

    def look(_: int) -> int:
        if now:
            waiting.add(lambda _: deadlines["added"], deadlines["added"])
        return deadlines["renewed"]

    waiting.add(look, 5)
    waiting._pause()
    assert waiting._wakeup.wait(0)
    now, deadlines["renewed"] = 10, 100
    waiting._pause()
    assert waiting._next == 100
    assert waiting._wakeup.wait(0), "50 comes before 100"


def test_reservation_that_is_added_while_the_thread_ends_keeps_it_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(expiries, "_IDLE", 0)
    looks: list[int] = []
    waiting = Expiries(lambda: looks.append(0) or 0, by_thread=True)  # type: ignore[func-returns-value]
    added: list[bool] = []

    class Open(dict[Any, None]):
        """Reservations: one is added, and removed again, when the thread has said that it ends."""

        def __len__(self) -> int:
            if waiting._runs or added:
                return 0
            added.append(True)
            return 1

    waiting._open, waiting._runs = Open(), True
    waiting._run()
    assert (len(looks), waiting._runs) == (2, False)
