"""Recipes: plans of combinations of conditions, made from plain data as resolution makes them."""

from __future__ import annotations

import gc
import ipaddress
import random
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from engine.engines import each_engine
from policy.conditions import NOON, excepted, exception, ns, override
from ratectl.compiler.matching import ValueTest
from ratectl.compiler.origins import resolved_origins
from ratectl.compiler.plans import compile_tree, compiled
from ratectl.compiler.recipe import limit_plan
from ratectl.compiler.surroundings import Surroundings
from ratectl.engine.algorithms.pooled import PooledBucket, Wallet
from ratectl.engine.algorithms.quota import WallOffset
from ratectl.engine.conditional_limit import LimitChoice
from ratectl.errors import BundleError
from ratectl.policy.language.durations import Duration
from ratectl.policy.language.matchers import Matcher
from ratectl.policy.language.rates import Rate
from ratectl.policy.language.resets import Resets
from ratectl.policy.resolution.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.engines import MakeEngine
    from ratectl.engine.limit_plan import GroupName, LimitPlan
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit

# No policy is reachable --------------------------------------------------------------------------

WALLET = Wallet()

VALUES = (Rate, Duration, Resets)
"""Values of the language: numbers and texts, which plans may hold."""


def reachable(*roots: object) -> Iterator[object]:
    """Yield all objects that these lead to, but for code: modules, classes, and their globals."""
    seen: set[int] = set()
    left = list(roots)
    while left:
        found = left.pop()
        if id(found) in seen or isinstance(found, type) or type(found).__name__ == "module":
            continue
        seen.add(id(found))
        yield found
        if type(found).__name__ == "function":
            left += [found.__closure__, found.__defaults__, found.__kwdefaults__, found.__dict__]  # type: ignore[attr-defined]
        else:
            left += gc.get_referents(found)


def policies_in(*roots: object) -> set[str]:
    """Return the classes of reachable objects that belong to policies or their libraries."""
    found = {type(each) for each in reachable(*roots) if not isinstance(each, VALUES)}
    return {
        f"{of.__module__}.{of.__qualname__}"
        for of in found
        if of.__module__.startswith(("ratectl.policy", "pydantic", "yaml"))
    }


def documents() -> PolicyTree:
    """Return a tree with every kind of document and matcher."""
    limits = {
        "x": {"rate": "10/s", "burst": 20, "per": "tenant"},
        "q": {"algorithm": "quota", "rate": "9/day", "resets": "06:00 Europe/Berlin"},
        "s": {"algorithm": "concurrency", "max": 5, "hold": "90s"},
    }
    matches: list[dict[str, Any]] = [
        {"tier": "gold"}, {"tier": ["gold", "free"], "route": "/v1/*"}, {"tier": {"not": "free"}},
        {"ip": {"cidr": "10.0.0.0/8"}}, {"tenant": {"exists": True}},
    ]  # fmt: skip
    some = [
        override(f"o{at}", match, x={"burst": 7 + at}, s={"max": 9}, new={"rate": "5/s"})
        for at, match in enumerate(matches)
    ]
    policies: dict[str, Any] = {
        "/": {"limits": limits, "overrides": some[:3], "caps": {"x": {"burst": 12}}},
        "/a": {"limits": {"x": {"rate": "3/s"}}, "overrides": some[3:], "budgets": {
            "fleet": {"rate": "100/s"}}},
        "/a/b": {"unset": ["q"]},
    }  # fmt: skip
    more = {"limits": {"x": {"burst": 30}}, "budgets": {"fleet": {"rate": "200/s"}}}
    return excepted(
        policies, exception("/a", match={"tenant": "acme"}, **more), exception("/a", **more)
    )


@each_engine
def test_no_policy_is_reachable_from_an_engine(make: MakeEngine) -> None:
    plans = compile_tree(documents(), 1, now_ns=ns(NOON))
    assert policies_in(plans) == set()
    engine = make(lambda: 0)
    engine.swap(plans)
    for tier in ("gold", "free", None):
        attributes = {"tier": tier, "route": "/v1/x", "ip": "10.1.1.1", "tenant": "acme"}
        given = {name: value for name, value in attributes.items() if value}
        for scope in ("/", "/a", "/a/b", "/a/undeclared"):
            assert engine.check(scope, given).scope
    assert policies_in(plans, engine) == set()
    assert any(isinstance(each, LimitChoice) for each in reachable(engine))


