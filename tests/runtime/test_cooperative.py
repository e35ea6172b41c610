"""Cooperative work: it rests between slices, has the same result, and blocks no decisions."""

from __future__ import annotations

import gc
import threading
import weakref
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from policy.trees import tree
from ratectl.agent.enforcement import Enforcement
from ratectl.agent.wall_clock import WallClock
from ratectl.compiler.activation import activated, verified
from ratectl.engine.pure import PureEngine
from ratectl.errors import BundleError
from ratectl.policy.bundle import digest, encode_policies
from ratectl.runtime.cooperative import (
    SLICE_SECONDS,
    Kept,
    Pacer,
    breathe,
    cooperative,
    paced,
    release,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLD = [{"name": "gold", "match": {"tier": "gold"}, "limits": {"x": {"rate": "9/s"}}}]


def declared(scopes: int = 30, rate: str = "3/s") -> dict[str, dict[str, Any]]:
    """Return policies of many scopes, some with overrides."""
    root = {"limits": {"x": {"rate": rate, "per": "tenant"}}, "budgets": {"all": {"rate": "9/s"}}}
    below = {
        f"/s{at}": {"limits": {"y": {"rate": rate}}, **({"overrides": GOLD} if at % 3 else {})}
        for at in range(scopes)
    }
    return {"/": root, **below}


class Time:
    """Clock that advances by a step with each reading, and records calls of ``sleep``."""

    def __init__(self, step: float = SLICE_SECONDS) -> None:
        self.now = 0.0
        self.step = step
        self.rests: list[float] = []

    def clock(self) -> float:
        self.now += self.step
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.rests.append(self.now)

    @property
    def pacer(self) -> Pacer:
        return Pacer(self.clock, self.sleep)


@pytest.fixture(autouse=True)
def _release_leftovers() -> None:
    """Release objects left by engines of other tests: releasing them would rest too."""
    release()


def test_work_rests_after_each_slice() -> None:
    done: list[int] = []
    rests: list[int] = []
    with cooperative(Pacer(Time(SLICE_SECONDS / 4).clock, lambda _: rests.append(len(done)))):
        for item in paced(range(14)):
            done.append(item)
    assert done == list(range(14))
    assert rests == [4, 8, 12]


def test_work_does_not_rest_before_the_end_of_a_slice() -> None:
    time = Time(0.0)
    with cooperative(time.pacer):
        for _ in paced(range(1_000)):
            breathe()
    assert time.rests == []


def test_paced_returns_its_argument_outside_of_cooperative_work() -> None:
    items = [1, 2]
    assert paced(items) is items
    breathe()
    with cooperative(Time().pacer):
        assert paced(items) is not items
        seen: list[object] = []
        thread = threading.Thread(target=lambda: seen.append(paced(items)))
        thread.start()
        thread.join()
        assert seen == [items]
        assert seen[0] is items, "cooperative work of one thread does not affect another"
    assert paced(items) is items


def test_nested_block_keeps_the_outer_pacer() -> None:
    time, inner = Time(), Time()
    with cooperative(time.pacer):
        with cooperative(inner.pacer):
            list(paced(range(3)))
        list(paced(range(2)))
    assert len(time.rests) == 5
    assert inner.rests == []


def test_collector_runs_only_during_rests() -> None:
    running: list[bool] = []
    assert gc.isenabled()
    with cooperative(Pacer(Time().clock, lambda _: running.append(gc.isenabled()))):
        assert not gc.isenabled()
        for _ in paced(range(3)):
            assert not gc.isenabled()
    assert running == [True] * 3
    assert gc.isenabled()


def test_collector_runs_again_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), cooperative(Time().pacer):
        list(paced(1 // at for at in (1, 0)))
    assert gc.isenabled()
    assert paced(()) == ()


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_disabled_collector_stays_disabled() -> None:
    running: list[bool] = []
    with cooperative(Pacer(Time().clock, lambda _: running.append(gc.isenabled()))):
        list(paced(range(2)))
    assert running == [False] * 2
    assert not gc.isenabled()


def test_release_rests_too() -> None:
    time = Time()
    held: list[list[object]] = [[1, 2, 3], [], [4]]
    keyed = {"a": 1, "b": 2}
    with cooperative(time.pacer):
        release(*held, keyed)
    assert held == [[], [], []]
    assert keyed == {}
    assert len(time.rests) == 1 + 4 + 2
    release(held)
    assert held == []


def test_kept_objects_are_released_one_by_one_after_the_last_reference() -> None:
    class Thing:
        pass

    gone: list[int] = []
    things = {name: Thing() for name in range(5)}
    for name, thing in things.items():
        weakref.finalize(thing, gone.append, name)
    one = other = Kept(things, {})
    del things, thing
    del one
    release()
    assert gone == []
    del other
    assert gone == []
    rests: list[int] = []
    with cooperative(Pacer(Time().clock, lambda _: rests.append(len(gone)))):
        release()
    assert sorted(gone) == list(range(5))
    assert rests[-5:] == [1, 2, 3, 4, 5]


# -- a reload


def bundle(**options: Any) -> bytes:
    return encode_policies(tree(declared(**options)))


def test_every_step_of_a_reload_rests() -> None:
    """If every slice is over at once, each step rests at least once for each policy."""
    data = bundle(scopes=40)
    time = Time()
    with cooperative(time.pacer):
        policies = verified(data, digest(data))
        decoded = len(time.rests)
        made = activated(policies, 1)
        compiled = len(time.rests)
        parts = made.parts()
        del made
        release(*parts)
    assert decoded >= 2 * 41  # located and read
    assert compiled - decoded >= 2 * 41  # counted and compiled
    assert len(time.rests) - compiled >= 41


def test_reload_has_the_same_result_with_and_without_rests() -> None:
    data = bundle()
    with cooperative(Time().pacer):
        policies = verified(data, digest(data))
        rested = activated(policies, 1).plans
        assert encode_policies(policies) == data
    plans = activated(verified(data, digest(data)), 1).plans
    assert list(rested.scopes) == list(plans.scopes)
    for scope, plan in plans.scopes.items():
        other = rested.scopes[scope]
        assert [each.identity for each in other.limits] == [each.identity for each in plan.limits]
    one, two = PureEngine(lambda: 0), PureEngine(lambda: 0)
    one.swap(rested, 0)
    two.swap(plans, 0)
    for scope in plans.scopes:
        for tier in ("gold", "other"):
            request = (scope, {"tenant": "t", "tier": tier}, 1, 0)
            assert str(one.check(*request)) == str(two.check(*request))


def test_no_rest_while_the_engine_is_locked() -> None:
    """Otherwise decisions would have to wait until the rest is over."""
    engine = PureEngine(lambda: 0)
    enforcement = Enforcement(engine, WallClock())
    rests = 0

    def sleep(_: float) -> None:
        nonlocal rests
        rests += 1
        assert not engine._turns.turn & 1
        decision = engine.check(f"/s{rests % 30}", {"tenant": f"{rests % 7}", "tier": "gold"})
        assert decision.reason in ("ok", "limited", "no_policy")

    for generation in range(1, 5):
        data = bundle(rate=f"{generation}/s")
        with cooperative(Pacer(Time().clock, sleep)):
            release(*enforcement.enforce(verified(data, digest(data)), generation))
    assert rests > 4 * 3 * 31


UNUSABLE = {"limits": {"nope": {"burst": 5}}}


@pytest.mark.parametrize("at", ["/a", "/s5/x", "/z"])
def test_invalid_generation_is_refused_completely(at: str) -> None:
    engine = PureEngine(lambda: 0)
    enforcement = Enforcement(engine, WallClock())
    enforcement.enforce(tree(declared()), 1)
    plan = engine.plan("/s5")
    data = encode_policies(tree({**declared(rate="7/s"), at: UNUSABLE}))
    time = Time()
    with (
        pytest.raises(BundleError, match=f"{at}: limit 'nope' has no rate"),
        cooperative(time.pacer),
    ):
        enforcement.enforce(verified(data, digest(data)), 2)
    assert time.rests
    assert engine.generation == 1
    assert engine.plan("/s5") is plan
    assert gc.isenabled()
    assert paced(()) == ()


def test_enforce_returns_the_replaced_plans_in_parts() -> None:
    engine = PureEngine(lambda: 0)
    enforcement = Enforcement(engine, WallClock())
    assert not any(map(any, enforcement.enforce(tree(declared()), 1)))
    before = tree(declared())
    plans = [engine.plan(scope) for scope in before.policies]
    replaced = [item for part in enforcement.enforce(before, 2) for item in part]
    assert all(any(item is plan for item in replaced) for plan in plans)


def test_generations_that_buckets_migrate_from_are_released_one_object_at_a_time() -> None:
    """Lineages of overrides refer to earlier override sets, and so to their whole generations."""
    engine = PureEngine(lambda: 0)
    enforcement = Enforcement(engine, WallClock())
    gone: list[str] = []
    at_rests = [0]

    def publish(generation: int) -> None:
        policies = tree(declared(rate=f"{generation}/s"))
        if generation == 2:  # the lineage keeps the first generation
            for policy in policies.policies.values():
                weakref.finalize(policy, gone.append, policy.scope)
        with cooperative(Pacer(Time().clock, lambda _: at_rests.append(len(gone)))):
            replaced = enforcement.enforce(policies, generation)
            replaced.append(list(policies.policies.values()))
            del policies
            release(*replaced)

    for generation in range(1, 15):
        publish(generation)
        for scope in ("/s1", "/s2", "/s1/below"):
            engine.check(scope, {"tenant": "t", "tier": "gold"})
        assert len(gone) in (0, 31)
    assert len(gone) == 31
    assert max(after - before for before, after in pairwise(at_rests)) == 1


def test_swap_releases_its_own_objects_step_by_step_and_no_others() -> None:
    engine = PureEngine(lambda: 0)
    one, two = (activated(tree(declared(rate=f"{rate}/s")), rate).plans for rate in (1, 2))
    engine.swap(one)
    for scope in one.scopes:
        engine.check(scope, {"tenant": "t", "tier": "gold"})
    before = dict(one.scopes)
    time = Time()
    with cooperative(time.pacer):
        engine.swap(two)
    assert one.scopes == before, "the caller may still read the old plans"
    used = {limit.identity for plan in before.values() for limit in plan.limits}
    # Each scope and its plan: located, then remembered. Each limit: its buckets.
    assert len(time.rests) >= 2 * len(before) + len(used)


def test_containers_are_released_before_their_contents() -> None:
    """A container keeps its contents alive, so releasing it last would free all of them at once."""
    first, *contents = activated(tree(declared()), 1).parts()
    assert [list(container.values()) for container in first] == contents  # type: ignore[attr-defined]
    assert len(contents) > 1, "a tree with overrides keeps the parts that its plans share"
    plain = activated(tree({"/": {"limits": {"x": {"rate": "1/s"}}}}), 1).parts()
    assert [len(part) for part in plain] == [1, 1]
