"""``Agent.from_policies``: agents without a store, whose time a test moves."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import json
import os
import pickle
import signal
import threading
import weakref
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import freezegun
import pytest

from ratectl import Agent, Decision, FakeClock, PolicyError, UsageError, load_valid

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = """\
apiVersion: ratectl/v1
scope: /
limits:
  spike: {rate: 1/s, burst: 2, per: tenant}
---
apiVersion: ratectl/v1
scope: /llm
limits:
  daily: {algorithm: quota, rate: 3/day, per: tenant}
  slots: {algorithm: concurrency, max: 2, per: tenant}
"""
DOCUMENT: dict[str, Any] = {
    "apiVersion": "ratectl/v1",
    "scope": "/",
    "limits": {"spike": {"rate": "1/s", "burst": 2, "per": "tenant"}},
}
SALE = """
---
apiVersion: ratectl/v1
kind: Exception
scope: /
reason: a sale
from: 2030-01-01T01:00Z
until: 2030-01-01T02:00Z
limits: {spike: {rate: 10/s, burst: 20}}
"""
ACME = {"tenant": "acme"}


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent.from_policies(TEXT, clock=FakeClock()) as agent:
        yield agent


def admitted(agent: Agent, scope: str = "/", most: int = 100) -> int:
    """Number of requests that pass at once."""
    return sum(bool(agent.check(scope, ACME)) for _ in range(most))


@pytest.mark.parametrize(
    "form", ["text", "json", "file", "folder", "document", "documents", "tree"]
)
def test_policies_in_every_form(form: str, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(TEXT)
    given: dict[str, Any] = {
        "text": TEXT, "file": str(file), "folder": tmp_path, "document": DOCUMENT,
        "json": json.dumps(DOCUMENT, separators=(",", ":")),
        "documents": [DOCUMENT], "tree": load_valid([file]).tree,
    }  # fmt: skip
    with Agent.from_policies(given[form]) as agent:
        assert admitted(agent) == 2
        assert (agent.generation, agent.status.source, agent.status.error) == (1, "policies", None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("polices", "'polices' is no path of policies, and no YAML"),
        (Path("polices"), "'polices' is no path of policies"),
        ("\0", "is no path of policies"),
        ("", "is no path of policies"),
        (5, "policies are a text in YAML, a path, .* not a int"),
        ([DOCUMENT, "scope: /"], "policies are a text in YAML"),
        ({**DOCUMENT, "limits": {"spike": {"rate": {1, 2}}}}, "cannot be written as YAML"),
    ],
)
def test_what_is_no_policies(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Agent.from_policies(given)


@pytest.mark.parametrize("text", ["caf\xe9 \U0001f680", 'a "quoted" \\ text\n'])
def test_a_document_may_have_any_text(text: str) -> None:
    with Agent.from_policies({**DOCUMENT, "description": text}) as agent:
        assert admitted(agent) == 2


@pytest.mark.parametrize("text", ["\ud83d", "\x7f", "\x85", "\u2028", "\x00", "\ufeff", "\ufffe"])
def test_a_document_with_an_odd_text_is_valid_or_told(text: str) -> None:
    with contextlib.suppress(PolicyError, UsageError):
        Agent.from_policies({**DOCUMENT, "description": text}).close()


def test_findings_name_the_line_of_the_text() -> None:
    with pytest.raises(PolicyError, match=r"<policies>:4:17: error\[RC140\]"):
        Agent.from_policies(TEXT.replace("1/s", "1/x"))


def test_arguments_are_checked() -> None:
    with pytest.raises(UsageError, match=r"clock is a ratectl.FakeClock"):
        Agent.from_policies(TEXT, clock=datetime.now(UTC))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="on_error is 'allow' or 'deny'"):
        Agent.from_policies(TEXT, on_error="refuse")  # type: ignore[arg-type]


def test_no_threads_and_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    before = set(threading.enumerate())
    with Agent.from_policies(TEXT) as real, Agent.from_policies(TEXT, clock=FakeClock()):
        assert set(threading.enumerate()) <= before
        with pytest.raises(UsageError, match=r"clock=ratectl.FakeClock\(\)"):
            real.clock.advance(1)
    assert list(tmp_path.iterdir()) == []


def test_only_exceptions_by_the_system_clock_need_a_thread() -> None:
    with Agent.from_policies(TEXT + SALE):
        assert "ratectl-exceptions" in {thread.name for thread in threading.enumerate()}
    before = set(threading.enumerate())
    with Agent.from_policies(TEXT + SALE, clock=FakeClock()):
        assert set(threading.enumerate()) <= before


class TestTime:
    def test_stands_still_until_it_is_moved(self, agent: Agent) -> None:
        assert admitted(agent) == 2
        refused = agent.check("/", ACME)
        assert refused.retry_after == 1.0
        agent.clock.advance(0.999_999_999)
        assert not agent.check("/", ACME)
        agent.clock.advance(0.000_000_001)
        assert admitted(agent) == 1

    def test_a_quota_ends_with_its_day(self) -> None:
        daily = {**DOCUMENT, "limits": {"daily": {"algorithm": "quota", "rate": "3/day"}}}
        with Agent.from_policies(daily, clock=FakeClock("2030-01-01T23:59:58Z")) as agent:
            assert admitted(agent) == 3
            agent.clock.advance(1)
            assert agent.check("/").retry_after == 1.0
            agent.clock.advance(1)
            assert admitted(agent) == 3

    def test_exceptions_begin_and_end(self) -> None:
        with Agent.from_policies(TEXT + SALE, clock=FakeClock()) as agent:
            counts = []
            for _ in range(3):
                agent.clock.advance(timedelta(minutes=59, seconds=59))
                counts.append(admitted(agent))
                agent.clock.advance(1)
                counts.append(admitted(agent))
            assert counts == [2, 1, 20, 2, 2, 1], "growth adds capacity, not tokens"

    def test_the_wall_clock_may_be_set_back(self) -> None:
        daily = {**DOCUMENT, "limits": {"daily": {"algorithm": "quota", "rate": "3/day"}}}
        with Agent.from_policies(daily, clock=FakeClock("2030-05-05T12:00Z")) as agent:
            assert admitted(agent) == 3
            agent.clock.set_wall("2030-05-04T12:00Z")
            assert admitted(agent) == 0, "the day of a quota does not begin again"
            agent.clock.set_wall(datetime(2030, 5, 6, tzinfo=UTC))
            assert admitted(agent) == 3

    def test_agents_share_a_clock_which_keeps_none_alive(self) -> None:
        clock = FakeClock()
        first, second = (Agent.from_policies(TEXT, clock=clock) for _ in range(2))
        assert (admitted(first), admitted(second)) == (2, 2)
        clock.advance(2)
        assert (admitted(first), admitted(second)) == (2, 2)
        first.close()
        gone = weakref.ref(first)
        del first
        gc.collect()
        assert gone() is None
        clock.advance(1)
        assert admitted(second) == 1
        second.close()

    def test_frozen_time_does_not_matter(self) -> None:
        with (
            freezegun.freeze_time("2020-01-01"),
            Agent.from_policies(TEXT, clock=FakeClock()) as agent,
        ):
            assert admitted(agent) == 2
            agent.clock.advance(1)
            assert admitted(agent) == 1
            assert agent.clock.now == datetime(2030, 1, 1, 0, 0, 1, tzinfo=UTC)


class TestClock:
    @pytest.mark.parametrize(
        "seconds", [-1, float("nan"), float("inf"), "1", None, True, 1e12, timedelta(seconds=-1)]
    )
    def test_only_seconds_advance_it(self, seconds: Any) -> None:
        clock = FakeClock()
        with pytest.raises(UsageError, match="seconds"):
            clock.advance(seconds)
        assert clock.now == datetime(2030, 1, 1, tzinfo=UTC)

    @pytest.mark.parametrize("at", ["noon", "2030-01-01T12:00", datetime(2030, 1, 1), 5])  # noqa: DTZ001
    def test_a_time_has_a_zone(self, at: Any) -> None:
        with pytest.raises(UsageError, match="time"):
            FakeClock(at)
        with pytest.raises(UsageError, match="time"):
            FakeClock().set_wall(at)

    @pytest.mark.parametrize(
        "at", ["1969-12-31T23:59:59.999Z", "1900-01-01T00:00Z", "9000-01-01T00:00Z",
               "9999-12-31T23:59:59Z", "0001-01-01T00:00+14:00", "9999-12-31T23:59:59-14:00"],
    )  # fmt: skip
    def test_its_time_is_from_1970_to_8999(self, at: str) -> None:
        with pytest.raises(UsageError, match="from 1970 to the end of 8999"):
            FakeClock(at)
        clock = FakeClock("8999-12-31T23:59:59Z")
        before = clock.now, clock.monotonic_ns()
        with pytest.raises(UsageError, match="from 1970 to the end of 8999"):
            clock.set_wall(at)
        with pytest.raises(UsageError, match="from 1970 to the end of 8999"):
            clock.advance(1)
        assert (clock.now, clock.monotonic_ns()) == before

    @pytest.mark.parametrize("start", ["1970-01-01T00:00Z", "8999-12-30T23:59:59Z"])
    def test_quotas_renew_at_both_ends_of_its_time(self, start: str) -> None:
        daily = {**DOCUMENT, "limits": {"daily": {"algorithm": "quota", "rate": "3/day"}}}
        with Agent.from_policies(daily, clock=FakeClock(start)) as agent:
            assert admitted(agent) == 3
            agent.clock.advance(86_400)
            assert admitted(agent) == 3

    def test_both_clocks_advance(self) -> None:
        clock = FakeClock("2030-01-01T13:00+01:00")
        wall, monotonic = clock.time_ns(), clock.monotonic_ns()
        clock.advance(0.25)
        assert (clock.time_ns() - wall, clock.monotonic_ns() - monotonic) == (250_000_000,) * 2
        assert clock.now.isoformat() == "2030-01-01T12:00:00.250000+00:00"


class TestWaiting:
    def test_requests_wait_for_the_fake_clock(self, agent: Agent) -> None:
        async def waits() -> list[list[bool]]:
            tasks = [asyncio.create_task(agent.acquire("/", ACME)) for _ in range(5)]
            seen = []
            for _ in range(4):
                await settled()
                seen.append([task.done() for task in tasks])
                agent.clock.advance(1)
            await asyncio.gather(*tasks)
            return seen

        seen = asyncio.run(waits())
        assert [sum(done) for done in seen] == [2, 3, 4, 5]
        assert all(done == sorted(done, reverse=True) for done in seen), "first come, first served"

    @pytest.mark.parametrize("waiters", [1, 2, 50])
    def test_awaiting_the_tasks_that_pass_is_enough(self, waiters: int) -> None:
        """As docs/library.md says: no number of turns of the event loop has to be known."""
        many = {**DOCUMENT, "limits": {"spike": {"rate": "1/s", "burst": 100}}}

        async def waits(agent: Agent) -> None:
            assert agent.check("/", cost=100)
            tasks = [asyncio.create_task(agent.acquire("/")) for _ in range(waiters + 1)]
            await asyncio.wait(tasks, timeout=0.05)
            agent.clock.advance(waiters)
            assert all(await asyncio.wait_for(asyncio.gather(*tasks[:waiters]), 30))
            _, waiting = await asyncio.wait(tasks, timeout=0.05)
            assert waiting == {tasks[-1]}

        with Agent.from_policies(many, clock=FakeClock()) as agent:
            asyncio.run(waits(agent))

    def test_a_jump_of_an_hour_makes_nobody_late(self, agent: Agent) -> None:
        """Requests that did not come back for seconds are passed over; this is not that."""
        order: list[int] = []

        async def waits() -> None:
            async def one(number: int) -> None:
                await agent.acquire("/", ACME)
                order.append(number)

            tasks = [asyncio.create_task(one(number)) for number in range(6)]
            for _ in range(4):
                await settled()
                agent.clock.advance(3600)
            await asyncio.gather(*tasks)

        asyncio.run(waits())
        assert order == [0, 1, 2, 3, 4, 5]

    def test_a_wait_ends_with_its_time(self, agent: Agent) -> None:
        async def waits() -> Decision:
            slots = [agent.check("/llm", ACME), agent.check("/llm", ACME)]
            task = asyncio.create_task(agent.acquire("/llm", ACME, wait=2))
            await settled()
            assert not task.done()
            agent.clock.advance(2)
            assert all(slots)
            return await task

        assert asyncio.run(waits()).reason == "limited"

    def test_threads_wait_as_well(self, agent: Agent) -> None:
        assert admitted(agent) == 2
        thread = threading.Thread(target=agent.acquire_sync, args=("/", ACME))
        thread.start()
        while not len(agent._line):
            pass
        agent.clock.advance(1)
        thread.join(10)
        assert not thread.is_alive()


async def settled() -> None:
    """Let all tasks run until they wait."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_decisions_are_pickled_and_copied_without_their_slots() -> None:
    slots = {**DOCUMENT, "limits": {"slots": {"algorithm": "concurrency", "max": 2}}}
    agent = Agent.from_policies(slots)
    decision = agent.check("/")
    copies = [pickle.loads(pickle.dumps(decision)), copy.copy(decision), copy.deepcopy(decision)]
    names = [name for name in Decision.__slots__ if not name.startswith("_")]
    for each in copies:
        assert [getattr(each, name) for name in names] == [
            getattr(decision, name) for name in names
        ]
        each.release()
    assert agent.check("/", cost=0).remaining == 1
    decision.release()
    assert agent.check("/", cost=0).remaining == 2


