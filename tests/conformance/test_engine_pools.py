"""Limits whose tokens come from a wallet: decisions spend them, and nothing else does."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from ratectl.engine.algorithms.pooled import PooledBucket
from ratectl.engine.algorithms.refunds import Refund, Refunds
from ratectl.engine.algorithms.token_bucket import TokenBucket
from ratectl.engine.api import PlanSet, ScopePlan
from ratectl.engine.limit_plan import LimitPlan

if TYPE_CHECKING:
    from conformance.engine_rig import Rig
    from ratectl.engine.algorithms.pooled import AnyWallet
    from ratectl.engine.algorithms.protocol import Algorithm

MS = 10**6
WAIT = 5 * MS
NAME = ("/", "fleet", True, (), (), "requests")


def plan(algorithm: Algorithm[object], name: str = "fleet", unit: str = "requests") -> LimitPlan:
    return LimitPlan(
        scope="/", name=name, algorithm=algorithm, per=(), shadow=False, budget=True, unit=unit
    )


def publish(rig: Rig, *plans: LimitPlan) -> None:
    rig.generation += 1
    rig.engine.swap(PlanSet(rig.generation, {"/": ScopePlan("/", plans, True)}))


def pooled(wallet: AnyWallet, capacity: int = 100, token_ns: int = 10 * MS) -> PooledBucket:
    return PooledBucket(capacity, token_ns, wallet, WAIT)


@pytest.fixture
def wallet(rig: Rig) -> AnyWallet:
    """The wallet of a budget that is in force."""
    wallet = rig.engine.new_wallet()
    publish(rig, plan(pooled(wallet)))
    assert rig.engine.spent(NAME) == 0
    return wallet


def grant(wallet: AnyWallet, tokens: int, until: int = 1_000 * MS) -> None:
    wallet.granted += tokens
    wallet.deadline = until


def test_an_empty_wallet_admits_nothing(rig: Rig, wallet: AnyWallet) -> None:
    refused = rig.ask()
    assert (refused.allowed, refused.reason, refused.retry_after_ns) == (False, "limited", 10 * MS)
    assert rig.ask(0).allowed is False  # no deadline yet
    assert (wallet.missed, wallet.largest) == (1, 1)


def test_tokens_are_spent_once(rig: Rig, wallet: AnyWallet) -> None:
    grant(wallet, 3)
    assert [rig.ask().remaining for _ in range(3)] == [2, 1, 0]
    assert not rig.ask().allowed
    assert rig.engine.spent(NAME) == 3
    grant(wallet, 2)
    assert rig.ask(2).allowed
    assert rig.engine.spent(NAME) == 5


def test_nothing_is_spent_from_the_deadline_on(rig: Rig, wallet: AnyWallet) -> None:
    grant(wallet, 10, until=50)
    assert rig.ask(at=49).allowed
    assert not rig.ask(at=50).allowed
    wallet.deadline = 60
    assert rig.ask(at=59).allowed
    assert rig.engine.spent(NAME, 60) == 2


def test_a_forked_child_has_no_token_of_its_parent(rig: Rig, wallet: AnyWallet) -> None:
    grant(wallet, 10)
    rig.engine.after_fork_in_child()
    assert not rig.ask().allowed


def test_a_wallet_may_have_more_than_the_limit_admits_at_once(rig: Rig, wallet: AnyWallet) -> None:
    """With consistency: optimistic, processes add tokens to the pool."""
    publish(rig, plan(pooled(wallet, capacity=4)))
    grant(wallet, 10)
    never = rig.ask(5)
    assert (never.allowed, never.reason, never.capacity) == (False, "never", 4)
    assert [rig.ask(0).remaining, rig.ask(4).remaining, rig.ask(4).remaining] == [4, 4, 2]
    assert rig.engine.explain("/", {}, 0).remaining == 2
    grant(wallet, 10)
    assert rig.engine.explain("/", {}, 0).remaining == 4
    assert rig.engine.usage().limits[0].lowest == 2


def test_costs_larger_than_the_wallet_are_told(rig: Rig, wallet: AnyWallet) -> None:
    grant(wallet, 5)
    assert rig.ask(8).retry_after_ns == 80 * MS
    assert not rig.ask(7).allowed
    assert (wallet.missed, wallet.largest) == (15, 8)
    assert rig.ask(101).reason == "never"
    assert rig.ask(100).reason == "limited"
    assert rig.ask(5).allowed
    assert rig.engine.spent(NAME) == 5


def test_the_shortest_wait_is_bounded(rig: Rig) -> None:
    wallet = rig.engine.new_wallet()
    publish(rig, plan(pooled(wallet, 1_000, token_ns=1_000)))
    assert rig.ask().retry_after_ns == WAIT


def test_a_rate_of_zero_admits_nothing(rig: Rig) -> None:
    wallet = rig.engine.new_wallet()
    publish(rig, plan(pooled(wallet, 10, token_ns=0)))
    grant(wallet, 10)
    assert rig.ask().reason == "never"
    assert not rig.ask(0).allowed


def test_a_refusal_elsewhere_spends_nothing(rig: Rig) -> None:
    wallet = rig.engine.new_wallet()
    local = LimitPlan(
        scope="/", name="local", algorithm=TokenBucket(1, 10**9, 1), per=(), shadow=False
    )
    publish(rig, local, plan(pooled(wallet)))
    rig.engine.spent(NAME)
    grant(wallet, 10)
    assert rig.ask().allowed
    assert rig.ask().limit == "local"
    assert rig.engine.spent(NAME) == 1


def test_units_are_spent(rig: Rig) -> None:
    wallet = rig.engine.new_wallet()
    publish(rig, plan(pooled(wallet), unit="tokens"))
    name = (*NAME[:5], "tokens")
    rig.engine.spent(name)
    grant(wallet, 50)
    assert rig.engine.check("/", {}, {"requests": 1, "tokens": 30}).allowed
    assert not rig.engine.check("/", {}, {"tokens": 30}).allowed
    assert rig.engine.check("/", {}, {"requests": 1}).allowed
    assert rig.engine.spent(name) == 30


def test_settlements_spend_more_and_refund_what_nobody_has_heard_of(
    rig: Rig, wallet: AnyWallet
) -> None:
    grant(wallet, 20)
    decision = rig.engine.check("/", {}, 10)
    decision.settle(4)
    assert rig.engine.spent(NAME) == 4
    decision = rig.engine.check("/", {}, 6)
    wallet.reported = 8
    decision.settle(0)
    assert rig.engine.spent(NAME) == 8  # 10 without the settlement; 8 was reported
    decision = rig.engine.check("/", {}, 2)
    decision.settle(30)
    assert rig.engine.spent(NAME) == 38
    assert not rig.ask().allowed
    grant(wallet, 20)
    assert [rig.ask().allowed for _ in range(3)] == [True, True, False]


def test_a_refund_of_what_somebody_has_heard_of_is_for_others(rig: Rig) -> None:
    wallet, refunds = rig.engine.new_wallet(), Refunds()
    publish(rig, plan(PooledBucket(100, 10 * MS, wallet, WAIT, refunds)))
    rig.engine.spent(NAME)
    grant(wallet, 20)
    decision = rig.engine.check("/", {}, 10, 5)
    wallet.reported = 8
    rig.engine.settle(decision, 3, 9)
    assert rig.engine.spent(NAME) == 8
    assert list(refunds.take().values()) == [Refund(5, 5)]
    rig.engine.settle(decision, 3, 9)
    assert not refunds


def test_totals_go_on_over_publications(rig: Rig, wallet: AnyWallet) -> None:
    grant(wallet, 10)
    rig.ask(4)
    publish(rig, plan(pooled(wallet, 50, 20 * MS)))
    assert rig.engine.spent(NAME) == 4
    rig.ask(2)
    publish(rig)
    assert rig.engine.spent(NAME) is None
    grant(wallet, 5)
    publish(rig, plan(pooled(wallet)))
    assert rig.engine.spent(NAME) == 15  # a new bucket has nothing of what was granted before
    assert not rig.ask().allowed
    grant(wallet, 1)
    assert rig.ask().allowed


def test_a_stale_default_mints_nothing(rig: Rig, wallet: AnyWallet) -> None:
    grant(wallet, 10)
    rig.ask(3)
    publish(rig, plan(pooled(wallet, 60, 20 * MS)))
    grant(wallet, 10)
    rig.ask(4)
    rig.engine.reset("/", "fleet", {}, budget=True)
    assert not rig.ask().allowed
    assert rig.engine.spent(NAME) == wallet.granted


def test_another_wallet_begins_anew(rig: Rig, wallet: AnyWallet) -> None:
    grant(wallet, 10)
    rig.ask(4)
    other = rig.engine.new_wallet()
    publish(rig, plan(pooled(other)))
    assert rig.engine.spent(NAME) == 0
    assert not rig.ask().allowed
    grant(other, 1)
    assert rig.ask().allowed


def test_a_limit_becomes_local_and_back(rig: Rig, wallet: AnyWallet) -> None:
    grant(wallet, 10)
    rig.ask(4)
    publish(rig, plan(TokenBucket(1, 10 * MS, 100)))
    assert rig.engine.spent(NAME) is None
    assert rig.left() == 6  # what the wallet had
    publish(rig, plan(pooled(wallet)))
    assert not rig.ask().allowed
    assert rig.engine.spent(NAME) == 10


def test_free_tokens_count_as_unused(rig: Rig, wallet: AnyWallet) -> None:
    grant(wallet, 10)
    wallet.free = 70
    rig.ask(4)
    (limit,) = rig.engine.usage(fill=True).limits
    assert limit.fill is not None
    assert rig.engine.check("/", {}, 0).remaining == 6
    assert rig.engine.check("/", {}, 0).reset_after_ns == 24 * 10 * MS


def test_shadow_limits_spend_and_never_refuse(rig: Rig) -> None:
    wallet = rig.engine.new_wallet()
    shadow = LimitPlan(scope="/", name="fleet", algorithm=pooled(wallet), per=(), shadow=True)
    publish(rig, shadow)
    name = ("/", "fleet", False, (), (), "requests")
    rig.engine.spent(name)
    grant(wallet, 1)
    assert [rig.ask().allowed for _ in range(3)] == [True, True, True]
    assert rig.engine.spent(name) == 1


def test_buckets_of_pools_are_not_evicted(rig: Rig, wallet: AnyWallet) -> None:
    rig.bound(20)
    per = LimitPlan(
        scope="/", name="each", algorithm=TokenBucket(1, 10, 5), per=("key",), shadow=False
    )
    fresh = rig.engine.new_wallet()
    publish(rig, per, plan(pooled(fresh)))
    rig.engine.spent(NAME)
    grant(fresh, 1_000)
    for number in range(200):
        rig.now += 1_000
        rig.ask(key=str(number))
    assert rig.engine.spent(NAME) == 200


@pytest.mark.usefixtures("eager_threads")
def test_threads_never_spend_more_than_was_granted(rig: Rig, wallet: AnyWallet) -> None:
    """A writer grants and takes back while threads decide."""
    stop = threading.Event()
    admitted: list[int] = []

    def spend() -> None:
        count = 0
        while not stop.is_set():
            count += rig.engine.check("/", {}).allowed
        admitted.append(count)

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    granted = 0
    for _ in range(300):
        grant(wallet, 7)
        granted += 7
        before = wallet.granted
        spent = rig.engine.spent(NAME)
        assert spent is not None
        wallet.granted = max(spent, before - 2)
        after = rig.engine.spent(NAME)
        assert after is not None
        wallet.granted = max(wallet.granted, after)
        granted -= before - wallet.granted
    stop.set()
    for thread in threads:
        thread.join()
    total = rig.engine.spent(NAME)
    assert total == sum(admitted)
    assert total <= granted == wallet.granted
