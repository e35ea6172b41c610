"""The bounded table: eviction cannot be noticed, and overflow never admits too much."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from engine.model import Limit
from engine.plans import by_scope, plan_set, rate, verdict, window
from engine.rules import SECOND

if TYPE_CHECKING:
    from conformance.engine_rig import Rig
    from engine.model import Verdict
    from engine.rules import Rule
    from ratectl.engine.api import Engine

T = ("tenant",)
AGE = 10**9
"""Seconds in which refill is negligible."""

CHANGES = [
    (rate(5, burst=5), window(6, 2)),
    (rate(5, burst=50), window(6, 2)),
    (rate(1, burst=3), window(60, 2)),
    (rate(50, burst=20), window(6, 1)),
    (window(9), rate(7, burst=9)),
    (rate(5, burst=5), window(6, 2)),
]


def _replay(engine: Engine, seed: int) -> list[Verdict]:
    """Replay thousands of requests with bursts, pauses and publications."""
    chance = random.Random(seed)
    now, verdicts = 0, []
    for step in range(3_000):
        if step % 500 == 0:
            generation = step // 500
            first, second = CHANGES[generation]
            limits = [Limit("/", "l", first, T), Limit("/", "m", second, ("route",))]
            engine.swap(plan_set(generation, by_scope(*limits)), now=now)
        now += chance.choice((0, 0, 0, 1, 10**6, 10**8, 10**9))
        who = {"tenant": str(int(chance.expovariate(0.1))), "route": str(chance.randrange(9))}
        verdicts.append(verdict(engine.check("/", who, chance.choice((0, 1, 1, 2)), now=now)))
    return verdicts


def test_tiny_and_huge_tables_decide_alike(rig: Rig) -> None:
    for seed in range(3):
        huge, tiny = rig.another(10**6), rig.another(120)
        assert _replay(tiny, seed) == _replay(huge, seed)
        assert tiny.usage().overflowed == 0
        assert huge.usage().buckets <= 120, "nothing was evicted"


def test_full_buckets_are_evicted(rig: Rig) -> None:
    rig.bound(50)
    rig.publish(Limit("/", "l", rate(1, burst=3), T))
    for number in range(1_000):
        rig.ask(at=number * SECOND, tenant=str(number))
    usage = rig.engine.usage()
    assert usage.overflowed == 0
    assert usage.buckets == usage.limits[0].keys < 10


def test_bucket_of_the_current_request_is_not_evicted(rig: Rig) -> None:
    """New keys of one limit evict full buckets, but not those of the current request."""
    for bound in (1_000, 2):
        rig.bound(bound)
        rig.publish(Limit("/", "l", rate(1), T), Limit("/", "m", rate(1, burst=5), ("route",)))
        rig.ask(tenant="first", route="r")
        at = 100 * SECOND
        passed = sum(rig.ask(at=at, tenant=str(n), route="r").allowed for n in range(20))
        assert passed == 5


def sweep(rig: Rig, at: int, scope: str = "/") -> None:
    """Request enough new keys that the engine checks every old bucket for eviction."""
    for number in range(20):
        rig.ask(1, at, scope, tenant=f"sweep{number}")


def test_a_bucket_that_paid_an_inherited_debt_is_not_evicted(rig: Rig) -> None:
    """Without its bucket, the key would inherit again."""
    root = Limit("/", "l", rate(1, burst=10), T)
    rig.publish(root)
    rig.ask(3, 0, tenant="a")
    rig.publish(root, Limit("/a", "l", rate(1, burst=10), T))
    rig.ask(1, 0, scope="/a", tenant="a")
    rig.ask(10, 6 * SECOND, tenant="a")
    assert rig.left(6 * SECOND, scope="/a", tenant="a") == 10
    sweep(rig, 6 * SECOND, scope="/a")
    assert rig.left(6 * SECOND, scope="/a", tenant="a") == 10


def test_bucket_slightly_below_the_default_bucket_is_not_evicted(rig: Rig) -> None:
    """Even if only a fraction of a token is missing: its key would get the fraction."""
    rig.publish(Limit("/", "l", rate(1, burst=10), T))
    rig.ask(1, 0, tenant="a")
    rig.publish(Limit("/", "l", rate(1, burst=100), T), at=SECOND // 2)
    before = rig.ask(20, SECOND, tenant="a")
    assert (before.remaining, before.retry_after_ns) == (10, 10 * SECOND)
    sweep(rig, SECOND)
    assert rig.ask(20, SECOND, tenant="a") == before


def test_a_table_holds_at_least_one_bucket(rig: Rig) -> None:
    with pytest.raises(ValueError, match="at least one"):
        rig.another(0)


def crowd(rig: Rig, count: int, at: int, cost: int = 1) -> None:
    for number in range(count):
        rig.ask(cost, at, tenant=f"crowd{number}")


def full_table(rig: Rig, rule: Rule, bound: int = 20) -> None:
    """Fill a table with buckets in long debt: nothing can be evicted."""
    rig.bound(bound)
    rig.publish(Limit("/", "l", rule, T))
    for number in range(bound):
        assert rig.ask(2, 0, tenant=f"own{number}").allowed


LONG = [rate(3, AGE, burst=5), window(5, AGE)]


@pytest.mark.parametrize("rule", LONG, ids=["token-bucket", "sliding-window"])
def test_overflow_never_admits_too_much(rig: Rig, rule: Rule) -> None:
    full_table(rig, rule)
    passed: Counter[str] = Counter()
    for round_ in range(4):
        for number in range(300):
            key = f"late{number}"
            passed[key] += 2 * rig.ask(2, round_, tenant=key).allowed
    assert max(passed.values()) <= 5
    assert sum(passed.values()) <= 256 * 5
    usage = rig.engine.usage()
    assert usage.overflowed == usage.limits[0].allowed - 20 == sum(passed.values()) // 2


@pytest.mark.parametrize("rule", LONG, ids=["token-bucket", "sliding-window"])
def test_overflow_does_not_affect_existing_buckets(rig: Rig, rule: Rule) -> None:
    full_table(rig, rule)
    crowd(rig, 600, 0, cost=2)
    assert [rig.left(0, tenant=f"own{number}") for number in range(20)] == [3] * 20
    assert rig.engine.usage().buckets == rig.usage().keys == 20


def test_overflow_ends_when_buckets_can_be_evicted(rig: Rig) -> None:
    full_table(rig, rate(1, burst=5))
    crowd(rig, 100, 0, cost=5)
    before = rig.engine.usage().overflowed
    assert 0 < before <= 100
    for number in range(10):
        assert rig.ask(5, 10 * SECOND, tenant=f"late{number}").allowed
    assert rig.engine.usage().overflowed == before
    assert rig.usage().keys <= 20


def shared_slot(rig: Rig, tenant: str, at: int) -> None:
    """Overflow the table until the shared bucket of ``tenant`` has been charged."""
    for number in range(100_000):
        if rig.left(at, tenant=tenant) != 5:
            return
        rig.ask(1, at, tenant=f"filler{number}")
    raise AssertionError("every key falls into some shared bucket")


@pytest.mark.parametrize("rule", LONG, ids=["token-bucket", "sliding-window"])
def test_key_from_a_shared_bucket_keeps_its_use(rig: Rig, rule: Rule) -> None:
    """The key may still share, or get its own bucket once there is room."""
    full_table(rig, rule)
    assert rig.ask(2, 0, tenant="late").allowed
    assert rig.left(0, tenant="late") == 3
    rig.publish(Limit("/", "l", rule, T), Limit("/", "more", window(9, 1), ("route",)))
    assert rig.ask(3, 0, tenant="late").allowed
    assert not rig.ask(1, 0, tenant="late").allowed


def test_eviction_cannot_be_noticed_beside_shared_buckets(rig: Rig) -> None:
    """A key with a full bucket does not get a shared bucket that others have emptied."""
    rig.bound(1)
    rig.publish(Limit("/", "l", rate(1, 10, burst=5), T))
    rig.ask(2, 0, tenant="own")
    shared_slot(rig, "probe", 0)
    for number in range(3_000):
        rig.ask(1, 10 * SECOND, tenant=f"drain{number}")
    later = 21 * SECOND
    assert rig.left(later, tenant="own") == 5
    for number in range(50):
        rig.ask(1, later, tenant=f"sweep{number}")
    assert rig.left(later, tenant="own") == 5


@pytest.mark.parametrize("rule", [*LONG, rate(1, 7, burst=5)], ids=str)
@pytest.mark.parametrize("after", [*LONG, rate(1, AGE, burst=3)], ids=str)
def test_shared_buckets_migrate(rig: Rig, rule: Rule, after: Rule) -> None:
    full_table(rig, rule)
    crowd(rig, 300, 0, cost=2)
    rig.publish(Limit("/", "l", after, T))
    left = [rig.left(0, tenant=f"crowd{number}") or 0 for number in range(300)]
    assert max(left) <= min(3, after.most)
    for number in range(300):
        spent = sum(rig.ask(1, 0, tenant=f"crowd{number}").allowed for _ in range(4))
        assert spent <= left[number]


@pytest.mark.parametrize("rule", LONG, ids=["token-bucket", "sliding-window"])
def test_shared_bucket_keeps_inherited_debt(rig: Rig, rule: Rule) -> None:
    """A key of a new scope that has to share a bucket keeps its debt."""
    root = Limit("/", "l", rule, T)
    full_table(rig, rule, bound=300)
    rig.publish(root, Limit("/a", "l", rule, T))
    for number in range(600):
        rig.ask(1, 1, scope="/a", tenant=f"fresh{number}")
    owed = [f"own{number}" for number in range(300)]
    assert all((rig.left(1, scope="/a", tenant=tenant) or 0) <= 3 for tenant in owed)
    passed: Counter[str] = Counter()
    for _ in range(5):
        for tenant in owed:
            passed[tenant] += rig.ask(1, 1, scope="/a", tenant=tenant).allowed
    assert max(passed.values()) <= 3