def test_an_agent_is_closed_at_the_end_of_an_async_block() -> None:
    async def block() -> Agent:
        async with Agent.from_policies(TEXT + SALE) as agent:
            assert agent.check("/", ACME)
        return agent

    before = set(threading.enumerate())
    agent = asyncio.run(block())
    new = set(threading.enumerate()) - before
    assert not any(thread.name == "ratectl-exceptions" for thread in new)
    assert agent.check("/", ACME), "decisions go on"


def test_a_forked_child_decides(agent: Agent) -> None:
    assert admitted(agent) == 2
    child = os.fork()
    if not child:
        agent.clock.advance(1)
        os._exit(admitted(agent) + 10 * (agent.status.error is not None))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert admitted(agent) == 0


def test_a_child_forked_while_a_thread_moves_the_clock_moves_it_too(agent: Agent) -> None:
    held, over = threading.Event(), threading.Event()

    def move() -> None:
        with agent.clock._lock:
            held.set()
            over.wait(60)

    thread = threading.Thread(target=move)
    thread.start()
    held.wait(60)
    child = os.fork()
    if not child:
        signal.alarm(20)  # kills a child that hangs
        agent.clock.advance(1)
        agent.clock.set_wall("2031-01-01T00:00Z")
        os._exit(admitted(agent))
    over.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2


def test_it_works_on_the_engine_of_this_run(agent: Agent) -> None:
    assert agent.status.engine.startswith(os.environ.get("RATECTL_ENGINE", "c")[:1])
