"""Concurrency: a number of slots at the same time, freed by releases, also after publications."""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.engine_rig import ENGINES, Rig
from conformance.test_engine_threads import EACH, THREADS, together
from engine.plans import verdict
from ratectl.engine.algorithms.concurrency import Concurrency
from soak import scaled

if TYPE_CHECKING:
    from ratectl.engine.decision import Decision

Policies = dict[str, dict[str, Any]]

SECOND = 10**9
MINUTE = 60 * SECOND


def slots(most: int = 3, name: str = "l", /, **fields: Any) -> dict[str, Any]:
    return {"limits": {name: {"algorithm": "concurrency", "max": most, **fields}}}


def other(**fields: Any) -> dict[str, Any]:
    return {"limits": {"l": fields}}


def take(rig: Rig, cost: int = 1, at: int | None = None, scope: str = "/", **who: str) -> Decision:
    decision = rig.engine.check(scope, who, cost, now=at)
    assert decision.allowed
    return decision


# -- one bucket


def test_at_most_max_until_a_release(rig: Rig) -> None:
    rig.write({"/": slots()})
    held = [take(rig) for _ in range(3)]
    assert [of.remaining for of in held] == [2, 1, 0]
    assert [(of.capacity, of.retry_after_ns) for of in held] == [(3, 0)] * 3
    refused = rig.ask()
    assert refused == (False, "limited", 1, "l", "/", 3, 0, None, None, "requests")
    held[1].release()
    assert rig.ask().allowed
    assert not rig.ask().allowed


def test_a_release_counts_once(rig: Rig) -> None:
    rig.write({"/": slots()})
    held = [take(rig) for _ in range(3)]
    for _ in range(5):
        held[0].release()
    assert rig.left() == 1


def test_context_manager_releases_after_any_end(rig: Rig) -> None:
    rig.write({"/": slots()})
    with rig.engine.check("/", {}, 2) as decision:
        assert decision.allowed
        assert rig.left() == 1
        with rig.engine.check("/", {}, 2) as refused:
            assert not refused
        assert rig.left() == 1, "a refusal holds no slot to release"
    assert rig.left() == 3
    with pytest.raises(KeyError), rig.engine.check("/", {}):
        raise KeyError
    assert rig.left() == 3


def test_cost_takes_that_many_slots(rig: Rig) -> None:
    rig.write({"/": slots(5)})
    two, three = take(rig, 2), take(rig, 3)
    assert rig.ask(1).reason == "limited"
    two.release()
    assert [rig.ask(3).reason, rig.left()] == ["limited", 2]
    three.release()
    assert rig.left() == 5


def test_more_than_max_never_passes(rig: Rig) -> None:
    rig.write({"/": slots()})
    assert rig.ask(4) == (False, "never", 1, "l", "/", 3, 3, None, 0, "requests")
    rig.write({"/": slots(0)})
    assert rig.ask(1).reason == "never"
    assert rig.ask(0).allowed


def test_a_peek_holds_nothing(rig: Rig) -> None:
    rig.write({"/": slots(per="tenant")})
    one = take(rig, tenant="a")
    peeks = [rig.engine.check("/", {"tenant": "a"}, 0) for _ in range(9)]
    for peek in peeks:
        peek.release()
    assert rig.left(tenant="a") == 2
    one.release()
    assert rig.left(tenant="a") == 3


def test_a_slot_that_is_never_released_is_free_after_hold(rig: Rig) -> None:
    rig.write({"/": slots(hold="10s")})
    leaked = [take(rig, at=at * SECOND) for at in (0, 1, 2)]
    for at, left in ((10, 1), (11, 2), (12, 3)):
        assert rig.left(at * SECOND - 1) == left - 1
        assert rig.left(at * SECOND) == left
    held = take(rig, 3, 12 * SECOND)
    for of in leaked:
        of.release()  # too late: other requests have the slots now
    assert rig.left(12 * SECOND) == 0
    held.release()
    assert rig.left(12 * SECOND) == 3


def test_slots_end_in_order_though_the_clock_steps_back(rig: Rig) -> None:
    rig.write({"/": slots(hold="10s")})
    take(rig, at=100 * SECOND)
    take(rig, at=50 * SECOND)
    assert rig.left(60 * SECOND) == 1
    assert rig.left(110 * SECOND - 1) == 1
    assert rig.left(110 * SECOND) == 3


