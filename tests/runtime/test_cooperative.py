"""Work in slices: when it rests, that nothing else changes, and who gets on meanwhile."""

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


def said(scopes: int = 30, rate: str = "3/s") -> dict[str, dict[str, Any]]:
    """Many scopes, some with overrides."""
    root = {"limits": {"x": {"rate": rate, "per": "tenant"}}, "budgets": {"all": {"rate": "9/s"}}}
    below = {
        f"/s{at}": {"limits": {"y": {"rate": rate}}, **({"overrides": GOLD} if at % 3 else {})}
        for at in range(scopes)
    }
    return {"/": root, **below}


class Time:
    """A clock that goes on by so much with each reading, and what was asked of ``sleep``."""

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
def _nothing_left() -> None:
    """What engines of other tests have left behind takes its rests as well."""
    release()


def test_it_rests_after_each_slice_of_work() -> None:
    done: list[int] = []
    rests: list[int] = []
    with cooperative(Pacer(Time(SLICE_SECONDS / 4).clock, lambda _: rests.append(len(done)))):
        for item in paced(range(14)):
            done.append(item)
    assert done == list(range(14))
    assert rests == [4, 8, 12]


def test_it_rests_no_sooner() -> None:
    time = Time(0.0)
    with cooperative(time.pacer):
        for _ in paced(range(1_000)):
            breathe()
    assert time.rests == []


def test_elsewhere_it_is_the_very_iterable() -> None:
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
        assert seen[0] is items, "another thread is not cooperative for it"
    assert paced(items) is items


def test_a_block_in_a_block_changes_nothing() -> None:
    time, inner = Time(), Time()
    with cooperative(time.pacer):
        with cooperative(inner.pacer):
            list(paced(range(3)))
        list(paced(range(2)))
    assert len(time.rests) == 5
    assert inner.rests == []


def test_the_collector_runs_while_others_do() -> None:
    running: list[bool] = []
    assert gc.isenabled()
    with cooperative(Pacer(Time().clock, lambda _: running.append(gc.isenabled()))):
        assert not gc.isenabled()
        for _ in paced(range(3)):
            assert not gc.isenabled()
    assert running == [True] * 3
    assert gc.isenabled()


def test_the_collector_runs_again_after_an_error() -> None:
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
def test_a_collector_that_did_not_run_is_left_alone() -> None:
    running: list[bool] = []
    with cooperative(Pacer(Time().clock, lambda _: running.append(gc.isenabled()))):
        list(paced(range(2)))
    assert running == [False] * 2
    assert not gc.isenabled()


def test_letting_go_rests_as_well() -> None:
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


def test_what_is_kept_goes_bit_by_bit_once_its_last_holder_has_gone() -> None:
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
    return encode_policies(tree(said(**options)))


def test_every_step_of_a_reload_rests() -> None:
    """At the least once for each policy, where it is always time."""
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
    assert decoded >= 2 * 41  # found, read
    assert compiled - decoded >= 2 * 41  # counted, compiled
    assert len(time.rests) - compiled >= 41


def test_a_reload_that_rests_ends_as_one_that_does_not() -> None:
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


def test_nobody_rests_while_checks_wait() -> None:
    """Not with the engine's lock in hand: whoever decides would have to wait for the rest."""
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
def test_a_generation_that_fails_is_refused_whole(at: str) -> None:
    engine = PureEngine(lambda: 0)
    enforcement = Enforcement(engine, WallClock())
    enforcement.enforce(tree(said()), 1)
    plan = engine.plan("/s5")
    data = encode_policies(tree({**said(rate="7/s"), at: UNUSABLE}))
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


def test_what_is_no_longer_in_force_comes_back_in_parts() -> None:
    engine = PureEngine(lambda: 0)
    enforcement = Enforcement(engine, WallClock())
    assert enforcement.enforce(tree(said()), 1) == [[{}], []]
    before = tree(said())
    plans = [engine.plan(scope) for scope in before.policies]
    found = [each for part in enforcement.enforce(before, 2) for each in part]
    assert all(any(each is plan for each in found) for plan in plans)


def test_generations_that_buckets_go_on_from_are_let_go_bit_by_bit() -> None:
    """A line of overrides remembers choices of before, and so all that they were made from."""
    engine = PureEngine(lambda: 0)
    enforcement = Enforcement(engine, WallClock())
    gone: list[str] = []
    at_rests = [0]

    def publish(generation: int) -> None:
        policies = tree(said(rate=f"{generation}/s"))
        if generation == 2:  # the first is what the line began with
            for policy in policies.policies.values():
                weakref.finalize(policy, gone.append, policy.scope)
        with cooperative(Pacer(Time().clock, lambda _: at_rests.append(len(gone)))):
            spent = enforcement.enforce(policies, generation)
            spent.append(list(policies.policies.values()))
            del policies
            release(*spent)

    for generation in range(1, 15):
        publish(generation)
        for scope in ("/s1", "/s2", "/s1/below"):
            engine.check(scope, {"tenant": "t", "tier": "gold"})
        assert len(gone) in (0, 31)
    assert len(gone) == 31
    assert max(after - before for before, after in pairwise(at_rests)) == 1


def test_a_swap_lets_go_of_its_own_only_and_bit_by_bit() -> None:
    engine = PureEngine(lambda: 0)
    one, two = (activated(tree(said(rate=f"{rate}/s")), rate).plans for rate in (1, 2))
    engine.swap(one)
    for scope in one.scopes:
        engine.check(scope, {"tenant": "t", "tier": "gold"})
    before = dict(one.scopes)
    time = Time()
    with cooperative(time.pacer):
        engine.swap(two)
    assert one.scopes == before, "its caller may go on reading it"
    used = {limit.identity for plan in before.values() for limit in plan.limits}
    # Each scope and its plan, found and remembered; each limit's buckets.
    assert len(time.rests) >= 2 * len(before) + len(used)


def test_containers_go_before_what_is_in_them() -> None:
    """While one lives, nothing is freed: it would all be at its end."""
    first, *contents = activated(tree(said()), 1).parts()
    assert [list(container.values()) for container in first] == contents  # type: ignore[attr-defined]
    assert len(contents) > 1, "a tree with overrides keeps what it was compiled from"
    plain = activated(tree({"/": {"limits": {"x": {"rate": "1/s"}}}}), 1).parts()
    assert [len(part) for part in plain] == [1, 1]
