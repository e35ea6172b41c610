"""Compilation of policies to the plans of an engine."""

from __future__ import annotations

from datetime import time
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given

from engine.engines import each_engine
from policy.trees import tree, written
from ratectl.compiler.plans import compile_tree
from ratectl.engine.algorithms.calendar import CalendarWindow
from ratectl.engine.algorithms.concurrency import Concurrency
from ratectl.engine.algorithms.quota import Quota, WallOffset
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from ratectl.engine.algorithms.token_bucket import TokenBucket
from ratectl.errors import BundleError
from ratectl.policy.resolution.resolver import resolve
from ratectl.policy.validation.tree import check_tree

if TYPE_CHECKING:
    from engine.engines import MakeEngine
    from ratectl.engine.api import PlanSet
    from ratectl.engine.limit_plan import LimitPlan

S = 10**9

Written = dict[str, dict[str, Any]]


def compiled(said: Written) -> PlanSet:
    return compile_tree(tree(said), 7)


def one(**fields: Any) -> dict[str, Any]:
    return {"limits": {"spike": fields}}


def spike(said: Written, scope: str = "/") -> LimitPlan:
    plan = compiled(said).find(scope)
    assert plan is not None
    limit = plan.limit("spike")
    assert limit is not None
    return limit


def test_plan_has_the_values_of_the_policy() -> None:
    limit = spike({"/": one(rate="100/s", burst=200, per=["tenant", "route"], mode="shadow")})
    assert limit.identity == ("/", "spike", False)
    assert (limit.per, limit.shadow) == (("tenant", "route"), True)
    assert limit.algorithm == TokenBucket(100, S, 200)
    assert compiled({}).generation == 7


@pytest.mark.parametrize(
    ("fields", "algorithm"),
    [
        ({"rate": "3/s"}, TokenBucket(3, S, 3)),
        ({"rate": "0.5/s"}, TokenBucket(1, 2 * S, 1)),
        ({"rate": "90/min"}, TokenBucket(90, 60 * S, 2)),
        ({"rate": "50/30s", "burst": 0}, TokenBucket(50, 30 * S, 0)),
        ({"rate": "0/s", "burst": 5}, TokenBucket(0, S, 5)),
        ({"rate": "500_000/day", "burst": 7}, TokenBucket(500_000, 86_400 * S, 7)),
        ({"rate": "90/min", "algorithm": "sliding-window"}, SlidingWindow(90, 60 * S)),
        (
            {"rate": "90/min", "algorithm": "sliding-window", "precision": 128},
            SlidingWindow(90, 60 * S, cells=128),
        ),
        ({"rate": "9/2h", "algorithm": "sliding-window"}, SlidingWindow(9, 7_200 * S)),
        ({"rate": "0/s", "algorithm": "sliding-window"}, SlidingWindow(0, S, blocked=True)),
    ],
)
def test_rates_become_algorithms(fields: dict[str, Any], algorithm: TokenBucket) -> None:
    assert spike({"/": one(**fields)}).algorithm == algorithm


def test_caps_clip() -> None:
    said = {
        "/": one(rate="100/s", burst=500),
        "/a": {"caps": {"spike": {"rate": "4/s", "burst": 9}}},
    }
    assert spike(said).algorithm == TokenBucket(100, S, 500)
    assert spike(said, "/a").algorithm == TokenBucket(4, S, 9)
    said["/"] = one(rate="600/min", algorithm="sliding-window")
    assert spike(said, "/a").algorithm == SlidingWindow(9, 60 * S)


@pytest.mark.parametrize("algorithm", ["token-bucket", "sliding-window"])
def test_unlimited_under_a_fractional_cap_has_the_caps_pace(algorithm: str) -> None:
    said = {
        "/": {**one(rate="unlimited", algorithm=algorithm), "caps": {"spike": {"rate": "0.5/s"}}}
    }
    expected = TokenBucket(1, 2 * S, 1) if algorithm == "token-bucket" else SlidingWindow(1, 2 * S)
    assert spike(said).algorithm == expected