def test_policies_would_be_found() -> None:
    policies = documents()
    found = policies_in(lambda: policies.policies)
    assert {
        "ratectl.policy.language.model.Policy",
        "ratectl.policy.language.matchers.Matcher",
    } < found


# Plans are those of resolution -------------------------------------------------------------------


def plain(plan: LimitPlan | None) -> tuple[Any, ...] | None:
    if plan is None:
        return None
    return plan.group_name, plan.algorithm, plan.shadow, plan.skips, plan.origins


class NotedPools:
    """Limits across the cluster, of which it notes the buckets."""

    def __init__(self) -> None:
        self.kinds: set[tuple[str, bool]] = set()

    def bucket(self, name: GroupName, local: Any, *, optimistic: bool) -> Any:
        self.kinds.add((type(local).__name__, optimistic))
        return PooledBucket(local.capacity, 1 + optimistic, WALLET, 0)


def resolved_plan(scope: str, limit: Limit | None, around: Surroundings, *, budget: bool) -> Any:
    if limit is None:
        return None
    return plain(
        limit_plan(
            scope, limit.name, limit, around, algorithm=limit.algorithm, per=limit.per,
            across=limit.across, consistency=limit.consistency, mode=limit.mode, unit=limit.unit,
            absent=limit.absent, overrides=limit.touched,
            origins=resolved_origins(limit, budget=budget), budget=budget,
        )
    )  # fmt: skip


def of_path(choice: LimitChoice, local: int) -> int:
    """Return the conditions of a local mask as they are numbered along the path."""
    numbers = choice.numbering._numbers
    return sum(1 << position for position, number in numbers.items() if local >> number & 1)


def resolved(resolver: Resolver, choice: LimitChoice, matched: int) -> Limit | None:
    if not choice.budget:
        return resolver.limit(choice.scope, choice.name, matched)
    at_scope = resolver.where(choice.scope, matched)
    assert at_scope is not None
    found = [limit for owner, limit in at_scope.budgets if owner == choice.scope]
    return next((limit for limit in found if limit.name == choice.name), None)


DRAWN: list[dict[str, Any]] = [
    {"rate": "100/s"}, {"rate": "7/min", "burst": 40}, {"rate": "0.5/s"}, {"rate": "unlimited"},
    {"burst": 3}, {"per": ["tenant"]}, {"per": []}, {"mode": "shadow"}, {"mode": "off"}, {},
    {"algorithm": "sliding-window", "rate": "80/min"}, {"algorithm": "sliding-window"},
    {"algorithm": "quota", "rate": "9/day"}, {"resets": "06:00 Europe/Berlin"},
    {"algorithm": "concurrency", "max": 9}, {"max": 4}, {"hold": "90s"},
    {"algorithm": "token-bucket", "rate": "30/min"}, {"algorithm": "token-bucket"},
    {"unit": "tokens"}, {"unit": "requests", "rate": "8/s"}, {"absent": "skip"},
    {"absent": "share"}, {"across": "cluster"}, {"consistency": "optimistic"},
    {"across": "cluster", "consistency": "strict"},
]  # fmt: skip
CAPS: list[dict[str, Any]] = [
    {"rate": "50/s"}, {"rate": "1/s", "burst": 7}, {"burst": 2}, {"rate": "5/month"},
]  # fmt: skip
NAMES = ("x", "y")


