"""Budgets: one bucket for a whole subtree, charged together with the limits, all or nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.engine_rig import ENGINES, Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

Policies = dict[str, dict[str, Any]]

SECOND = 10**9
HOUR = 3_600 * SECOND


def bucket(burst: int, **fields: Any) -> dict[str, Any]:
    """Return a bucket that refills one token an hour: at one instant, it admits its burst."""
    return {"rate": "1/h", "burst": burst, **fields}


def budget(name: str = "b", /, **fields: Any) -> dict[str, Any]:
    return {"budgets": {name: fields}}


def limit(name: str = "l", /, **fields: Any) -> dict[str, Any]:
    return {"limits": {name: fields}}


THREE: Policies = {
    "/": budget("top", **bucket(6)),
    "/a": budget("mid", **bucket(4)),
    "/a/b": {**budget("low", **bucket(3)), **limit("own", **bucket(2))},
}


def test_each_level_refuses_in_turn(rig: Rig) -> None:
    rig.write(THREE)
    assert [rig.ask(scope="/a/b").allowed for _ in range(3)] == [True, True, False]
    assert rig.ask(scope="/a/b")[1:5] == ("limited", 1, "own", "/a/b")
    assert [rig.ask(scope="/a").allowed for _ in range(3)] == [True, True, False]
    assert rig.ask(scope="/a")[3:8] == ("mid", "/a", 4, 0, HOUR)
    assert [rig.ask(scope="/").allowed for _ in range(3)] == [True, True, False]
    assert rig.ask(scope="/")[3:8] == ("top", "/", 6, 0, HOUR)


def test_the_tightest_of_limits_and_budgets_is_reported(rig: Rig) -> None:
    rig.write(THREE)
    got = rig.ask(scope="/a/b")
    assert (got.limit, got.scope, got.remaining, got.capacity) == ("own", "/a/b", 1, 2)
    rig.ask(3, scope="/a")
    got = rig.ask(0, scope="/a/b")
    assert (got.limit, got.scope, got.remaining, got.capacity) == ("mid", "/a", 0, 4)


def test_refusal_at_the_top_charges_nothing_below(rig: Rig) -> None:
    rig.write(THREE)
    rig.ask(6, scope="/")
    for _ in range(5):
        got = rig.ask(scope="/a/b")
        assert (got.allowed, got.limit) == (False, "top")
    rig.write({**THREE, "/": {}})
    assert rig.left(scope="/a") == 4
    assert rig.ask(2, scope="/a/b").remaining == 0


def test_refusal_below_charges_nothing_above(rig: Rig) -> None:
    rig.write(THREE)
    rig.ask(2, scope="/a/b")
    for _ in range(5):
        assert rig.ask(scope="/a/b").limit == "own"
    usage = rig.usage("top", budget=True)
    assert (usage.allowed, usage.refused, usage.lowest) == (1, 0, 4)
    assert [rig.left(scope=scope) for scope in ("/a", "/")] == [2, 4]


def test_refusal_in_the_middle_charges_nothing_above_and_below(rig: Rig) -> None:
    rig.write(THREE)
    rig.ask(4, scope="/a")
    for _ in range(5):
        assert rig.ask(scope="/a/b").limit == "mid"
    assert rig.left(scope="/") == 2
    rig.write({**THREE, "/a": {}})
    assert rig.left(scope="/a/b") == 2


def test_budget_is_shared_by_declared_and_undeclared_scopes_below(rig: Rig) -> None:
    rig.write({"/": {}, "/a": budget(**bucket(9)), "/a/b": {}, "/a/b/c/d": {}})
    scopes = ("/a", "/a/b", "/a/x", "/a/b/c", "/a/b/c/d", "/a/b/c/d/e", "/a/x/y")
    assert [rig.ask(scope=scope).remaining for scope in scopes] == [8, 7, 6, 5, 4, 3, 2]
    assert {rig.ask(0, scope=scope).scope for scope in scopes} == {"/a"}
    for scope in ("/", "/ab", "/x/a"):
        assert rig.ask(scope=scope)[3:7] == (None, "/", None, None)
    assert rig.engine.usage().buckets == 1


def test_one_name_at_two_scopes_is_two_buckets(rig: Rig) -> None:
    rig.write({"/": budget(**bucket(9)), "/a": budget(**bucket(5)), "/d": budget(**bucket(5))})
    assert rig.ask(5, scope="/a").allowed
    assert rig.ask(1, scope="/a").scope == "/a"
    assert [rig.left(scope=scope) for scope in ("/", "/d")] == [4, 4]
    assert rig.ask(4, scope="/d").allowed
    assert rig.ask(1, scope="/d").scope == "/"
    refused = [rig.usage("b", scope, budget=True).refused for scope in ("/", "/a", "/d")]
    assert refused == [1, 1, 0]


def test_a_limit_and_a_budget_of_one_name_are_two_buckets(rig: Rig) -> None:
    policies: Policies = {"/": {**limit("x", **bucket(5)), **budget("x", **bucket(7))}, "/a": {}}
    rig.write(policies)
    rig.ask(5, scope="/")
    assert rig.ask(scope="/").capacity == 5
    assert rig.ask(2, scope="/a").allowed
    assert rig.ask(scope="/a").capacity == 7
    assert rig.usage("x").allowed == 1
    assert rig.usage("x", budget=True).allowed == 2
    rig.write({"/": limit("x", **bucket(5)), "/a": {}})
    assert [rig.left(scope="/"), rig.left(scope="/a")] == [0, 3]
    rig.write({"/": budget("x", **bucket(7)), "/a": {}})
    assert rig.left() == 0, "the budget has its own seven back, that were missing"
    rig.write({"/": limit("x", **bucket(5)), "/a": {}})
    assert [rig.left(scope="/"), rig.left(scope="/a")] == [0, 3]


def test_budget_per_key(rig: Rig) -> None:
    rig.write({"/": budget(**bucket(3, per="tenant")), "/a": {}, "/d": {}})
    assert rig.ask(2, scope="/a", tenant="x").allowed
    assert rig.ask(1, scope="/d", tenant="x").allowed
    assert not rig.ask(1, scope="/d/e", tenant="x").allowed
    assert [rig.left(scope="/a", tenant="y"), rig.left(scope="/a")] == [3, 3]


def test_budgets_of_different_algorithms(rig: Rig) -> None:
    rig.write({
        "/": {"budgets": {"week": {"algorithm": "quota", "rate": "9/week"},
                          "hour": {"algorithm": "sliding-window", "rate": "4/h"}}},
        "/a": {},
    })  # fmt: skip
    assert rig.ask(4, scope="/a").allowed
    assert rig.ask(1, scope="/").limit == "hour"
    assert rig.ask(4, 2 * HOUR, scope="/").allowed
    got = rig.ask(2, 4 * HOUR, scope="/a")
    assert (got.limit, got.retry_after_ns) == ("week", 92 * HOUR)  # 1970 began on a Thursday
    assert rig.left(4 * HOUR) == 1


# -- mode


def test_shadow_budget_refuses_nothing_and_charges_what_it_would_admit(rig: Rig) -> None:
    rig.write({"/": budget(**bucket(2, mode="shadow")), "/a": limit(**bucket(4))})
    reasons = [rig.ask(scope="/a").reason for _ in range(5)]
    assert reasons == ["ok", "ok", "shadow", "shadow", "limited"]
    usage = rig.usage("b", budget=True)
    assert (usage.allowed, usage.refused, usage.shadow_refused, usage.shadow) == (2, 0, 3, True)
    rig.write({"/": budget(**bucket(2)), "/a": {}})
    assert not rig.ask(scope="/a").allowed


def test_off_and_unlimited_budgets_have_no_effect(rig: Rig) -> None:
    rig.write({"/": {"budgets": {"b": bucket(1, mode="off"), "c": {"rate": "unlimited"}}}})
    assert [rig.ask()[3:7] for _ in range(3)] == [(None, "/", None, None)] * 3


def test_a_rate_of_zero_stops_the_whole_subtree(rig: Rig) -> None:
    rig.write({"/": limit(**bucket(5)), "/a": budget(rate="0/s"), "/a/b": {}})
    assert rig.ask(scope="/a/b/c")[:2] == (False, "never")
    assert rig.ask(scope="/").remaining == 4


# -- reload


def test_change_of_a_budget_keeps_its_bucket(rig: Rig) -> None:
    policies: Policies = {"/": budget(**bucket(5)), "/a": {}, "/d": limit(**bucket(9))}
    rig.write(policies)
    rig.ask(3, scope="/a")
    for burst, left in ((9, 2), (1, 1), (5, 1)):
        rig.write({**policies, "/": budget(**bucket(burst))})
        assert [rig.left(scope=scope) for scope in ("/", "/a")] == [left] * 2
        of = "b" if left < burst else "l"
        assert rig.ask(0, scope="/d").limit == of, "the one that is less full"
    rig.write({"/": budget(algorithm="quota", rate="9/day")})
    assert rig.left(scope="/a") == 6, "three were missing"


def test_growth_gives_capacity_and_not_tokens_to_keys_never_seen(rig: Rig) -> None:
    rig.write({"/": budget(**bucket(5, per="tenant")), "/a": {}})
    rig.write({"/": budget(**bucket(50, per="tenant")), "/a": {}})
    assert rig.left(scope="/a", tenant="x") == 5
    assert rig.left(10 * HOUR, scope="/a", tenant="x") == 15


@pytest.mark.parametrize("gone", [{}, budget(**bucket(5, mode="off"))], ids=["removed", "off"])
def test_budget_removed_and_declared_again_misses_what_it_admitted(
    rig: Rig, gone: dict[str, Any]
) -> None:
    rig.write({"/": budget(**bucket(5)), "/a": {}})
    rig.ask(4, scope="/a")
    rig.write({"/": gone, "/a": {}})
    assert rig.ask(9, scope="/a").allowed
    rig.now += HOUR
    rig.write({"/": budget(**bucket(5)), "/a": {}})
    assert rig.left(scope="/a") == 2, "one has come back at the last rate"
    assert rig.usage("b", budget=True).allowed == 1


def test_newly_declared_scopes_do_not_change_a_budget(rig: Rig) -> None:
    of = budget(**bucket(9))
    rig.write({"/a": of})
    rig.ask(1, scope="/a/b/c")
    trees: list[Policies] = [
        {"/a": of, "/a/b": {}},
        {"/a": of, "/a/b": {}, "/a/b/c": {}},
        {"/": {}, "/a": of, "/a/b/c": limit(**bucket(99))},
        {"/a": of},
    ]
    for number, policies in enumerate(trees, start=2):
        rig.write(policies)
        assert rig.usage("b", "/a", budget=True).keys == 1, "the bucket does not start again"
        assert rig.ask(1, scope="/a/b/c").remaining == 9 - number
    assert rig.usage("b", "/a", budget=True).allowed == 5
    assert rig.left(scope="/a") == 4


def test_budget_declared_below_another_starts_full(rig: Rig) -> None:
    rig.write({"/": budget(**bucket(9))})
    rig.ask(5, scope="/a")
    rig.write({"/": budget(**bucket(9)), "/a": budget(**bucket(3))})
    assert rig.ask(0, scope="/a")[3:7] == ("b", "/", 9, 4), "four of nine are less than all of 3"
    rig.ask(2, scope="/a")
    assert rig.ask(0, scope="/a")[3:7] == ("b", "/", 9, 2)
    rig.ask(1, scope="/a")
    assert rig.ask(0, scope="/a")[3:7] == ("b", "/a", 3, 0)


def test_changed_per_starts_from_the_counted_state(rig: Rig) -> None:
    rig.write({"/": budget(**bucket(5)), "/a": {}})
    rig.ask(4, scope="/a")
    rig.write({"/": budget(**bucket(5, per="tenant")), "/a": {}})
    assert [rig.left(scope="/a", tenant=tenant) for tenant in "xy"] == [1, 1]


# -- usage


def test_request_counts_once_in_each_budget(rig: Rig) -> None:
    rig.write(THREE)
    for scope in ("/", "/a", "/a/b", "/a/b/c", "/a/x"):
        rig.ask(scope=scope)
    rig.ask(99, scope="/a/b")
    counts = {(of.scope, of.limit, of.budget): of for of in rig.engine.usage().limits}
    assert {of: (c.allowed, c.refused, c.never) for of, c in counts.items()} == {
        ("/", "top", True): (5, 0, 1),
        ("/a", "mid", True): (4, 0, 1),
        ("/a/b", "low", True): (2, 0, 1),
        ("/a/b", "own", False): (2, 0, 1),
    }
    assert len(rig.engine.usage().limits) == 4
    assert counts["/", "top", True].lowest == 1


# -- beside a naive model: plain counts at one instant

SCOPES = ("/", "/a", "/a/b", "/a/b/c", "/d")
TENANTS = ("x", "y", None)


def _above(scope: str) -> Iterator[str]:
    """Return ``scope`` and its ancestors, nearest first."""
    parts = scope.strip("/").split("/") if scope != "/" else []
    for depth in range(len(parts), -1, -1):
        yield "/" + "/".join(parts[:depth])


class Naive:
    """Naive model: charged numbers by owner and key. Buckets never refill."""

    def __init__(self, policies: Policies) -> None:
        self.policies = policies
        self.taken: Counter[tuple[object, ...]] = Counter()

    def ask(self, scope: str, tenant: str | None, cost: int) -> str:
        home = next((up for up in _above(scope) if up in self.policies), None)
        if home is None:
            return "no_policy"
        drawn: list[tuple[tuple[object, ...], int, bool]] = []
        merged: dict[str, dict[str, Any]] = {}
        for up in reversed(list(_above(home))):
            for name, of in self.policies.get(up, {}).get("limits", {}).items():
                merged[name] = {**merged.get(name, {}), **of}
            for name, of in self.policies.get(up, {}).get("budgets", {}).items():
                drawn += self._drawn((up, name, "budget"), of, tenant)
        for name, of in merged.items():
            drawn += self._drawn((home, name, "limit"), of, tenant)
        tight = [(shadow, size) for owner, size, shadow in drawn if self.taken[owner] + cost > size]
        if any(not shadow for shadow, _ in tight):
            never = any(cost > size for shadow, size in tight if not shadow)
            return "never" if never else "limited"
        for owner, size, _ in drawn:
            if self.taken[owner] + cost <= size:
                self.taken[owner] += cost
        return "shadow" if tight else "ok"

    def _drawn(
        self, owner: tuple[str, str, str], of: dict[str, Any], tenant: str | None
    ) -> list[tuple[tuple[object, ...], int, bool]]:
        mode = of.get("mode", "enforce")
        key = ("for", tenant) if of.get("per") else ("all",)
        size = int(of["rate"].partition("/")[0])
        return [] if mode == "off" else [((*owner, *key), size, mode == "shadow")]


windows = st.fixed_dictionaries(
    {
        "rate": st.sampled_from(("1/h", "2/h", "3/h", "5/h", "8/h")),
        "algorithm": st.sampled_from(("sliding-window", "quota")),
    },
    optional={
        "per": st.just(["tenant"]),
        "mode": st.sampled_from(("enforce", "shadow", "off")),
    },
)
both = st.fixed_dictionaries(
    {},
    optional={
        "budgets": st.dictionaries(st.sampled_from(("x", "y")), windows),
        "limits": st.dictionaries(st.sampled_from(("x", "z")), windows),
    },
)
requests = st.lists(
    st.tuples(
        st.sampled_from((*SCOPES, "/a/b/q", "/e")),
        st.sampled_from(TENANTS),
        st.sampled_from((1, 1, 1, 2, 3, 0)),
    ),
    max_size=40,
)


def _same(rig: Rig, naive: Naive, asked: list[tuple[str, str | None, int]]) -> None:
    for scope, tenant, cost in asked:
        attributes = {} if tenant is None else {"tenant": tenant}
        got = rig.ask(cost, scope=scope, **attributes)
        assert got.reason == naive.ask(scope, tenant, cost), (scope, tenant, cost)


@pytest.mark.parametrize("name", ENGINES)
@given(policies=st.dictionaries(st.sampled_from(SCOPES), both), asked=requests)
def test_all_or_nothing_over_shared_buckets(
    name: str, policies: Policies, asked: list[tuple[str, str | None, int]]
) -> None:
    rig = Rig(ENGINES[name])
    rig.write(policies)
    _same(rig, Naive(policies), asked)


fixed = st.fixed_dictionaries(
    {"algorithm": st.just("quota"), "per": st.just(["tenant"])},
    optional={"mode": st.sampled_from(("enforce", "shadow", "off"))},
)
budgets_only = st.fixed_dictionaries(
    {},
    optional={
        "budgets": st.dictionaries(
            st.sampled_from(("x", "y")),
            st.builds(
                lambda of, most: {**of, "rate": f"{most}/h"}, fixed, st.sampled_from((1, 2, 5, 8))
            ),
        )
    },
)
steps = st.lists(
    st.tuples(st.dictionaries(st.sampled_from(SCOPES), budgets_only), requests),
    min_size=2,
    max_size=4,
)


@pytest.mark.parametrize("name", ENGINES)
@given(steps=steps)
def test_reloads_keep_the_state_of_budgets(
    name: str, steps: list[tuple[Policies, list[tuple[str, str | None, int]]]]
) -> None:
    """Counts and modes change; budgets and scopes are added and removed."""
    rig, naive = Rig(ENGINES[name]), Naive({})
    for policies, asked in steps:
        rig.write(policies)
        naive.policies = policies  # what is removed comes back as it was
        _same(rig, naive, asked)
