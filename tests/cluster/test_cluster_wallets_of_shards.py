"""One wallet with tokens of two shards: nothing is lost, minted or spent late."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from machine import TIMING, bucket, name_by_tenant, name_of

from engine.engines import ENGINES
from ratectl.cluster.pools import PooledLimits
from ratectl.cluster.protocol.capacity import WHOLE
from ratectl.cluster.protocol.messages import PoolId
from ratectl.cluster.protocol.timing import FOREVER
from ratectl.cluster.protocol.wallets import Purse
from ratectl.cluster.wallets import EngineWallets
from ratectl.engine.api import PlanSet, ScopePlan
from ratectl.engine.limit_plan import LimitPlan
from soak import scaled

if TYPE_CHECKING:
    from ratectl.engine.decision import Decision

END = 10**9


class Process:
    """An engine with one limit, whose wallet two shards fill."""

    def __init__(self, name: str, *, per: bool = False) -> None:
        self.now = 0
        self.engine = ENGINES[name](lambda: self.now)
        limits = PooledLimits(self.engine, TIMING)
        limits.begin_share(WHOLE, b"sixteen bytes in all")
        with limits.collected() as pools:
            name_ = name_by_tenant("one") if per else name_of("one")
            plan = LimitPlan(
                scope="/", name="one", algorithm=pools.bucket(name_, bucket(1, 10_000)),
                per=("tenant",) if per else (), shadow=False, budget=not per,
            )  # fmt: skip
            self.engine.swap(PlanSet(1, {"/": ScopePlan("/", (plan,), True)}))
        self.wallets = EngineWallets(self.engine)
        self.wallets.follow(limits.in_force())
        self.shards = self.wallets.shards
        for shard in self.shards:
            shard.deadline = END
        self.pool = PoolId(next(iter(limits.in_force())), "")

    def ask(self, cost: int = 1) -> Decision | None:
        decision = self.engine.check("/", {"tenant": "a"}, cost)
        return decision if decision.allowed else None

    def lefts(self) -> list[int]:
        return [shard.read(self.pool).tokens for shard in self.shards]


@pytest.fixture(params=sorted(ENGINES))
def process(request: pytest.FixtureRequest) -> Process:
    return Process(request.param)


def test_tokens_of_both_are_spent_in_proportion(process: Process) -> None:
    process.shards[0].add(process.pool, 30)
    process.shards[1].add(process.pool, 10)
    assert process.ask(20)
    assert process.lefts() == [15, 5]
    assert process.ask(20)
    assert not process.ask()
    assert [shard.read(process.pool).spent for shard in process.shards] == [30, 10]


def test_single_tokens_do_not_all_come_from_one_shard(process: Process) -> None:
    for shard in process.shards:
        shard.add(process.pool, 10)
    for _ in range(10):
        assert process.ask()
        process.lefts()
    assert process.lefts() == [5, 5]


def test_what_was_missed_is_asked_of_both(process: Process) -> None:
    for shard in process.shards:
        shard.add(process.pool, 1)
    assert not process.ask(9)
    assert not process.ask(4)
    found = [shard.read(process.pool) for shard in process.shards]
    assert sum(purse.missed for purse in found) == 13
    assert {purse.missed for purse in found} == {6, 7}
    assert [purse.largest for purse in found] == [5, 5]
    process.shards[0].add(process.pool, 5)
    assert [shard.read(process.pool).largest for shard in process.shards] == [0, 5]


def test_a_shard_without_an_owner_is_asked_for_nothing(process: Process) -> None:
    for shard in process.shards:
        shard.add(process.pool, 1)
    process.shards[1].take(process.pool, FOREVER)
    process.shards[1].drop(process.pool)
    assert not process.ask(8)
    assert process.shards[1].read(process.pool) == Purse(0, 0, 0, 0)
    assert process.shards[0].read(process.pool) == Purse(1, 0, 8, 8)


def test_all_ends_with_the_first_tokens_that_are_void(process: Process) -> None:
    first, second = process.shards
    first.add(process.pool, 5)
    second.add(process.pool, 5)
    first.deadline = 100
    process.now = 100
    assert not process.ask()
    first.take(process.pool, FOREVER)
    assert process.ask(5)
    first.add(process.pool, 1)
    assert not process.ask(), "it came too late"


def test_without_tokens_a_deadline_does_not_count(process: Process) -> None:
    first, second = process.shards
    first.deadline = 0
    second.add(process.pool, 1)
    assert process.ask()


def test_what_was_spent_too_much_is_paid_by_the_next_tokens(process: Process) -> None:
    first, second = process.shards
    first.add(process.pool, 10)
    decision = process.ask(10)
    assert decision is not None
    decision.settle(14)
    assert first.read(process.pool).spent == 10
    second.add(process.pool, 6)
    assert second.read(process.pool)[:2] == (2, 4)
    assert process.ask(2)
    assert not process.ask()


@pytest.mark.parametrize("name", ENGINES)
def test_each_key_is_of_one_shard(name: str) -> None:
    process = Process(name, per=True)
    process.wallets.use_own_part_until(END)
    for tenant in range(40):
        process.engine.check("/", {"tenant": str(tenant)}, 3_000)
    touched = [list(shard.touched()) for shard in process.shards]
    assert sum(map(len, touched)) == 40
    assert min(map(len, touched)) > 5
    assert not set(touched[0]) & set(touched[1])
    assert [list(shard.touched()) for shard in process.shards] == [[], []]


def ask_for_each(process: Process, cost: int = 1) -> int:
    """Send a request of each of 20 tenants; return how many were admitted."""
    return sum(
        process.engine.check("/", {"tenant": str(number)}, cost).allowed for number in range(20)
    )


def touched(process: Process) -> list[list[PoolId]]:
    """Send a request of each tenant; return the keys of each shard."""
    ask_for_each(process)
    return [list(shard.touched()) for shard in process.shards]


@pytest.mark.parametrize("name", ENGINES)
def test_keys_of_a_shard_that_ends_do_not_stop_others(name: str) -> None:
    process = Process(name, per=True)
    first, _ = process.shards
    keys = touched(process)
    for shard, pools in zip(process.shards, keys, strict=True):
        for pool in pools:
            shard.add(pool, 2)
    first.deadline = process.now = 100
    assert ask_for_each(process) == 0
    for pool in keys[0]:
        first.take(pool, FOREVER)
        first.drop(pool)
    assert ask_for_each(process) == len(keys[1])


@pytest.mark.parametrize("name", ENGINES)
def test_tokens_that_were_spent_unread_end_with_their_wallet(name: str) -> None:
    process = Process(name, per=True)
    first, second = process.shards
    keys = touched(process)
    first.add(keys[0][0], 2)
    second.add(keys[1][0], 2)
    assert ask_for_each(process, 2) == 2
    assert first.take(keys[0][0], FOREVER) == 0
    first.drop(keys[0][0])
    first.deadline = 0
    second.add(keys[1][0], 1)
    assert ask_for_each(process) > 0


def test_both_shards_are_told_what_was_spent_of_a_limit_that_is_gone(process: Process) -> None:
    for shard in process.shards:
        shard.add(process.pool, 10)
    assert process.ask(4)
    process.wallets.follow({})
    first, second = process.shards
    assert first.take(process.pool, FOREVER) == 8
    first.drop(process.pool)
    assert second.read(process.pool)[:2] == (8, 2)
    assert second.take(process.pool, FOREVER) == 8
    second.drop(process.pool)
    assert second.read(process.pool) == Purse(0, 0, 0, 0)


@pytest.mark.parametrize("seed", range(scaled(15, 300)))
def test_nothing_is_lost_or_minted_by_chance(process: Process, seed: int) -> None:
    """Each token that a shard has added is spent, left in the wallet, or taken out again."""
    rnd = random.Random(seed)
    brought, asked = [0, 0], 0
    taken, open_ = [0, 0], []
    for _ in range(400):
        number = rnd.randrange(2)
        shard = process.shards[number]
        match rnd.randrange(8):
            case 0 | 1:
                tokens = rnd.choice((1, 2, 5, 40))
                shard.add(process.pool, tokens)
                brought[number] += tokens
            case 2:
                taken[number] += shard.take(process.pool, rnd.choice((1, 3, FOREVER)))
            case 3:
                shard.deadline = process.now + rnd.choice((-1, 1, 50))
            case 4 if open_:
                open_.pop(rnd.randrange(len(open_))).settle(rnd.choice((0, 1, 3)))
            case 5:
                process.now += rnd.choice((1, 1, 20))
            case _:
                ends = [
                    each.deadline
                    for each, left in zip(process.shards, process.lefts(), strict=True)
                    if left
                ]
                cost, total = rnd.choice((1, 1, 2, 7)), sum(process.lefts())
                decision = process.ask(cost)
                may = total >= cost and process.now < min(ends, default=0)
                assert (decision is not None) is may
                if decision is not None:
                    open_.append(decision)
        asked = process.engine.spent(name_of("one")) or 0
        found = [each.read(process.pool) for each in process.shards]
        for purse, added, gone in zip(found, brought, taken, strict=True):
            assert purse.spent + purse.tokens + gone == added
        assert asked >= sum(purse.spent for purse in found)
        owed = asked - sum(purse.spent for purse in found)
        assert not owed or not sum(purse.tokens for purse in found)


@pytest.mark.parametrize("unused", [1, 2, 3])
def test_a_refund_goes_to_both_and_no_token_of_it_is_lost(process: Process, unused: int) -> None:
    for shard in process.shards:
        shard.add(process.pool, 5)
    decision = process.ask(10)
    assert decision is not None
    assert [shard.read(process.pool).spent for shard in process.shards] == [5, 5]
    decision.settle(10 - unused)
    parts = [shard.refunds()[process.pool].tokens for shard in process.shards]
    assert sum(parts) == unused
    assert max(parts) - min(parts) <= 1
