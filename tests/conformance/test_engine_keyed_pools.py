"""Limits across the cluster that count per key: buckets of the process itself, and wallets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ratectl.engine.algorithms.keyed_bucket import KeyedBucket, OwnPart
from ratectl.engine.algorithms.refunds import Refund, Refunds
from ratectl.engine.algorithms.token_bucket import TokenBucket
from ratectl.engine.api import PlanSet, ScopePlan
from ratectl.engine.buckets.counters import plain as stored
from ratectl.engine.limit_plan import LimitPlan
from ratectl.engine.stable_keys import StableKeys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from conformance.engine_rig import Rig
    from ratectl.engine.algorithms.keyed_bucket import AnyKeyWallets
    from ratectl.engine.algorithms.protocol import Algorithm
    from ratectl.engine.decision import Decision

MS = 10**6
WAIT = 5 * MS
FOREVER = 1 << 60
KEYS = StableKeys(b"sixteen bytes or more")
TICKS = 10**12
"""Ticks of a token."""


def part(tokens: int, *, per_ms: int = 0) -> OwnPart:
    return OwnPart(per_ms * TICKS // MS, TICKS, tokens * TICKS)


def plan(algorithm: Algorithm[object], *per: str, name: str = "each") -> LimitPlan:
    return LimitPlan(scope="/", name=name, algorithm=algorithm, per=per, shadow=False)


def publish(rig: Rig, *plans: LimitPlan) -> None:
    rig.generation += 1
    rig.engine.swap(PlanSet(rig.generation, {"/": ScopePlan("/", plans, True)}))


def keyed(wallets: AnyKeyWallets, own: OwnPart) -> KeyedBucket:
    return KeyedBucket(100, 10 * MS, own, wallets, WAIT)


def asked(rig: Rig, *tenants: str, cost: int = 1, at: int | None = None) -> list[bool]:
    return [rig.engine.check("/", {"tenant": of}, cost, at).allowed for of in tenants]


def uses(wallets: AnyKeyWallets) -> dict[int, tuple[int, ...]]:
    """Return what was collected, by the number of the key: left, spent, missed, largest."""
    return {number: tuple(rest) for number, _, *rest in wallets.collect()}


def number(*values: str) -> int:
    return KEYS.key_of(values)


@pytest.fixture
def wallets(rig: Rig) -> AnyKeyWallets:
    """Wallets of a limit of which this process has two tokens of each key."""
    wallets = rig.engine.new_key_wallets()
    wallets.name_keys(KEYS)
    wallets.until = FOREVER
    publish(rig, plan(keyed(wallets, part(2)), "tenant"))
    return wallets


def fill(wallets: AnyKeyWallets, tokens: int, tenants: Iterable[str] = ("a",)) -> None:
    """Give tenants tokens, after they were asked for."""
    numbers = {number(tenant) for tenant in tenants}
    for of, key, *_ in wallets.collect():
        if of in numbers:
            assert wallets.deposit(key, tokens)
    wallets.deadline = FOREVER


def test_each_key_has_a_part_of_its_own(rig: Rig, wallets: AnyKeyWallets) -> None:
    assert asked(rig, "a", "a", "a") == [True, True, False]
    assert asked(rig, "b", "b", "b") == [True, True, False]
    assert wallets.count == 2


def test_a_key_is_told_before_it_is_refused(rig: Rig, wallets: AnyKeyWallets) -> None:
    asked(rig, "a")
    assert uses(wallets) == {}  # half of its part is left
    asked(rig, "a")
    assert uses(wallets) == {number("a"): (0, 0, 0, 0)}
    asked(rig, "b")
    assert uses(wallets) == {}


def test_a_refusal_tells_what_was_missed(rig: Rig, wallets: AnyKeyWallets) -> None:
    refused = rig.engine.check("/", {"tenant": "a"}, 5)
    assert (refused.allowed, refused.reason, refused.retry_after_ns) == (False, "limited", 50 * MS)
    assert not rig.engine.check("/", {"tenant": "a"}, 7).allowed
    assert uses(wallets) == {number("a"): (0, 0, 12, 7)}
    assert uses(wallets) == {}
    rig.engine.check("/", {"tenant": "a"}, 3)
    assert uses(wallets) == {number("a"): (0, 0, 3, 3)}
    never = rig.engine.check("/", {"tenant": "a"}, 101)
    assert (never.reason, never.capacity) == ("never", 100)
    assert uses(wallets) == {}
    assert asked(rig, "a", "a") == [True, True]


def test_tokens_of_a_wallet_are_spent_once(rig: Rig, wallets: AnyKeyWallets) -> None:
    asked(rig, "a", "a", "b", "b")
    fill(wallets, 3)
    assert asked(rig, "a", "a", "a", "a") == [True, True, True, False]
    assert asked(rig, "b") == [False]
    assert uses(wallets)[number("a")] == (0, 3, 1, 1)
    left = rig.engine.check("/", {"tenant": "a"})
    assert (left.allowed, left.remaining) == (False, 0)
    fill(wallets, 9)
    assert [rig.engine.check("/", {"tenant": "a"}, 4).remaining for _ in range(2)] == [5, 1]


def test_the_own_part_is_used_first(rig: Rig, wallets: AnyKeyWallets) -> None:
    asked(rig, "a", "a")
    fill(wallets, 1)
    publish(rig, plan(keyed(wallets, part(2, per_ms=1)), "tenant"))
    rig.now += MS
    assert asked(rig, "a", "a", "a") == [True, True, False]


def test_a_cost_comes_from_one_place(rig: Rig, wallets: AnyKeyWallets) -> None:
    asked(rig, "a", cost=2)
    fill(wallets, 2)
    publish(rig, plan(keyed(wallets, part(2, per_ms=1)), "tenant"))
    rig.now += MS
    assert asked(rig, "a", cost=3) == [False]
    assert asked(rig, "a", cost=2) == [True]


def test_nothing_is_spent_from_the_deadlines_on(rig: Rig, wallets: AnyKeyWallets) -> None:
    wallets.until = 50
    assert asked(rig, "a", at=49) == [True]
    assert asked(rig, "a", "b", at=50) == [False, False]
    fill(wallets, 5, "ab")
    wallets.deadline = 60
    assert asked(rig, "a", "b", at=59) == [True, True]
    assert asked(rig, "a", "b", at=60) == [False, False]


def test_there_are_no_wallets_before_keys_have_numbers(rig: Rig) -> None:
    wallets = rig.engine.new_key_wallets()
    wallets.until = FOREVER
    publish(rig, plan(keyed(wallets, part(1)), "tenant"))
    assert asked(rig, "a", "a") == [True, False]
    assert wallets.count == 0
    wallets.name_keys(KEYS)
    asked(rig, "a")
    assert uses(wallets) == {number("a"): (0, 0, 1, 1)}


def test_numbers_of_keys_are_those_of_every_process(rig: Rig) -> None:
    wallets = rig.engine.new_key_wallets()
    wallets.name_keys(KEYS)
    publish(rig, plan(keyed(wallets, part(0)), "tenant", "route"))
    for attributes in (
        {"tenant": "a", "route": "x"}, {"tenant": "a"}, {"tenant": "b", "route": "ü\ud800"},
    ):  # fmt: skip
        rig.engine.check("/", attributes)
    known = {KEYS.key_of(of) for of in (("a", "x"), ("a", None), ("b", "ü\ud800"))}
    assert set(uses(wallets)) == known


def test_a_request_that_python_decides_gets_a_wallet_too(rig: Rig, wallets: AnyKeyWallets) -> None:
    """The first request after a change of what the limit counts per carries something over."""
    publish(rig, plan(keyed(wallets, part(0)), "tenant", "route"))
    rig.engine.check("/", {"tenant": "a", "route": "x"})
    rig.engine.check("/", {"tenant": "a", "route": "x"})
    assert set(uses(wallets)) == {KEYS.key_of(("a", "x"))}


def test_a_peek_spends_nothing(rig: Rig, wallets: AnyKeyWallets) -> None:
    asked(rig, "a", "a")
    fill(wallets, 1)
    assert asked(rig, "a", "a", cost=0) == [True, True]
    assert asked(rig, "a", "a") == [True, False]


def test_a_peek_asks_nobody_for_tokens(rig: Rig, wallets: AnyKeyWallets) -> None:
    asked(rig, "a", "a")
    wallets.collect()
    assert asked(rig, "a", cost=0) == [True]
    assert uses(wallets) == {}


def test_an_explanation_leaves_no_trace(rig: Rig, wallets: AnyKeyWallets) -> None:
    asked(rig, "a", "a")
    fill(wallets, 3)
    explained = rig.engine.explain("/", {"tenant": "a"}, 2)
    assert (explained.allowed, explained.remaining) == (True, 1)
    assert not rig.engine.explain("/", {"tenant": "a"}, 4).allowed
    assert not rig.engine.explain("/", {"tenant": "b"}, 3).allowed
    assert uses(wallets) == {}
    assert asked(rig, "a", cost=3) == [True]


def test_an_explanation_tells_what_the_own_part_has_left(rig: Rig, wallets: AnyKeyWallets) -> None:
    asked(rig, "a", "a")
    fill(wallets, 30)
    publish(rig, plan(keyed(wallets, part(2, per_ms=1)), "tenant"))
    rig.now += 2 * MS
    assert rig.engine.explain("/", {"tenant": "a"}).remaining == 1
    assert rig.engine.explain("/", {"tenant": "a"}, 3).remaining == 27


def test_an_explanation_of_a_limit_that_nobody_has_asked_for(rig: Rig) -> None:
    wallets = rig.engine.new_key_wallets()
    wallets.name_keys(KEYS)
    wallets.deadline = FOREVER
    publish(rig, plan(keyed(wallets, part(0)), "tenant"))
    explained = rig.engine.explain("/", {"tenant": "a"})
    assert (explained.allowed, explained.reason) == (False, "limited")


def test_a_peek_is_refused_when_the_part_belongs_to_somebody_else(
    rig: Rig, wallets: AnyKeyWallets
) -> None:
    wallets.until = 50
    assert asked(rig, "a", cost=0, at=49) == [True]
    assert asked(rig, "a", cost=0, at=50) == [False]
    wallets.deadline = FOREVER
    assert asked(rig, "a", cost=0, at=51) == [True]


def test_instants_beyond_all_deadlines(rig: Rig, wallets: AnyKeyWallets) -> None:
    assert asked(rig, "a", at=1 << 70) == [False]


def test_long_values_have_the_number_of_their_digest(rig: Rig, wallets: AnyKeyWallets) -> None:
    """The pure engine keeps no longer texts: a process with it would share another pool."""
    asked(rig, "x" * 300, "x" * 300)
    assert set(uses(wallets)) == {KEYS.key_of((stored("x" * 300),))}


def test_a_refusal_elsewhere_spends_nothing(rig: Rig, wallets: AnyKeyWallets) -> None:
    local = LimitPlan(
        scope="/", name="local", algorithm=TokenBucket(1, 10**9, 3), per=(), shadow=False
    )
    publish(rig, local, plan(keyed(wallets, part(2)), "tenant"))
    asked(rig, "a", "a")
    fill(wallets, 5)
    assert asked(rig, "a", "a") == [True, False]
    assert uses(wallets)[number("a")] == (4, 1, 0, 0)


def test_a_shadow_limit_refuses_nothing(rig: Rig, wallets: AnyKeyWallets) -> None:
    shadow = LimitPlan(
        scope="/", name="each", algorithm=keyed(wallets, part(1)), per=("tenant",), shadow=True
    )
    publish(rig, shadow)
    assert asked(rig, "a", "a") == [True, True]
    assert uses(wallets)[number("a")] == (0, 0, 1, 1)


def test_withdrawn_tokens_are_gone(rig: Rig, wallets: AnyKeyWallets) -> None:
    asked(rig, "a", "a")
    ((_, key, *_),) = wallets.collect()
    wallets.deposit(key, 5)
    wallets.deadline = FOREVER
    assert wallets.withdraw(key, 3) == 3
    assert asked(rig, "a", "a", "a") == [True, True, False]
    assert wallets.withdraw(key, 3) == 0
    assert wallets.close(key) == (0, 2)
    assert wallets.close(key) == (0, 0)
    assert wallets.deposit(key, 5) is False
    assert asked(rig, "a") == [False]


def test_a_closed_wallet_is_not_told(rig: Rig, wallets: AnyKeyWallets) -> None:
    asked(rig, "a", "a")
    wallets.close(rig_key(rig, "a"))
    assert uses(wallets) == {}


NAME = ("/", "each", False, (), ("tenant",), "requests")


def test_the_own_part_is_filled_out_of_the_wallet(rig: Rig, wallets: AnyKeyWallets) -> None:
    asked(rig, "a", "a")
    fill(wallets, 5)
    key = rig_key(rig, "a")
    assert rig.engine.keep_tokens(NAME, key) == 2
    assert wallets.total() == 3
    wallets.deadline = 0
    assert asked(rig, "a", "a", "a") == [True, True, False]
    assert uses(wallets) == {number("a"): (3, 0, 1, 1)}  # it spends no token of the wallet
    assert rig.engine.keep_tokens(NAME, key) == 0, "they are void"
    wallets.deadline = FOREVER
    assert rig.engine.keep_tokens(NAME, key) == 2
    assert rig.engine.keep_tokens(NAME, key) == 0
    assert wallets.total() == 1


@pytest.mark.parametrize("cost", [0, 1])
def test_a_bucket_that_owes_tokens_admits_nothing(
    rig: Rig, wallets: AnyKeyWallets, cost: int
) -> None:
    rig.engine.check("/", {"tenant": "a"}, 2).settle(7)
    fill(wallets, 9)
    assert asked(rig, "a", cost=cost) == [False]
    assert uses(wallets) == {number("a"): (9, 0, cost + 5, cost)}
    key = rig_key(rig, "a")
    assert rig.engine.keep_tokens(NAME, key, owed=True) == 5
    assert rig.engine.keep_tokens(NAME, key, owed=True) == 0
    assert wallets.total() == 4
    assert asked(rig, *"aaaaa", cost=cost)[3:] == [True, cost == 0]


def test_an_own_part_is_filled_with_whole_tokens(rig: Rig, wallets: AnyKeyWallets) -> None:
    publish(rig, plan(keyed(wallets, OwnPart(1, TICKS, 5 * TICKS // 2)), "tenant"))
    asked(rig, "a", "a")
    fill(wallets, 5)
    assert rig.engine.keep_tokens(NAME, rig_key(rig, "a")) == 2
    assert wallets.total() == 3
    assert asked(rig, "a", "a") == [True, True]


def test_an_own_part_is_never_more_than_full(rig: Rig, wallets: AnyKeyWallets) -> None:
    """Of 2.5 tokens, 0.8 are left; two more make 2.5, and not 2.8."""
    publish(
        rig, plan(keyed(wallets, OwnPart(3 * TICKS // 10 // MS, TICKS, 5 * TICKS // 2)), "tenant")
    )
    asked(rig, "a", "a")
    fill(wallets, 5)
    rig.now += MS
    assert rig.engine.keep_tokens(NAME, rig_key(rig, "a")) == 2
    wallets.deadline = 0
    assert asked(rig, "a", "a") == [True, True]
    rig.now += MS
    assert asked(rig, "a") == [False]


def test_where_no_part_is_filled(rig: Rig, wallets: AnyKeyWallets) -> None:
    """Of a key that nobody asked for, one with a full part, an empty wallet, or another limit."""
    asked(rig, "a", "a", "b")
    assert rig.engine.keep_tokens(NAME, rig_key(rig, "a")) == 0
    fill(wallets, 5)
    assert rig.engine.keep_tokens(NAME, rig_key(rig, "c")) == 0
    rig.now += 10**12
    publish(rig, plan(keyed(wallets, part(2, per_ms=1)), "tenant"))
    rig.now += 10**12
    assert rig.engine.keep_tokens(NAME, rig_key(rig, "a")) == 0
    assert rig.engine.keep_tokens((*NAME[:4], (), "requests"), rig_key(rig, "a")) == 0
    publish(rig, plan(TokenBucket(1, 10**9, 5), "tenant"))
    assert rig.engine.keep_tokens(NAME, rig_key(rig, "a")) == 0
    publish(rig, plan(keyed(wallets, part(2)), "tenant"))
    asked(rig, "a", "a")
    key = rig_key(rig, "a")
    publish(rig)
    assert rig.engine.keep_tokens(NAME, key) == 0
    assert wallets.total() == 5


def test_cleared_wallets_have_nothing(rig: Rig, wallets: AnyKeyWallets) -> None:
    asked(rig, "a", "a", "b", "b")
    fill(wallets, 5, "ab")
    wallets.clear()
    assert wallets.count == 0
    assert asked(rig, "a", "b") == [False, False]
    assert set(uses(wallets)) == {number("a"), number("b")}


def test_many_keys_have_wallets(rig: Rig, wallets: AnyKeyWallets) -> None:
    publish(rig, plan(keyed(wallets, part(0)), "tenant"))
    tenants = [f"tenant-{n}" for n in range(3_000)]
    assert not any(asked(rig, *tenants))
    fill(wallets, 1, tenants)
    for tenant in tenants[::2]:
        assert wallets.close(rig_key(rig, tenant)) == (1, 0)
    assert asked(rig, *tenants[1::2]) == [True] * 1_500
    assert not any(asked(rig, *tenants))


def test_wallets_are_bounded(rig: Rig) -> None:
    wallets = rig.engine.new_key_wallets()
    wallets.name_keys(KEYS)
    most = 1 << 17
    for key in range(1, most + 2):
        wallets.want(key)
    assert wallets.count == most
    assert not wallets.deposit(most + 1, 1)
    assert wallets.draw(most + 1, 1, 0, 0) == -1


def rig_key(rig: Rig, tenant: str) -> object:
    group = next(iter(rig.engine._groups.in_force()))  # type: ignore[attr-defined]
    return group.key({"tenant": tenant})


def test_a_part_that_grows_gives_no_tokens_to_keys_in_use(rig: Rig, wallets: AnyKeyWallets) -> None:
    asked(rig, "a")
    publish(rig, plan(keyed(wallets, part(4, per_ms=1)), "tenant"))
    assert asked(rig, "a", "a") == [True, False]
    assert asked(rig, *"bbbbb") == [True] * 4 + [False]
    rig.now += MS
    assert asked(rig, "a", "a") == [True, False]


def test_a_part_that_shrinks_takes_tokens_away(rig: Rig) -> None:
    wallets = rig.engine.new_key_wallets()
    wallets.until = FOREVER
    publish(rig, plan(keyed(wallets, part(8)), "tenant"))
    asked(rig, "a")
    publish(rig, plan(keyed(wallets, part(3)), "tenant"))
    assert asked(rig, *"bbbb") == [True, True, True, False]
    assert asked(rig, *"aaaa") == [True, True, True, False]


def refunding(rig: Rig, wallets: AnyKeyWallets, own: OwnPart) -> Refunds:
    """Publish a limit; return what the own parts have no room for."""
    refunds = Refunds()
    publish(rig, plan(KeyedBucket(100, 10 * MS, own, wallets, WAIT, refunds), "tenant"))
    return refunds


def charge(rig: Rig, cost: int, at: int) -> Decision:
    decision = rig.engine.check("/", {"tenant": "a"}, cost, at)
    assert decision.allowed
    return decision


def taken(refunds: Refunds) -> list[Refund]:
    return list(refunds.take().values())


def test_an_own_part_that_was_at_most_half_full_takes_a_refund(
    rig: Rig, wallets: AnyKeyWallets
) -> None:
    refunds = refunding(rig, wallets, part(8))
    first, second = charge(rig, 5, 10), charge(rig, 3, 20)
    rig.engine.settle(second, 1, 30)
    assert not refunds
    assert asked(rig, "a", "a", "a", at=30) == [True, True, False]
    rig.engine.settle(first, 1, 40)
    assert taken(refunds) == [Refund(4, 10)], "it was more than half full at that charge"
    assert asked(rig, "a", at=40) == [False]


def test_two_refunds_that_were_charged_before_are_not_both_for_the_own_part(
    rig: Rig, wallets: AnyKeyWallets
) -> None:
    refunds = refunding(rig, wallets, part(8))
    charge(rig, 5, 10)
    first, second = charge(rig, 1, 20), charge(rig, 2, 21)
    rig.engine.settle(first, 0, 30)
    rig.engine.settle(second, 0, 31)
    assert taken(refunds) == [Refund(2, 21)]
    rig.engine.settle(charge(rig, 1, 40), 0, 50)
    assert not refunds


def test_an_own_part_takes_at_most_half_of_it(rig: Rig, wallets: AnyKeyWallets) -> None:
    refunds = refunding(rig, wallets, part(8))
    charge(rig, 8, 10)
    fill(wallets, 20)
    decision = charge(rig, 18, 20)
    rig.engine.settle(decision, 0, 30)
    assert taken(refunds) == [Refund(14, 20)]


def test_an_own_part_that_was_filled_since_takes_no_refund(
    rig: Rig, wallets: AnyKeyWallets
) -> None:
    refunds = refunding(rig, wallets, part(8))
    charge(rig, 8, 10)
    fill(wallets, 20)
    decision = charge(rig, 2, 20)
    assert rig.engine.keep_tokens(NAME, rig_key(rig, "a"), 25) == 8
    charge(rig, 8, 26)
    rig.engine.settle(decision, 0, 30)
    assert taken(refunds) == [Refund(2, 20)]


def test_a_smaller_own_part_may_have_been_full_since(rig: Rig, wallets: AnyKeyWallets) -> None:
    refunding(rig, wallets, part(8))
    charge(rig, 5, 10)
    decision = charge(rig, 1, 20)
    rig.now = 25
    refunds = refunding(rig, wallets, part(2))
    charge(rig, 2, 26)
    rig.engine.settle(decision, 0, 30)
    assert taken(refunds) == [Refund(1, 20)]


@pytest.mark.parametrize("own", [1, 8])
def test_a_refund_takes_away_first_what_is_owed(rig: Rig, wallets: AnyKeyWallets, own: int) -> None:
    """The bucket owes tokens that it never had. Others must not get these."""
    refunds = refunding(rig, wallets, part(own))
    charge(rig, own, 10)
    fill(wallets, 20)
    decision = charge(rig, 1, 20)
    rig.engine.settle(decision, 90, 30)
    assert asked(rig, "a", at=31) == [False]
    rig.engine.settle(decision, 1, 40)
    assert not refunds
    assert asked(rig, "a", at=41) == [True]
    rig.engine.settle(decision, 11, 50)
    rig.engine.settle(decision, 0, 60)
    assert sum(refund.tokens for refund in taken(refunds)) == (1 if own == 1 else 0)


def test_requests_that_have_moved_refund_what_they_were_charged(rig: Rig) -> None:
    """Other buckets of the limit count them now, which have never been charged for them."""
    refunds = {}
    for scope in ("gold", ""):
        wallets = rig.engine.new_key_wallets()
        wallets.name_keys(KEYS)
        wallets.until = FOREVER
        found = refunds[scope] = Refunds()
        algorithm = KeyedBucket(100, 10 * MS, part(1), wallets, WAIT, found)
        overrides = (scope,) if scope else ()
        moved = LimitPlan(
            scope="/", name="each", algorithm=algorithm, per=("tenant",), overrides=overrides,
            shadow=False,
        )  # fmt: skip
        rig.generation += 1
        rig.engine.swap(PlanSet(rig.generation, {"/": ScopePlan("/", (moved,), True)}))
        if scope:
            rig.engine.check("/", {"tenant": "a"}, 7)
            fill(wallets, 20)
            decision = charge(rig, 7, 20)
    rig.engine.check("/", {"tenant": "a"}, 1)
    rig.engine.settle(decision, 3, 30)
    assert taken(refunds["gold"]) == [Refund(4, 20)]
    assert not refunds[""]


def test_a_part_of_one_token_takes_nothing(rig: Rig, wallets: AnyKeyWallets) -> None:
    refunds = refunding(rig, wallets, part(1))
    charge(rig, 1, 10)
    fill(wallets, 20)
    rig.engine.settle(charge(rig, 7, 20), 4, 30)
    assert taken(refunds) == [Refund(3, 20)]


def test_a_refund_of_a_key_whose_tokens_came_from_the_wallet_alone(
    rig: Rig, wallets: AnyKeyWallets
) -> None:
    refunds = refunding(rig, wallets, part(2))
    assert asked(rig, "a", cost=7) == [False]
    fill(wallets, 20)
    decision = charge(rig, 7, 20)
    rig.engine.settle(decision, 4, 30)
    rig.engine.settle(decision, 9, 40)
    rig.engine.settle(decision, 4, 50)
    assert taken(refunds) == [Refund(5, 20)], "three of the five were owed"


def test_parts_that_were_empty_at_an_instant_accrue_from_then_on(
    rig: Rig, wallets: AnyKeyWallets
) -> None:
    rig.now = 10 * MS
    own = part(4, per_ms=1)
    publish(rig, plan(KeyedBucket(100, 10 * MS, own, wallets, WAIT, since=10 * MS), "tenant"))
    assert asked(rig, "a") == [False]
    assert asked(rig, "b", "b", "b", at=12 * MS) == [True, True, False]
    assert asked(rig, *"ccccc", at=30 * MS) == [True] * 4 + [False]


def test_parts_that_were_empty_and_accrue_nothing_stay_empty(
    rig: Rig, wallets: AnyKeyWallets
) -> None:
    publish(rig, plan(KeyedBucket(100, 10 * MS, part(4), wallets, WAIT, since=0), "tenant"))
    assert asked(rig, "a", at=1_000 * MS) == [False]


def test_a_part_in_other_ticks_keeps_the_tokens(rig: Rig, wallets: AnyKeyWallets) -> None:
    publish(rig, plan(keyed(wallets, part(4)), "tenant"))
    asked(rig, "a", cost=2)
    publish(rig, plan(keyed(wallets, OwnPart(0, 3 * TICKS, 12 * TICKS)), "tenant"))
    assert asked(rig, "a", "a", "a") == [True, True, False]


def test_other_wallets_count_from_then_on(rig: Rig, wallets: AnyKeyWallets) -> None:
    asked(rig, "a", "a")
    fill(wallets, 5)
    others = rig.engine.new_key_wallets()
    others.name_keys(KEYS)
    publish(rig, plan(keyed(others, part(2)), "tenant"))
    assert asked(rig, "a", "b") == [False, False]
    assert set(uses(others)) == {number("a"), number("b")}
    assert wallets.total() == 5


def test_a_cost_that_was_larger_is_charged_to_the_own_part(
    rig: Rig, wallets: AnyKeyWallets
) -> None:
    publish(rig, plan(keyed(wallets, part(4)), "tenant"))
    rig.engine.settle(rig.engine.check("/", {"tenant": "a"}), 3)
    assert asked(rig, "a", "a") == [True, False]
    rig.engine.settle(rig.engine.check("/", {"tenant": "b"}), 1_000)
    (of,) = rig.engine.usage().limits
    assert of.lowest == 0


def test_what_a_decision_says_of_its_bucket(rig: Rig, wallets: AnyKeyWallets) -> None:
    publish(rig, plan(keyed(wallets, part(4)), "tenant"))
    first = rig.engine.check("/", {"tenant": "a"}, 3)
    assert (first.capacity, first.remaining, first.reset_after_ns) == (100, 1, 30 * MS)
    refused = rig.engine.check("/", {"tenant": "a"}, 2)
    assert (refused.allowed, refused.remaining, refused.reset_after_ns) == (False, 1, 30 * MS)
    wallets.until = 50
    refused = rig.engine.check("/", {"tenant": "a"}, now=50)
    assert (refused.allowed, refused.remaining) == (False, 0)


def test_a_limit_without_a_rate_admits_nothing(rig: Rig) -> None:
    wallets = rig.engine.new_key_wallets()
    wallets.name_keys(KEYS)
    wallets.until = FOREVER
    publish(rig, plan(KeyedBucket(100, 0, part(2), wallets, WAIT), "tenant"))
    refused = rig.engine.check("/", {"tenant": "a"})
    assert (refused.allowed, refused.reason, wallets.count) == (False, "never", 0)


def test_a_forked_child_has_nothing_of_its_parent(rig: Rig, wallets: AnyKeyWallets) -> None:
    asked(rig, "a", "a")
    fill(wallets, 5)
    rig.engine.after_fork_in_child()
    assert asked(rig, "a", "b") == [False, False]


def test_a_bucket_that_became_one_of_the_cluster_keeps_what_is_missing(rig: Rig) -> None:
    publish(rig, plan(TokenBucket(1, 10**9, 4), "tenant"))
    asked(rig, *"aaa")
    wallets = rig.engine.new_key_wallets()
    wallets.until = FOREVER
    publish(rig, plan(keyed(wallets, part(4)), "tenant"))
    assert asked(rig, *"aa") == [True, False]
    publish(rig, plan(TokenBucket(1, 10**9, 4), "tenant"))
    assert asked(rig, *"a") == [False]


def test_rare_keys_do_not_stay(rig: Rig, wallets: AnyKeyWallets) -> None:
    publish(rig, plan(keyed(wallets, part(2, per_ms=1)), "tenant"))
    for n in range(2_000):
        rig.now += 2 * MS
        assert asked(rig, f"tenant-{n}") == [True]
    assert rig.engine.usage().buckets < 100