def test_each_key_has_its_own_slots(rig: Rig) -> None:
    rig.write({"/": slots(per="tenant")})
    held = take(rig, 3, tenant="a")
    assert [rig.left(tenant="b"), rig.left()] == [3, 3]
    take(rig, 2, tenant="b")
    held.release()
    assert [rig.left(tenant="a"), rig.left(tenant="b")] == [3, 1]


def test_reset_is_known_only_when_nothing_is_held(rig: Rig) -> None:
    rig.write({"/": slots()})
    assert rig.ask(0).reset_after_ns == 0
    with take(rig) as decision:
        assert decision.reset_after_ns is None
        assert decision.reset_after is None
    assert rig.ask(0).reset_after_ns == 0


def test_a_refusal_shows_no_wait(rig: Rig) -> None:
    rig.write({"/": slots(1)})
    take(rig)
    refused = rig.engine.check("/", {})
    assert (refused.retry_after, refused.retry_after_ns) == (None, None)
    assert repr(refused) == ("<Decision refused (limited) by l@/, 0 of 1 left, generation 1>")


@pytest.mark.parametrize(("most", "hold"), [(-1, 1), (1, 0), (1, -5)])
def test_invalid_parameters_are_refused(most: int, hold: int) -> None:
    with pytest.raises(ValueError, match="not negative"):
        Concurrency(most, hold)


# -- beside other limits

TOKENS = {"rate": "1/h", "burst": 2}
FAST = {"rate": "1/s", "burst": 1}


def both(**fields: dict[str, Any]) -> Policies:
    return {"/": {"limits": fields}}


def test_refusal_by_another_limit_holds_no_slot(rig: Rig) -> None:
    rig.write(both(l=slots(9)["limits"]["l"], t=TOKENS))
    asked = [rig.engine.check("/", {}) for _ in range(5)]
    assert [of.allowed for of in asked] == [True, True, False, False, False]
    for of in asked[2:]:
        of.release()
    rig.write({"/": slots(9)})
    assert rig.left() == 7


def test_refusal_without_free_slot_charges_nothing_else(rig: Rig) -> None:
    rig.write(both(l=slots(1)["limits"]["l"], t=TOKENS))
    with take(rig):
        assert [rig.ask().limit for _ in range(5)] == ["l"] * 5
    assert rig.ask().allowed
    assert rig.ask().limit == "l", "t was charged for a refused request"


def test_a_release_gives_back_slots_and_no_tokens(rig: Rig) -> None:
    rig.write(both(l=slots(9)["limits"]["l"], t=TOKENS))
    for _ in range(2):
        take(rig).release()
    assert rig.ask().limit == "t"


@pytest.mark.parametrize("order", [("l", "t"), ("t", "l")])
def test_never_beats_unknown_beats_the_longest_wait(rig: Rig, order: tuple[str, str]) -> None:
    limits = {"l": slots(1)["limits"]["l"], "t": FAST}
    rig.write(both(**{name: limits[name] for name in order}))
    take(rig)
    got = rig.ask()
    assert (got.limit, got.reason, got.retry_after_ns) == ("l", "limited", None)
    limits["t"] = {"rate": "0/s"}
    rig.write(both(**{name: limits[name] for name in order}))
    got = rig.ask()
    assert (got.limit, got.reason) == ("t", "never")


def test_concurrency_budget_is_shared_by_the_subtree(rig: Rig) -> None:
    fleet = {"budgets": {"b": {"algorithm": "concurrency", "max": 3}}}
    rig.write({"/": fleet, "/a": {}, "/d": slots(1)})
    held = [take(rig, scope=scope) for scope in ("/", "/a/x", "/d")]
    for scope in ("/", "/a", "/d"):
        assert not rig.ask(scope=scope).allowed
    assert rig.ask(scope="/a")[3:5] == ("b", "/")
    held[2].release()
    assert rig.ask(scope="/d").allowed
    assert rig.usage("b", budget=True).refused >= 2