def drawn_tree(chance: random.Random) -> PolicyTree:
    """Return a tree of three scopes with overrides and exceptions, often usable."""
    policies: dict[str, dict[str, Any]] = {}
    for scope in ("/", "/a", "/a/b"):
        some = [
            override(f"o{at}", {f"k{at}": "v"}, **{chance.choice(NAMES): chance.choice(DRAWN)})
            for at in range(chance.randrange(4))
        ]
        for one in some:
            if chance.random() < 0.3:
                one["caps"] = {chance.choice(NAMES): chance.choice(CAPS)}
                if chance.random() < 0.5:
                    one["limits"] = {}
        limits = {"x": {"rate": "10/s", "burst": 20}} if scope == "/" else {}
        if chance.random() < 0.4:
            limits[chance.choice(NAMES)] = chance.choice(DRAWN)
        policies[scope] = {"limits": limits, "overrides": some}
        if chance.random() < 0.3:
            policies[scope]["caps"] = {chance.choice(NAMES): chance.choice(CAPS)}
        if chance.random() < 0.2:
            policies[scope]["unset"] = [chance.choice(NAMES)]
        if chance.random() < 0.3:
            policies[scope]["budgets"] = {"x": {"rate": "10/s"}}
    exemptions = []
    for at in range(chance.randrange(4)):
        scope = chance.choice(list(policies))
        fields = {"limits": {chance.choice(NAMES): chance.choice(DRAWN)}}
        if "budgets" in policies[scope]:
            fields["budgets"] = {"x": chance.choice(DRAWN)}
        match = {"match": {f"e{at}": "v"}} if chance.random() < 0.7 else {}
        exemptions.append(exception(scope, reason=f"CHG-{at}", **match, **fields))
    return excepted(policies, *exemptions)


def test_recipe_gives_the_plan_of_the_resolver() -> None:
    chance = random.Random(20_261_128)
    compared, kinds = 0, set()
    pools = NotedPools()
    for _ in range(600):
        whole, around = drawn_tree(chance), Surroundings(WallOffset(), pools)
        try:
            plans = compiled(whole, 1, around.offset, ns(NOON), pools).plans
        except BundleError:
            continue
        resolver = Resolver(whole, ns(NOON))
        for choice in [each for plan in plans.scopes.values() for each in plan.limits]:
            if not isinstance(choice, LimitChoice):
                continue
            for local in range(min(64, 1 << len(choice.numbering._numbers))):
                limit = resolved(resolver, choice, of_path(choice, local))
                expected = resolved_plan(choice.scope, limit, around, budget=choice.budget)
                assert plain(choice.plan(local)) == expected
                compared += 1
                kinds.add((choice.budget, limit.algorithm if limit else None))
    assert compared > 2_000
    assert len(kinds) >= 6
    assert len(pools.kinds) == 4


# Matchers are those of policies ------------------------------------------------------------------

_texts = st.sampled_from(("", "gold", "go*", "*ld", "g*l*d", "*", "10.1.2.3", "::ffff:10.1.2.3"))
_values = st.one_of(
    st.none(), _texts, st.sampled_from(("gold", "goood", "10.200.0.1", "2001:db8::1", "10.1"))
)
_some = st.lists(_texts, min_size=1, max_size=3, unique=True)
_networks = st.lists(
    st.sampled_from(("10.0.0.0/8", "10.1.2.3/32", "::/0", "2001:db8::/32", "0.0.0.0/0")),
    min_size=1, max_size=2, unique=True,
)  # fmt: skip
_inner = st.one_of(_some, _networks.map(lambda networks: {"cidr": networks}))
_matchers = st.one_of(
    _inner, _inner.map(lambda inner: {"not": inner}), st.booleans().map(lambda yes: {"exists": yes})
).map(Matcher.parse)


@given(_matchers, _values)
def test_a_compiled_matcher_holds_for_the_same_values(matcher: Matcher, value: str | None) -> None:
    assert ValueTest(matcher).holds(value) is matcher.holds(value)


def test_a_compiled_matcher_holds_texts_and_numbers_only() -> None:
    for written_form in ("g*", {"not": ["a", "b*"]}, {"cidr": "10.0.0.0/8"}, {"exists": True}):
        found = set(map(type, reachable(ValueTest(Matcher.parse(written_form)))))
        assert not found & {Matcher, ipaddress.IPv4Network, ipaddress.IPv6Network}
