"""Decisions of an agent by limits that a real server counts."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import TYPE_CHECKING, Any

import pytest

import ratectl
from central.asking import ACME, HEAD, SPIKE, both, in_task
from etcd_server import wait_for
from ratectl import Agent
from ratectl.errors import UsageError
from support import once

if TYPE_CHECKING:
    from valkey_server import ValkeyServer

pytestmark = [once, pytest.mark.valkey]


@both
def test_two_agents_have_one_limit(agent_of: Any, ask: Any) -> None:
    one, other = agent_of(SPIKE), agent_of(SPIKE)
    answers = [ask(agent, "/", ACME) for agent in (one, other, one, other)]
    assert [answer.allowed for answer in answers] == [True, True, True, False]
    assert [answer.remaining for answer in answers] == [2, 1, 0, 0]
    refusal = answers[-1]
    assert (refusal.limit, refusal.scope, refusal.reason, refusal.capacity) == (
        "spike",
        "/",
        "limited",
        3,
    )
    assert 3590 < refusal.retry_after <= 3600
    assert 3 * 3600 - 10 < refusal.reset_after <= 3 * 3600
    assert ask(one, "/", {"tenant": "other"}).allowed
    assert ask(one, "/", ACME, 4).reason == "never"
    assert "spike" in str(refusal.explain())


@both
def test_what_local_limits_charged_is_given_back_when_the_server_refuses(
    agent_of: Any, ask: Any
) -> None:
    policies = SPIKE + (
        "  local: {rate: 1/h, burst: 9}\n"
        "  window: {algorithm: sliding-window, rate: 9/h}\n"
        "  slots: {algorithm: concurrency, max: 4}\n"
    )
    agent = agent_of(policies)
    held = [ask(agent, "/", ACME) for _ in range(3)]
    assert [ask(agent, "/", ACME).limit for _ in range(5)] == ["spike"] * 5
    left = {limit.name: limit.remaining for limit in agent.explain("/", ACME).limits}
    assert left == {"local": 6, "window": 6, "slots": 1}
    for decision in held:
        decision.release()


@both
def test_a_local_refusal_takes_nothing_from_the_server(
    agent_of: Any, ask: Any, valkey: ValkeyServer
) -> None:
    agent = agent_of(SPIKE + "  local: {rate: 1/h, burst: 1}\n")
    assert ask(agent, "/", ACME).limit == "local"  # the one with less left
    assert [ask(agent, "/", ACME).limit for _ in range(3)] == ["local"] * 3
    assert agent_of(SPIKE).check_blocking("/", ACME, 0).remaining == 2


@both
def test_all_central_limits_are_charged_or_none(agent_of: Any, ask: Any) -> None:
    agent = agent_of(
        HEAD + "budgets:\n  fleet: {rate: 1/h, burst: 100, across: redis}\n"
        "limits:\n"
        "  day: {algorithm: quota, rate: 100/week, across: redis}\n"
        "  slots: {algorithm: concurrency, max: 2, across: redis}\n"
    )
    held = [ask(agent, "/"), ask(agent, "/")]
    refused = ask(agent, "/")
    assert (refused.limit, refused.reason, refused.retry_after) == ("slots", "limited", None)
    held[0].release()
    again = ask(agent, "/")
    assert again.allowed
    again.release()
    held[1].release()
    without = agent_of(HEAD + "budgets:\n  fleet: {rate: 1/h, burst: 100, across: redis}\n")
    assert ask(without, "/", {}, 0).remaining == 97


@both
def test_released_slots_are_free_for_the_next_request_of_the_process(
    agent_of: Any, ask: Any
) -> None:
    agent = agent_of(HEAD + "limits:\n  slots: {algorithm: concurrency, max: 1, across: redis}\n")
    for _ in range(20):
        with ask(agent, "/") as decision:
            assert decision.allowed
            assert not ask(agent, "/").allowed
        decision.release()  # only the first call counts
    with ask(agent, "/", {}, 1) as first:
        decision.release()
        assert first.allowed
        assert not ask(agent, "/").allowed


def test_slots_that_are_released_are_free_for_other_processes_soon(agent_of: Any) -> None:
    policies = HEAD + "limits:\n  slots: {algorithm: concurrency, max: 3, across: redis}\n"
    one, other = agent_of(policies), agent_of(policies)
    held = one.check_blocking("/", {}, 3)
    assert not other.check_blocking("/").allowed
    held.release()
    wait_for(lambda: other.check_blocking("/"), "the slots to be free")


@both
def test_settle_corrects_the_server_soon(agent_of: Any, ask: Any) -> None:
    agent = agent_of(
        HEAD + "limits:\n  llm: {rate: 1/h, burst: 1000, unit: tokens, across: redis}\n"
        "  calls: {rate: 1/h, burst: 10, across: redis}\n"
    )
    decision = ask(agent, "/", {}, {"tokens": 400})
    assert (decision.limit, decision.unit, decision.remaining) == ("llm", "tokens", 600)
    decision.settle({"tokens": 150})
    wait_for(
        lambda: ask(agent, "/", {}, {"tokens": 0, "requests": 0}).remaining == 850, "the refund"
    )
    decision.settle({"tokens": 700})
    wait_for(
        lambda: ask(agent, "/", {}, {"tokens": 0, "requests": 0}).remaining == 300, "the charge"
    )
    with pytest.raises(UsageError, match="mapping of units"):
        decision.settle(5)
    unnamed = ask(agent, "/")
    unnamed.settle({"tokens": 300})  # a unit that the cost did not name
    wait_for(lambda: ask(agent, "/", {}, {"tokens": 0, "requests": 0}).remaining == 0, "the charge")


@both
def test_a_reservation_settles_what_it_used(agent_of: Any, ask: Any) -> None:
    agent = agent_of(
        HEAD + "limits:\n  llm: {rate: 1/h, burst: 1000, unit: tokens, across: redis}\n"
    )

    async def stream() -> None:
        async with agent.reserve("/", {}, {"tokens": 900}) as reservation:
            assert reservation
            reservation.used(tokens=250)

    if ask is in_task:
        asyncio.run(stream())
    else:
        with agent.reserve("/", {}, {"tokens": 900}) as reservation:
            assert reservation
            reservation.used(tokens=250)
    wait_for(lambda: ask(agent, "/", {}, {"tokens": 0}).remaining == 750, "the refund")


def test_shadow_limits_refuse_nothing_and_count(agent_of: Any) -> None:
    agent = agent_of(SPIKE.replace("across", "mode: shadow, across"))
    answers = [agent.check_blocking("/", ACME) for _ in range(5)]
    assert [answer.allowed for answer in answers] == [True] * 5
    assert [answer.reason for answer in answers] == ["ok"] * 3 + ["shadow"] * 2


def test_absent_attributes_share_or_skip(agent_of: Any) -> None:
    agent = agent_of(SPIKE)
    assert [agent.check_blocking("/").allowed for _ in range(4)] == [True] * 3 + [False]
    assert agent.check_blocking("/", {"tenant": ""}).allowed  # not the key of an absent one
    agent = agent_of(SPIKE.replace("across", "absent: skip, across"))
    assert [agent.check_blocking("/").limit for _ in range(4)] == [None] * 4
    assert agent.check("/").allowed  # no limit is consulted, so that no server is needed


def test_overrides_choose_the_limit_and_its_count(agent_of: Any) -> None:
    agent = agent_of(
        HEAD + "limits:\n  spike: {rate: 1/h, burst: 1, across: redis}\n"
        "overrides:\n"
        "- name: gold\n  match: {tier: gold}\n  limits: {spike: {burst: 2}}\n"
        "- name: staff\n  match: {tier: staff}\n  limits: {spike: {mode: 'off'}}\n"
    )
    gold, staff = {"tier": "gold"}, {"tier": "staff"}
    assert [agent.check_blocking("/").allowed for _ in range(2)] == [True, False]
    assert [agent.check_blocking("/", gold).allowed for _ in range(3)] == [True, True, False]
    assert [agent.check("/", staff).allowed for _ in range(3)] == [True] * 3
    with pytest.raises(UsageError, match="acheck"):
        agent.check("/", gold)


def test_an_override_may_move_a_limit_to_the_server(agent_of: Any) -> None:
    policies = HEAD + (
        "limits:\n  spike: {rate: 1/h, burst: 2}\n"
        "overrides:\n- name: big\n  match: {tier: big}\n  limits: {spike: {across: redis}}\n"
    )
    one, other = agent_of(policies), agent_of(policies)
    big = {"tier": "big"}
    assert [one.check("/").allowed for _ in range(3)] == [True, True, False]
    assert [one.check_blocking("/", big).allowed for _ in range(2)] == [True] * 2
    assert not other.check_blocking("/", big).allowed
    assert other.check("/").allowed


def test_other_questions_refuse_or_wait(agent_of: Any) -> None:
    agent = agent_of(SPIKE)
    for call in (
        lambda: agent.check("/", ACME),
        lambda: agent.check_many([("/", ACME)]),
        lambda: agent.gate("/", "tenant")("acme"),
    ):
        with pytest.raises(UsageError, match=r"use `await agent\.acheck"):
            call()
    assert agent.check_blocking("/", ACME, 0).remaining == 3  # they charged nothing
    assert agent.acquire_sync("/", ACME, 3).allowed
    assert not agent.acquire_sync("/", ACME, wait=0.01).allowed
    assert not asyncio.run(agent.acquire("/", ACME, wait=0.01)).allowed


def test_a_waiting_request_passes_when_slots_are_free(agent_of: Any) -> None:
    agent = agent_of(HEAD + "limits:\n  slots: {algorithm: concurrency, max: 1, across: redis}\n")
    held = agent.check_blocking("/")
    threading.Timer(0.05, held.release).start()
    assert agent.acquire_sync("/", wait=10).allowed


def test_decorated_functions_ask_the_server(agent_of: Any) -> None:
    agent = agent_of(HEAD + "limits:\n  spike: {rate: 1/h, burst: 2, across: redis}\n")

    @agent.limited("/")
    def plain() -> int:
        return 1

    @agent.limited("/")
    async def coroutine() -> int:
        return 2

    assert (plain(), asyncio.run(coroutine())) == (1, 2)
    with pytest.raises(ratectl.Limited):
        plain()
    with pytest.raises(ratectl.Limited):
        asyncio.run(coroutine())


def test_without_central_limits_check_is_the_function_of_the_engine(agent_of: Any) -> None:
    local = Agent.from_policies(HEAD + "limits:\n  spike: {rate: 1/h, burst: 1}\n")
    assert local.check == local._engine.check
    assert (local.asks_server, local.check_blocking("/").allowed) == (False, True)
    assert not in_task(local, "/").allowed
    local.close()
    configured = agent_of(HEAD + "limits:\n  spike: {rate: 1/h, burst: 1}\n")
    assert [configured.check("/").allowed for _ in range(2)] == [True, False]


HOSTILE = [
    "",
    "a\0b",
    "{x}",
    "}{",
    "\ud800",
    "é" * 500,
    "e" * 500,
    "x" * 10**6,
    '","',
    "[]",
    "alive",
    " ",
]


def test_hostile_keys_have_counts_of_their_own(agent_of: Any, valkey: ValkeyServer) -> None:
    agent = agent_of(
        SPIKE.replace("per: tenant", "per: [tenant, route]").replace("burst: 3", "burst: 1")
    )
    pairs = list(itertools.product([*HOSTILE, None], repeat=2))
    for _ in range(2):
        answers = []
        for tenant, route in pairs:
            given = {"tenant": tenant, "route": route}
            attributes = {name: value for name, value in given.items() if value is not None}
            answers.append(agent.check_blocking("/", attributes).allowed)
        assert len(set(answers)) == 1
    assert not answers[0]
    names = valkey.client().keys("*")
    assert len(names) == len(pairs) + 1
    assert max(map(len, names)) < 300
    assert all(name.startswith(b"ratectl:{default}:") for name in names)


def test_attributes_that_cannot_be_read_are_answered_by_on_error(agent_of: Any) -> None:
    class Broken:
        def __str__(self) -> str:
            raise ValueError("broken")

    agent = agent_of(SPIKE)
    assert agent.check_blocking("/", {"tenant": Broken()}).reason == "error"
    assert in_task(agent, "/", {"tenant": Broken()}).reason == "error"
    with pytest.raises(UsageError, match="a whole number"):
        agent.check_blocking("/", ACME, -1)
    with pytest.raises(UsageError, match="a whole number"):
        in_task(agent, "/", ACME, 1.5)
    assert agent.check_blocking("/", ACME, 10**400).reason == "never"
