"""Resets in agents: obeyed once by each that runs, ignored by those that start later."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from agent.reset_support import (
    ACME,
    ZETA,
    a_reset,
    exhaust,
    obeyed,
    order,
    put,
    settled,
)
from agent.test_agent_forks import run
from etcd_server import wait_for
from ratectl.fleet.usage import read_agents
from ratectl.records import now_ms
from ratectl.resets.orders import RESETS
from ratectl.stores import open_store
from support import policies, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]


@pytest.fixture
def slow(store: Store) -> Store:
    """Store whose policies admit two requests of each tenant a day."""
    publish_policies(store, simple("2/day", burst=2))
    return store


def test_every_agent_obeys_once_and_reports_it(
    slow: Store, store_url: str, make_agent: Make, tmp_path: Path
) -> None:
    agents = [make_agent(store_url, state_dir=tmp_path / name) for name in ("one", "two")]
    for agent in agents:
        assert [exhaust(agent), exhaust(agent, ZETA)] == [2, 2]
    reset = order(slow)
    for agent in agents:
        obeyed(agent, reset)
        assert [exhaust(agent), exhaust(agent, ZETA)] == [2, 0]
        settled(agent)
        assert exhaust(agent) == 0, "it reads the same record again"
    wait_for(
        lambda: [each.reset_sequence for each in read_agents(slow)] == [reset.sequence] * 2,
        "both report it",
    )
    second = order(slow)
    assert second.sequence > reset.sequence
    for agent in agents:
        obeyed(agent, second)
        assert exhaust(agent) == 2
        assert agent.status.error is None


def test_orders_in_quick_succession_are_all_obeyed(
    slow: Store, store_url: str, make_agent: Make
) -> None:
    agent = make_agent(store_url)
    names = [f"t{number}" for number in range(20)]
    for name in names:
        exhaust(agent, {"tenant": name})
    resets = [order(slow, {"tenant": name}) for name in names]
    obeyed(agent, resets[-1])
    assert [exhaust(agent, {"tenant": name}) for name in names] == [2] * 20


def test_agent_that_starts_later_ignores_it(
    slow: Store, store_url: str, make_agent: Make, tmp_path: Path
) -> None:
    reset = order(slow)
    agent = make_agent(store_url)
    obeyed(agent, reset)
    assert exhaust(agent) == 2
    settled(agent)
    assert exhaust(agent) == 0
    agent.close()
    again = make_agent(store_url)
    obeyed(again, reset)
    assert exhaust(again) == 2
    settled(again)
    assert exhaust(again) == 0, "it keeps nothing on disk"
    newer = order(slow)
    obeyed(again, newer)
    assert exhaust(again) == 2


def test_record_that_comes_again_is_not_obeyed_again(
    slow: Store, store_url: str, make_agent: Make
) -> None:
    """Duplicates, a deleted record, and a store that was restored from a backup."""
    agent = make_agent(store_url)
    first = order(slow)
    obeyed(agent, first)
    backup = slow.get(RESETS)
    second = order(slow)
    obeyed(agent, second)
    newest = slow.get(RESETS)
    assert backup is not None
    assert newest is not None
    assert exhaust(agent) == 2
    for value in (newest.value, backup.value, None, newest.value, b"junk", newest.value):
        if value is None:
            slow.delete(RESETS)
        else:
            slow.put(RESETS, value)
        settled(agent)
    assert exhaust(agent) == 0
    slow.put(RESETS, backup.value)
    third = order(slow)
    assert third.sequence > second.sequence, "agents report what they obeyed"
    obeyed(agent, third)
    assert exhaust(agent) == 2


def test_expired_reset_is_not_obeyed_now_or_later(
    slow: Store, store_url: str, make_agent: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make_agent(store_url)
    exhaust(agent)
    put(slow, a_reset(now_ms(), seconds=-1))
    settled(agent)
    assert (exhaust(agent), agent.status.reset_sequence, agent.status.error) == (0, 0, None)
    late = order(slow)
    assert late.expires > late.time
    obeyed(agent, late)
    assert exhaust(agent) == 2


def test_reset_of_a_limit_that_the_agent_does_not_have(
    slow: Store, store_url: str, make_agent: Make
) -> None:
    agent = make_agent(store_url)
    exhaust(agent)
    for changes in ({"limit": "other"}, {"scope": "/elsewhere"}, {"budget": True}):
        obeyed(agent, order(slow, **changes))
    assert (exhaust(agent), agent.status.error) == (0, None)


def test_key_without_an_attribute_and_a_budget(
    store: Store, store_url: str, make_agent: Make
) -> None:
    fields = {"rate": "2/day", "burst": 2, "per": "tenant"}
    publish_policies(store, policies(**{"/": {"budgets": {"fleet": fields}}, "/a": {}}))
    agent = make_agent(store_url)
    for _ in range(3):
        agent.check("/a")
    obeyed(agent, order(store, {"tenant": None}, limit="fleet", budget=True))
    assert [bool(agent.check("/a")) for _ in range(3)] == [True, True, False]


def test_waiting_requests_pass_as_far_as_the_bucket_goes(
    slow: Store, store_url: str, make_agent: Make
) -> None:
    agent = make_agent(store_url)
    exhaust(agent)

    async def wait() -> list[bool]:
        waiting = [asyncio.create_task(agent.acquire("/", ACME)) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waiting)
        await asyncio.to_thread(order, slow)
        async with asyncio.timeout(5):
            while sum(task.done() for task in waiting) < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        done = [task.done() for task in waiting]
        for task in waiting:
            task.cancel()
        return done

    assert asyncio.run(wait()) == [True, True, False]


@pytest.mark.parametrize(
    "bad",
    [
        b"", b"junk", b"\xff\xfe", b"[]", b"null", b'{"format":2}', b"[" * 100_000,
        b'{"format":1}', b'{"format":1,"resets":[1]}', b'{"format":1,"resets":[{"sequence":1}]}',
        b'{"format":1,"resets":' + b" " * 600_000 + b"[]}",
    ],
)  # fmt: skip
def test_unreadable_record_is_reported_and_changes_nothing(
    slow: Store, store_url: str, make_agent: Make, bad: bytes
) -> None:
    agent = make_agent(store_url)
    exhaust(agent)
    slow.put(RESETS, bad)
    wait_for(lambda: "cannot be read" in (agent.status.error or ""), "the damage is reported")
    assert exhaust(agent) == 0
    obeyed(agent, order(slow))
    wait_for(lambda: agent.status.error is None, "the record was replaced")
    assert exhaust(agent) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": 0}, {"sequence": True}, {"sequence": 1.5}, {"sequence": 2**53},
        {"scope": "shop"}, {"scope": None}, {"limit": 1}, {"limit": "x" * 501}, {"budget": "no"},
        {"key": []}, {"key": {"tenant": 1}}, {"key": {"tenant": "x" * 4_097}},
        {"key": dict.fromkeys(map(str, range(17)))}, {"time": "yesterday"},
        {"time": "2026-11-23T11:58:00"}, {"expires": "2126-11-23T11:58:00Z"}, {"expires": 7},
        {"expires": "2026-11-23T11:58:00Z", "time": "2026-11-23T11:58:00Z"},
        {"expires": "2026-11-23T12:08:01Z", "time": "2026-11-23T11:58:00Z"}, {"signature": 1},
        {"reason": "\ud800"},
    ],
)  # fmt: skip
def test_record_that_no_writer_makes_is_refused(
    tmp_path: Path, make_agent: Make, changes: dict[str, Any]
) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    with open_store(url) as store:
        publish_policies(store, simple("2/day", burst=2))
        agent = make_agent(url)
        exhaust(agent)
        value = {"format": 1, "resets": [{**asdict(a_reset(now_ms())), **changes}]}
        store.put(RESETS, json.dumps(value).encode())
        settled(agent)
        assert "the record of resets cannot be read" in (agent.status.error or "")
        assert exhaust(agent) == 0


FORKS = """
import json, os, sys, time
url, state = sys.argv[1:]
from agent.reset_support import exhaust, obeyed, order
from etcd_server import wait_for
from ratectl.stores import open_store

agent = ratectl.Agent(url, state_dir=state, report_interval=0.1, ready_timeout=10)
with open_store(url) as store:
    exhaust(agent)
    first = order(store)
    obeyed(agent, first)
reading, writing = os.pipe()
answering, answered = os.pipe()
if not os.fork():
    passed = [exhaust(agent)]
    wait_for(lambda: agent.status.connected, "the child is connected", 20)
    time.sleep(1)
    agent._following.sync.look()
    passed.append(exhaust(agent))
    os.write(answered, b"x")
    os.read(reading, 1)
    wait_for(lambda: agent.status.reset_sequence > first.sequence, "the child obeys", 20)
    passed.append(exhaust(agent))
    os.write(answered, json.dumps(passed).encode())
    os._exit(0)
os.read(answering, 1)
with open_store(url) as store:
    second = order(store)
os.write(writing, b"x")
obeyed(agent, second)
print(os.read(answering, 100).decode())
os.wait()
agent.close()
"""


def test_forked_child_inherits_what_was_obeyed(slow: Store, store_url: str, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    assert run(FORKS, store_url, str(tmp_path / "state"), env=env) == [2, 0, 2]