def test_off_and_unlimited_limits_are_not_in_plans() -> None:
    said = {"/": {"limits": {"a": {"rate": "1/s", "mode": "off"}, "b": {"rate": "unlimited"},
                             "c": {"rate": "1/s", "mode": "shadow"}}}}  # fmt: skip
    plan = compiled(said).find("/")
    assert plan is not None
    assert [limit.name for limit in plan.limits] == ["c"]


def test_every_declared_scope_has_a_plan_and_no_other() -> None:
    plans = compiled({"/": one(rate="1/s"), "/a/b": {}, "/c": {"unset": ["spike"]}})
    assert set(plans.scopes) == {"/", "/a/b", "/c"}
    found = [plans.find(scope) for scope in ("/a/b/c/d", "/a", "/x", "/", "/c")]
    assert [plan.scope for plan in found if plan] == ["/a/b", "/", "/", "/", "/c"]
    assert spike({"/": one(rate="1/s"), "/a/b": {}}, "/a/b").identity == ("/a/b", "spike", False)
    assert compiled({"/a": {}}).find("/b") is None
    assert found[4] is not None
    assert found[4].limits == ()


def test_plan_has_on_error() -> None:
    plans = compiled({"/": {}, "/a": {"on_error": "deny"}, "/a/b": {}})
    assert [plans.scopes[scope].allow_on_error for scope in ("/", "/a", "/a/b")] == [
        True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"/": one(per=["tenant"])}, "/: limit 'spike' has no rate"),
        ({"/": one(rate="5/month")}, "/: a month has no fixed length"),
        ({"/": one(rate="0.5/s", algorithm="sliding-window")}, "counts whole requests"),
        (
            {"/a": one(rate="5/s", algorithm="sliding-window", burst=1)},
            "/a: a sliding-window takes",
        ),
        (
            {"/a": {"budgets": {"fleet": {"per": "tenant"}}}},
            "/a: budget 'fleet' has no rate, and a budget does not take",
        ),
    ],
    ids=range(5),
)
def test_a_limit_that_cannot_be_used_is_an_error(said: Written, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        compiled(said)


def test_equal_parameters_share_one_object_across_generations() -> None:
    said = {"/": one(rate="1/s"), "/a": one(burst=1), "/b": one(rate="2/s")}
    first, second = compiled(said), compiled(said)
    objects = [plans.scopes[scope].limits[0].algorithm
               for plans in (first, second) for scope in ("/", "/a", "/b")]  # fmt: skip
    assert objects[0] is objects[1] is objects[3] is objects[4]
    assert objects[2] is objects[5] is not objects[0]


@each_engine
@given(written)
def test_engines_run_the_resolved_limits(make: MakeEngine, said: Written) -> None:
    """Each limit in force is in the plan, and a first request finds its bucket full."""
    policies = tree(said)
    try:
        plans = compile_tree(policies, 1)
    except BundleError:
        return
    engine = make(lambda: 0)
    engine.swap(plans)
    for scope in said:
        resolved = resolve(policies, scope)
        assert resolved is not None
        told = [((scope, name, False), limit) for name, limit in resolved.limits.items()]
        told += [((owner, limit.name, True), limit) for owner, limit in resolved.budgets]
        running = {
            identity: limit for identity, limit in told
            if limit.mode != "off" and not limit.unlimited
        }  # fmt: skip
        assert [plan.identity for plan in plans.scopes[scope].limits] == list(running)
        for plan in plans.scopes[scope].limits:
            limit = running[plan.identity]
            most = limit.burst if limit.algorithm == "token-bucket" else limit.max
            if most is None:
                assert limit.rate is not None
                most = limit.rate.numerator
            assert plan.algorithm.capacity == most
            assert (plan.per, plan.shadow) == (limit.per, limit.mode == "shadow")
        blocked = [
            limit
            for limit in running.values()
            if limit.mode == "enforce" and limit.rate and not limit.rate.numerator
        ]
        assert engine.check(scope, {}, 0).allowed is not bool(blocked)


def test_a_quota_becomes_a_calendars_windows() -> None:
    offset = WallOffset(5)
    said = {"/": one(rate="9/week", algorithm="quota", resets="Tue 06:30 Europe/Berlin")}
    plan = compile_tree(tree(said), 1, offset).scopes["/"].limits[0]
    week = CalendarWindow("week", ZoneInfo("Europe/Berlin"), time(6, 30), weekday=1)
    assert plan.algorithm == Quota(9, week, offset)
    said["/"] = one(rate="0/month", algorithm="quota", resets="31 00:00")
    month = CalendarWindow("month", ZoneInfo("UTC"), day=31)
    assert spike(said).algorithm == Quota(0, month, offset, blocked=True)


@pytest.mark.parametrize("cap", ["40/s", "5/2day", "0.5/day", "5/month", "0.5/month"])
@pytest.mark.parametrize("algorithm", ["token-bucket", "sliding-window", "quota"])
@each_engine
def test_agent_clips_to_deeper_caps(make: MakeEngine, cap: str, algorithm: str) -> None:
    """``validate`` reports no error here, so compilation must not fail."""
    said = {
        "/": one(rate="unlimited", algorithm=algorithm),
        "/a": {"caps": {"spike": {"rate": cap}}},
    }
    assert [found for found in check_tree(tree(said)) if found.severity == "error"] == []
    engine = make(lambda: 0)
    engine.swap(compiled({**said, "/a": {}}))
    engine.swap(compiled(said))
    engine.swap(compiled({**said, "/a/b": {}}))
    assert engine.check("/a/b", {}, 10**9).reason == "never"


def test_slots_become_concurrency() -> None:
    said = {"/": one(algorithm="concurrency", max=7), "/a": one(hold="1.5min"), "/b": {}}
    assert spike(said).algorithm == Concurrency(7, 60 * S)
    assert spike(said, "/a").algorithm == Concurrency(7, 90 * S)
    assert spike(said, "/b").algorithm is spike(said).algorithm
    said["/b"] = {"caps": {"spike": {"burst": 3}}}
    assert spike(said, "/b").algorithm == Concurrency(3, 60 * S)


def test_budget_is_one_plan_for_its_subtree() -> None:
    fleet = {"budgets": {"fleet": {"rate": "9/s", "per": "tenant", "mode": "shadow"}}}
    plans = compiled({"/": {}, "/a": {**fleet, **one(rate="1/s")}, "/a/b": fleet, "/a/c/d": {}})
    assert plans.scopes["/"].limits == ()
    shared = plans.scopes["/a"].budget("/a", "fleet")
    assert shared is not None
    assert (shared.identity, shared.per, shared.shadow) == (
        ("/a", "fleet", True), ("tenant",), True,
    )  # fmt: skip
    assert [plan.identity for plan in plans.scopes["/a/b"].limits] == [
        ("/a/b", "spike", False), ("/a", "fleet", True), ("/a/b", "fleet", True),
    ]  # fmt: skip
    for scope in ("/a/b", "/a/c/d"):
        assert plans.scopes[scope].budget("/a", "fleet") is shared
        assert plans.scopes[scope].limit("fleet") is None
    assert plans.scopes["/a/c/d"].budget("/a/c/d", "fleet") is None


def test_override_above_an_unset_does_not_apply_below_it() -> None:
    gold = {"name": "gold", "match": {"tier": "gold"}, "limits": {"hourly": {"rate": "9/h"}}}
    said = {
        "/": {"limits": {"hourly": {"rate": "5/h"}}, "overrides": [gold]},
        "/a": {"unset": ["hourly"]},
        "/a/b": {"limits": {"hourly": {"rate": "1/h"}}},
        "/a/c": {"overrides": [{**gold, "name": "again"}]},
    }
    plans = compile_tree(tree(said), 1)
    kinds = {
        scope: [type(limit).__name__ for limit in plan.limits]
        for scope, plan in plans.scopes.items()
    }
    assert kinds == {"/": ["LimitChoice"], "/a": [], "/a/b": ["LimitPlan"], "/a/c": ["LimitChoice"]}
