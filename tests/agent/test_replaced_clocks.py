"""Clocks that tests replace: an agent follows those that it was made with, in all parts."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ratectl import Agent

freezegun = pytest.importorskip("freezegun")
time_machine = pytest.importorskip("time_machine")

if TYPE_CHECKING:
    from pathlib import Path

POLICIES = """\
apiVersion: ratectl/v1
scope: /
limits:
  minute: {rate: 1/min, burst: 2}
---
apiVersion: ratectl/v1
scope: /daily
unset: [minute]
limits:
  day: {algorithm: quota, rate: 1/day}
---
apiVersion: ratectl/v1
kind: Exception
scope: /
reason: a test
from: 2026-03-01T00:00:00Z
until: 2026-03-02T00:00:00Z
limits:
  minute: {burst: 5}
"""
BEFORE = datetime(2026, 2, 20, 23, 0, tzinfo=UTC)
DURING = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "all.yaml").write_text(POLICIES)
    return policies


@pytest.fixture
def make(source: Path, tmp_path: Path) -> Any:
    return lambda: Agent(source, state_dir=tmp_path / "state")


def test_agent_made_in_frozen_time_follows_it_in_all_parts(make: Any) -> None:
    with freezegun.freeze_time(BEFORE) as frozen, make() as agent:
        assert [agent.check("/").allowed for _ in range(3)] == [True, True, False]
        assert agent.check("/").retry_after == 60
        frozen.tick(60)
        assert [agent.check("/").allowed for _ in range(2)] == [True, False]
        assert agent.check("/daily")
        assert agent.check("/daily").retry_after == 3_600 - 60
        frozen.tick(3_600)
        assert agent.check("/daily")


def test_agent_made_before_time_was_frozen_does_not_follow_it(make: Any) -> None:
    with make() as agent:
        assert [agent.check("/").allowed for _ in range(3)] == [True, True, False]
        day = agent.check("/daily").reset_after
        with freezegun.freeze_time(BEFORE) as frozen:
            frozen.tick(timedelta(days=2))
            agent._following.wall.refresh()
            assert not agent.check("/")
            assert agent.check("/daily").retry_after == pytest.approx(day, abs=60)


def test_exceptions_follow_the_clock_of_buckets(make: Any) -> None:
    with freezegun.freeze_time(DURING) as frozen, make() as agent:
        assert agent.check("/").capacity == 5
        frozen.tick(timedelta(hours=12))
        agent._following.enforcement.keep_time()
        assert agent.check("/").capacity == 2


def test_threads_follow_frozen_time(make: Any) -> None:
    with freezegun.freeze_time(DURING), make() as agent:
        wall, shown = agent._following.wall, []
        thread = threading.Thread(target=lambda: shown.append(wall.time_ns()))
        thread.start()
        thread.join()
        refresh = threading.Thread(target=wall.refresh)
        refresh.start()
        refresh.join()
        assert shown == [int(DURING.timestamp()) * 10**9]
        assert agent.check("/").capacity == 5


def test_timeouts_end_in_frozen_time(tmp_path: Path) -> None:
    with (
        freezegun.freeze_time(BEFORE),
        Agent("memory://frozen", state_dir=tmp_path, ready_timeout=0.01) as agent,
    ):
        assert not agent.wait_ready(0.01)
        assert agent.check("/").reason == "error"


def test_time_machine_moves_the_wall_clock_alone(make: Any) -> None:
    with time_machine.travel(DURING, tick=False) as traveller, make() as agent:
        assert agent.check("/").capacity == 5
        assert agent.check("/daily").reset_after == pytest.approx(12 * 3_600, abs=60)
        traveller.shift(timedelta(days=1))
        agent._following.wall.refresh()
        assert agent.check("/daily")


def test_compiled_engine_reads_a_replaced_clock() -> None:
    native = pytest.importorskip("ratectl.engine.native.engine", exc_type=ImportError)
    with freezegun.freeze_time(BEFORE) as frozen:
        engine = native.FastEngine(time.monotonic_ns)
        assert not engine._own_clock
        frozen.tick(1)
    assert native.FastEngine(time.monotonic_ns)._own_clock
