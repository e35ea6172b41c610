"""Thousands of overrides above many scopes: equal data is shared, swaps resolve nothing."""

from __future__ import annotations

import gc
import weakref
from operator import le
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from engine.engines import each_engine
from policy.trees import limits
from ratectl.compiler.plans import compile_tree
from ratectl.engine.conditional_limit import LimitChoice
from ratectl.engine.pure import PureEngine
from ratectl.errors import BundleError
from ratectl.policy.language.model import Policy, PolicyTree

if TYPE_CHECKING:
    from engine.engines import MakeEngine
    from ratectl.engine.api import PlanSet

SCOPES = [f"/s{at}" for at in range(6)]


def tenants(count: int, most: int, **slow: Any) -> PolicyTree:
    """Return an override for each tenant at the root; the last one sets ``slow``."""
    overrides = [
        {"name": f"t{at}", "match": {"tenant": f"t{at}"}, "limits": {"l": {"burst": most}}}
        for at in range(count)
    ]
    if slow:
        overrides[-1]["limits"] = {"l": slow}
    root = {
        "scope": "/",
        "limits": {"l": {"rate": "100/s", "per": "tenant"}},
        "overrides": overrides,
    }
    policies = {"/": root, **{scope: {"scope": scope} for scope in SCOPES}}
    return PolicyTree({scope: Policy.model_validate(each) for scope, each in policies.items()})


def choices(tree: PolicyTree) -> list[LimitChoice]:
    return choices_of(compile_tree(tree, 1))


def choices_of(plans: PlanSet) -> list[LimitChoice]:
    limits = [each for plan in plans.scopes.values() for each in plan.limits]
    return [each for each in limits if isinstance(each, LimitChoice)]


def test_scopes_share_tables_that_grow_with_the_overrides() -> None:
    found = choices(tenants(30, 5))
    assert len(found) == 1 + len(SCOPES)
    assert len({id(each.numbering) for each in found}) == 1
    assert len({id(each.conditions) for each in found}) == 1
    assert len({id(each.shape) for each in found}) == 1
    assert len({id(each.content) for each in found}) == 1


def test_nothing_is_resolved_while_checks_wait() -> None:
    """Tested with the pure engine only: the lock of the compiled engine cannot be read."""
    engine = PureEngine(lambda: 0)
    engine.swap(compile_tree(tenants(30, 5), 1), 0)
    for scope in SCOPES:
        assert engine.check(scope, {"tenant": "t7"}, 5, 0)
    after = compile_tree(tenants(30, 9), 2)
    waiting: list[bool] = []
    for scope in SCOPES:
        choice = after.scopes[scope].limits[0]
        assert isinstance(choice, LimitChoice)
        make = choice._make

        def made(mask: int, make: Any = make) -> Any:
            waiting.append(bool(engine._turns.turn & 1))
            return make(mask)

        choice._make = made
    engine.swap(after, 1)
    assert engine.check("/s1", {"tenant": "t7"}, 0, 1).capacity == 9
    assert waiting == [False] * len(SCOPES)


@each_engine
def test_changes_are_kept_until_the_slowest_override_is_full(make: MakeEngine) -> None:
    """Changes are kept until the last of thousands of overrides fills its bucket."""
    engine = make(lambda: 0)
    engine.swap(compile_tree(tenants(400, 5, rate="1/week", burst=1), 1), 0)
    engine.check("/s0", {"tenant": "nobody"}, 1, 0)
    engine.swap(compile_tree(tenants(400, 5, rate="1/week", burst=9), 2), 1)
    engine.usage()
    hour = 3_600 * 10**9
    engine.swap(compile_tree(tenants(400, 6, rate="1/week", burst=9), 3), hour)
    assert engine.check("/s0", {"tenant": "t399"}, 0, hour + 1).remaining == 1


@given(st.lists(limits, min_size=2, max_size=4), st.integers(0, 15))
def test_extent_bounds_the_refill_time_of_every_bucket(
    drawn_limits: list[dict[str, Any]], cap: int
) -> None:
    overrides = [
        {"name": f"o{at}", "match": {f"a{at}": "x"}, "limits": {"l": each}}
        for at, each in enumerate(drawn_limits[1:])
    ]
    policy = {
        "scope": "/",
        "limits": {"l": {"rate": "7/min", **drawn_limits[0]}},
        "overrides": overrides,
    }
    if cap:
        policy["caps"] = {"l": {"rate": f"{cap}/h", "burst": cap}}
    tree = PolicyTree({"/": Policy.model_validate(policy)})
    try:
        found = choices(tree)
    except BundleError:
        return
    for choice in found:
        for mask in range(1 << len(overrides)):
            plan = choice.plan(mask)
            if plan is not None:
                extent = plan.algorithm.extent()
                assert all(map(le, extent, choice.extent))


@each_engine
def test_unused_override_migrates_through_each_change(make: MakeEngine) -> None:
    """Tokens cut by a small burst are not given back when the burst grows again."""
    engine = make(lambda: 0)
    for generation, burst in enumerate((50, 5, 60), 1):
        tree = tenants(3, 9, rate="1/week", burst=burst)
        engine.swap(compile_tree(tree, generation), generation)
        engine.check("/s0", {"tenant": "nobody"}, 1, generation)
    assert engine.check("/s0", {"tenant": "t2"}, 0, 4).remaining == 5


@each_engine
def test_equal_generations_share_memory(make: MakeEngine) -> None:
    """A family that follows changes drops the choices that it no longer needs, and all trees."""
    engine = make(lambda: 0)
    trees, numberings = [], []
    for generation, burst in enumerate((5, 6, 6), 1):
        tree = tenants(3, burst)
        trees.append(weakref.ref(tree.policies["/"]))
        plans = compile_tree(tree, generation)
        numberings.append(choices_of(plans)[0].numbering)
        engine.swap(plans, generation)
        engine.check("/s0", {"tenant": "t1"}, 1, generation)
        del tree, plans
    gc.collect()
    assert [each() is not None for each in trees] == [False, False, False]
    used = [
        any(isinstance(one, LimitChoice) for one in gc.get_referrers(each)) for each in numberings
    ]
    assert used == [True, False, True]