def test_shadow_slots_are_held_and_refuse_nothing(rig: Rig) -> None:
    rig.write({"/": slots(2, mode="shadow")})
    held = [rig.engine.check("/", {}) for _ in range(4)]
    assert [of.reason for of in held] == ["ok", "ok", "shadow", "shadow"]
    usage = rig.usage()
    assert (usage.allowed, usage.shadow_refused, usage.refused) == (2, 2, 0)
    rig.write({"/": slots(2)})
    assert rig.left() == 0
    held[3].release()
    assert rig.left() == 0, "it held no slot here"
    held[0].release()
    assert rig.left() == 1


def test_usage_counts_requests_and_the_fullest_moment(rig: Rig) -> None:
    rig.write({"/": slots(3, per="tenant")})
    held = take(rig, 2, tenant="a")
    rig.ask(2, tenant="a")
    rig.ask(9, tenant="a")
    usage = rig.usage()
    assert (usage.allowed, usage.refused, usage.never) == (1, 1, 1)
    assert (usage.most, usage.lowest, usage.keys) == (3, 1, 1)
    held.release()
    assert rig.usage().lowest is None


# -- the table


def test_a_bucket_that_holds_something_is_not_evicted(rig: Rig) -> None:
    rig.bound(4)
    rig.write({"/": slots(2, per="tenant")})
    held = take(rig, tenant="a")
    for number in range(50):
        take(rig, tenant=f"t{number}").release()
    assert rig.left(tenant="a") == 1
    assert rig.engine.usage().overflowed == 0
    held.release()
    for number in range(50):
        take(rig, tenant=f"u{number}").release()
    assert rig.usage().keys <= 4
    held.release()
    assert rig.left(tenant="a") == 2


def test_a_full_table_never_admits_more_and_forgets_no_release(rig: Rig) -> None:
    rig.bound(3)
    rig.write({"/": slots(2, per="tenant")})
    passed: Counter[str] = Counter()
    held = []
    for number in range(600):
        decision = rig.engine.check("/", {"tenant": f"t{number % 300}"})
        passed[f"t{number % 300}"] += decision.allowed
        held.append(decision)
    assert max(passed.values()) <= 2
    assert rig.engine.usage().overflowed > 0
    for decision in held:
        decision.release()
    assert {rig.left(tenant=f"t{number}") for number in range(300)} == {2}


# -- threads and forks


@pytest.mark.usefixtures("eager_threads")
def test_threads_never_hold_more_than_max(rig: Rig) -> None:
    rig.write({"/": slots(2, per="tenant"), "/a": {}})
    inside, worst, lock = [0], [0], threading.Lock()

    def step(by: int) -> None:
        with lock:
            inside[0] += by
            worst[0] = max(worst[0], inside[0])

    def work(number: int) -> None:
        for _ in range(EACH):
            with rig.engine.check("/a" if number % 2 else "/a/b", {"tenant": "x"}) as decision:
                if decision:
                    step(1)
                    step(-1)
            decision.release()

    together(work)
    assert worst[0] <= 2
    usage = rig.usage(scope="/a")
    assert usage.allowed + usage.refused == THREADS * EACH
    assert rig.left(scope="/a", tenant="x") == 2


@pytest.mark.usefixtures("eager_threads")
def test_threads_that_release_one_decision_free_it_once(rig: Rig) -> None:
    rig.write({"/": slots(EACH)})
    held = [take(rig) for _ in range(EACH)]

    def work(number: int) -> None:
        for decision in held[::-1] if number % 2 else held:
            decision.release()

    together(work)
    assert rig.left() == EACH


def test_after_a_fork_slots_can_be_released(rig: Rig) -> None:
    rig.write({"/": slots()})
    held = take(rig, 2)
    for child in (False, True):
        fork = rig.engine.standstill()
        next(fork)
        fork.close()
        if child:
            rig.engine.after_fork_in_child()
    held.release()
    assert rig.left() == 3


# -- beside a naive model: a list of slots for each key


class Naive:
    """Naive model: slots as [cost, end]; a change of parameters ends them within the new hold."""

    def __init__(self) -> None:
        self.most, self.hold = 0, 0
        self.held: dict[str, list[list[int]]] = defaultdict(list)

    def publish(self, most: int, hold: int, now: int) -> None:
        if (most, hold) != (self.most, self.hold):
            for of in self.held.values():
                for slot in of:
                    slot[1] = min(slot[1], now + hold)
        self.most, self.hold = most, hold

    def ask(self, tenant: str, cost: int, now: int) -> tuple[str, list[int] | None]:
        of = self.held[tenant] = [slot for slot in self.held[tenant] if slot[1] > now]
        if cost > self.most:
            return "never", None
        if sum(slot[0] for slot in of) + cost > self.most:
            return "limited", None
        slot = [cost, now + self.hold]
        of.append(slot)
        return "ok", slot


steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from("xyz"), st.sampled_from((1, 1, 2, 3, 0))),
        st.tuples(st.just("release"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from((0, 1, 2, 5)), st.just(0)),
        st.tuples(st.just("publish"), st.integers(0, 4), st.sampled_from((1, 3, 10))),
    ),
    max_size=60,
)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("bound", [9, 100_000], ids=["small table", "large table"])
@given(done=steps)
def test_decisions_match_a_naive_list_of_slots(
    name: str, bound: int, done: list[tuple[Any, ...]]
) -> None:
    rig, naive = Rig(ENGINES[name]), Naive()
    rig.bound(bound)
    rig.write({"/": slots(3, per="tenant", hold="3s")})
    naive.publish(3, 3 * SECOND, 0)
    held: list[tuple[Decision, list[int] | None]] = []
    for what, one, two in done:
        if what == "ask":
            decision = rig.engine.check("/", {"tenant": one}, two)
            expected, slot = naive.ask(one, two, rig.now)
            assert decision.reason == expected
            held.append((decision, slot))
        elif what == "release" and held:
            decision, slot = held[one % len(held)]
            decision.release()
            if slot is not None:
                slot[1] = -1
        elif what == "wait":
            rig.now += one * SECOND
        elif what == "publish":
            rig.write({"/": slots(one, per="tenant", hold=f"{two}s")})
            naive.publish(one, two * SECOND, rig.now)


SHAPES: list[Policies] = [
    {"/": slots(3)},
    {"/": slots(3), "/a": {}},
    {"/": slots(3), "/a": {}, "/a/b": {}},
    {"/": slots(3), "/a": slots(3, mode="shadow")},
    {"/": slots(3), "/a": slots(3, per="tenant")},
    {"/": slots(3, per="tenant"), "/a": {}},
]


@pytest.mark.parametrize("seed", range(scaled(20, 400)))
def test_publications_never_exceed_max_and_lose_no_slot(rig: Rig, seed: int) -> None:
    """One tenant sends requests at one scope. Scopes are declared and keys change."""
    chance = random.Random(seed)
    small = seed % 2 == 0
    rig.bound(3 if small else 1_000)
    shape = 0
    rig.write(SHAPES[shape])
    held: list[Decision] = []
    for _ in range(200):
        act = chance.random()
        if act < 0.1:
            shape = chance.choice((shape, min(shape + 1, len(SHAPES) - 1)))
            rig.write(SHAPES[shape])
        elif act < 0.6:
            decision = rig.engine.check("/a/b", {"tenant": "x"})
            if decision:
                held.append(decision)
        elif held:
            held.pop(chance.randrange(len(held))).release()
        if shape != 3:  # a shadow limit admits all
            assert len(held) <= 3 or shape > 3
    chance.shuffle(held)
    for decision in held:
        decision.release()
    assert rig.left(scope="/a/b", tenant="x") == 3
    assert rig.left(scope="/", tenant="x") == 3


def test_small_and_large_tables_decide_alike(rig: Rig) -> None:
    small, large = rig.another(max_buckets=40), rig.another()
    chance = random.Random(5)
    held: list[tuple[Decision, Decision]] = []
    for step in range(3_000):
        if step % 300 == 0:
            policies = {"/": slots(2 + step % 7 // 2, per="tenant", hold=f"{5 + step % 11}s")}
            for engine in (small, large):
                rig.engine = engine
                rig.write(policies)
        rig.now += chance.choice((0, 0, SECOND // 10))
        tenant = f"{step // 100}-{chance.randrange(5)}"
        one, two = (engine.check("/", {"tenant": tenant}) for engine in (small, large))
        assert verdict(one)._replace(generation=0) == verdict(two)._replace(generation=0)
        held.append((one, two))
        for _ in range(chance.choice((0, 1, 1, 2))):
            for of in held.pop(chance.randrange(len(held))) if held else ():
                of.release()
    assert small.usage().overflowed == 0
    assert small.usage().buckets <= 40 < large.usage().buckets + 40
