"""Waivers: no refusals at and below a scope, for every algorithm, on every way to decide."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from conformance.engine_rig import ENGINES, Rig
from engine.plans import verdict
from policy.conditions import FROM, excepted, exception, ns
from policy.trees import tree
from ratectl.compiler.plans import compile_tree
from ratectl.engine.decision import Decision

if TYPE_CHECKING:
    from ratectl.engine.api import Engine
    from ratectl.engine.waivers import Waiver

Policies = dict[str, dict[str, Any]]

SECOND = 10**9
ACME = {"tenant": "acme", "tier": "gold"}
SLOTS = {"algorithm": "concurrency", "max": 1, "hold": "1h"}
WAIVERS: tuple[Waiver, ...] = ("open", "shadow")


def limit(**fields: Any) -> Policies:
    return {"/": {"limits": {"l": fields}}}


def override(**fields: Any) -> Policies:
    gold = {"name": "gold", "match": {"tier": "gold"}, "limits": {"l": fields}}
    return {"/": {"limits": {"l": {"rate": "1000/s"}}, "overrides": [gold]}}


KINDS: dict[str, Policies] = {
    "token-bucket": limit(rate="1/h", burst=1, per="tenant"),
    "sliding-window": limit(algorithm="sliding-window", rate="1/h", per="tenant"),
    "wide-window": limit(algorithm="sliding-window", rate="5000000000/h", per="tenant"),
    "quota": limit(algorithm="quota", rate="1/day", per="tenant"),
    "concurrency": limit(**SLOTS, per="tenant"),
    "rate-zero": limit(rate="0/s"),
    "several": {"/": {"limits": {"l": {"rate": "1/h", "burst": 1}, "m": dict(SLOTS)}}},
    "budget": {"/": {"budgets": {"l": {"rate": "1/h", "burst": 1}}}, "/a": {}},
    "budget-of-slots": {"/": {"budgets": {"l": dict(SLOTS)}}, "/a": {}},
    "override": override(rate="1/h", burst=1),
    "override-of-algorithm": override(algorithm="quota", rate="1/day", per="tenant"),
    "on-error-deny": {"/": {"on_error": "deny", "limits": {"l": {"rate": "1/h", "burst": 1}}}},
}
ALL_KINDS = pytest.mark.parametrize("policies", KINDS.values(), ids=KINDS)
EITHER = pytest.mark.parametrize("waiver", WAIVERS)


def by_check(engine: Engine, scope: str, cost: int) -> bool:
    return engine.check(scope, ACME, cost).allowed


def by_check_many(engine: Engine, scope: str, cost: int) -> bool:
    answers = {bool(each) for each in engine.check_many([(scope, ACME, cost)] * 2)}
    assert len(answers) == 1
    return answers.pop()


def by_gate(engine: Engine, scope: str, cost: int) -> bool:
    return engine.gate(scope, "tenant", "tier", cost=cost)("acme", "gold")


WAYS = pytest.mark.parametrize("way", [by_check, by_check_many, by_gate])


def exhaust(rig: Rig, policies: Policies) -> int:
    """Publish, and exhaust the limit; return a cost that is now refused."""
    rig.write(policies)
    cost = 5_000_000_000 if "5000000000" in str(policies) else 1
    rig.engine.check("/a", ACME, cost)
    assert not rig.engine.check("/a", ACME, cost), "without a waiver it is refused"
    return cost


# -- every algorithm, on every way to decide


@ALL_KINDS
@WAYS
@EITHER
def test_waiver_ends_refusals_until_it_is_removed(
    rig: Rig, policies: Policies, way: Any, waiver: Waiver
) -> None:
    cost = exhaust(rig, policies)
    assert not way(rig.engine, "/a", cost)
    rig.engine.waive({"/": waiver})
    assert all(way(rig.engine, scope, cost) for scope in ("/a", "/", "/a/b", "/a/b/c") * 2)
    rig.engine.waive({})
    assert not way(rig.engine, "/a", cost)


@ALL_KINDS
@EITHER
def test_existing_gate_obeys_a_waiver(rig: Rig, policies: Policies, waiver: Waiver) -> None:
    cost = exhaust(rig, policies)
    gate = rig.engine.gate("/a", "tenant", "tier", cost=cost)
    asked = []
    for waived in ({}, {"/": waiver}, {}, {"/a": waiver}, {"/b": waiver}):
        rig.engine.waive(waived)
        asked.append([gate("acme", "gold"), gate("acme", "gold")])
    assert asked == [[False] * 2, [True] * 2, [False] * 2, [True] * 2, [False] * 2]


def test_exception_is_waived_like_its_limit(rig: Rig) -> None:
    policies = {"/": {"limits": {"l": {"rate": "9/h", "burst": 9}}}}
    raised = exception(limits={"l": {"rate": "1/h", "burst": 1}})
    rig.engine.swap(compile_tree(excepted(policies, raised), 1, now_ns=ns(FROM)))
    assert [rig.ask().reason for _ in range(2)] == ["ok", "limited"]
    rig.engine.waive({"/": "shadow"})
    assert rig.ask().reason == "shadow"
    rig.engine.waive({"/": "open"})
    assert rig.ask().reason == "ok"


# -- where


@EITHER
def test_waiver_affects_only_its_scope_and_below(rig: Rig, waiver: Waiver) -> None:
    none = {"limits": {"l": {"rate": "0/s"}}}
    rig.write({"/": none, "/a": none, "/a/b": none, "/ab": none})
    rig.engine.waive({"/a": waiver})
    for scope in ("/a", "/a/b", "/a/b/c", "/a/x"):
        assert rig.ask(scope=scope).allowed, scope
    for scope in ("/", "/ab", "/z", "/ab/a"):
        assert not rig.ask(scope=scope).allowed, scope


@EITHER
def test_waiver_of_an_undeclared_scope_does_not_affect_its_neighbours(
    rig: Rig, waiver: Waiver
) -> None:
    """Its neighbours use the same plan and the same buckets."""
    rig.write(limit(rate="0/s"))
    for order in (("/a/x", "/a", "/", "/a/x/y"), ("/a", "/a/x/y", "/a/x", "/")):
        rig.engine.waive({"/a/x": waiver})
        allowed = {scope: rig.ask(scope=scope).allowed for scope in order}
        assert allowed == {"/a/x": True, "/a/x/y": True, "/a": False, "/": False}


@pytest.mark.parametrize(
    ("waived", "reason"),
    [
        ({"/": "open", "/a": "shadow"}, "ok"),
        ({"/": "shadow", "/a": "open"}, "ok"),
        ({"/": "shadow", "/a": "shadow"}, "shadow"),
        ({"/a/b": "open"}, "never"),
    ],
)
def test_open_beats_shadow_at_any_scope(rig: Rig, waived: dict[str, Waiver], reason: str) -> None:
    rig.write(limit(rate="0/s"))
    rig.engine.waive(waived)
    assert rig.ask(scope="/a").reason == reason


def test_waivers_can_be_read(engine: Engine) -> None:
    engine.waive({"/a": "shadow", "/a/b": "open"})
    found = [engine.waived(scope) for scope in ("/", "/a", "/a/c", "/a/b", "/a/b/c", "/ab")]
    assert found == [None, "shadow", "shadow", "open", "open", None]
    assert engine.waived(None) is None  # type: ignore[arg-type]  # what an agent may be asked
    engine.waive({"/": "shadow"})
    assert engine.waived(None) == "shadow"  # type: ignore[arg-type]


# -- what is counted


def test_open_charges_nothing_not_even_budgets_above(rig: Rig) -> None:
    some = {"rate": "1/h", "burst": 5}
    rig.write({"/": {"budgets": {"b": some}}, "/a": {"limits": {"l": some}}})
    rig.ask(2, scope="/a")
    before = rig.engine.usage().limits
    rig.engine.waive({"/a": "open"})
    for _ in range(20):
        assert rig.ask(scope="/a") == (True, "ok", 1, None, "/a", None, None, 0, 0, None)
    assert [each.allowed for each in rig.engine.usage().limits] == [each.allowed for each in before]
    rig.engine.waive({})
    assert (rig.left(scope="/a"), rig.left()) == (3, 3)


def test_shadow_waiver_counts_refusals(rig: Rig) -> None:
    rig.write({"/": {"limits": {"l": {"rate": "1/h", "burst": 3}}}})
    rig.engine.waive({"/": "shadow"})
    assert [rig.ask().reason for _ in range(5)] == ["ok"] * 3 + ["shadow"] * 2
    told = rig.usage()
    assert (told.allowed, told.refused, told.never, told.shadow_refused) == (3, 0, 0, 2)
    rig.engine.waive({})
    assert rig.ask().reason == "limited"
    assert rig.usage().refused == 1


def test_waiver_does_not_give_a_scope_a_policy(rig: Rig) -> None:
    rig.write({"/a": {"limits": {"l": {"rate": "0/s"}}}})
    rig.engine.waive({"/": "open"})
    assert [rig.ask(scope=scope).reason for scope in ("/b", "/b", "/a")] == [
        "no_policy", "no_policy", "ok",
    ]  # fmt: skip
    assert rig.engine.usage().no_policy == 2


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("make", ENGINES.values(), ids=ENGINES)
def test_shadow_waiver_equals_shadow_mode_of_every_limit(make: Any, seed: int) -> None:
    """The counts and the later buckets equal those with ``mode: shadow`` everywhere."""
    chance = random.Random(seed)
    policies = {
        "/": {
            "limits": {"l": {"rate": "7/s", "burst": 9, "per": "tenant"}},
            "budgets": {"b": {"rate": "30/s", "burst": 40}},
        },
        "/a": {"limits": {"w": {"algorithm": "sliding-window", "rate": "11/s"}}},
        "/a/b": {
            "limits": {"q": {"algorithm": "quota", "rate": "50/min"}, "s": {**SLOTS, "max": 6}}
        },
    }
    shadowed = {
        scope: {
            part: {name: {**of, "mode": "shadow"} for name, of in limits.items()}
            for part, limits in of.items()
        }
        for scope, of in policies.items()
    }
    now = 0
    one, other = make(lambda: now), make(lambda: now)
    held: list[tuple[Decision, Decision]] = []
    for generation, phase in enumerate(("enforced", "waived", "enforced"), start=1):
        one.waive({"/": "shadow"} if phase == "waived" else {})
        plain = policies if phase == "enforced" else shadowed
        one.swap(compile_tree(tree(policies), generation))
        other.swap(compile_tree(tree(plain), generation))
        for _ in range(150):
            now += chance.choice((0, 10**7, 10**8))
            scope, cost = chance.choice(("/", "/a", "/a/b", "/a/b/c")), chance.choice((0, 1, 1, 3))
            request = scope, {"tenant": chance.choice("xy")}, cost
            pair = one.check(*request), other.check(*request)
            assert (pair[0].allowed, pair[0].reason) == (pair[1].allowed, pair[1].reason)
            if phase == "enforced":
                assert verdict(pair[0]) == verdict(pair[1])
            held.append(pair)
            if chance.random() < 0.5:
                for decision in held.pop(chance.randrange(len(held))):
                    decision.release()
    counts = [
        {
            (each.scope, each.limit): (each.allowed, each.refused, each.shadow_refused)
            for each in engine.usage().limits
        }
        for engine in (one, other)
    ]
    assert counts[0] == counts[1]


# -- decisions before the waiver, or during it


@EITHER
def test_slots_are_released_across_a_waiver(rig: Rig, waiver: Waiver) -> None:
    rig.write(limit(**{**SLOTS, "max": 4}))
    before = rig.engine.check("/", {}, 3)
    rig.engine.waive({"/": waiver})
    during = [rig.engine.check("/", {}, 1) for _ in range(3)]
    assert all(during)
    before.release()
    before.release()
    rig.engine.waive({})
    assert rig.left() == (4 if waiver == "open" else 3), (
        "a request that open let pass holds no slot"
    )
    for decision in during:
        decision.release()
        decision.settle(7)
    assert rig.left() == 4


@EITHER
def test_cost_is_settled_across_a_waiver(rig: Rig, waiver: Waiver) -> None:
    rig.write(limit(rate="1/h", burst=10))
    before = rig.engine.check("/", {}, 2)
    rig.engine.waive({"/": waiver})
    before.settle(5)
    during = rig.engine.check("/", {}, 1)
    rig.engine.waive({})
    during.settle(3)
    assert rig.left() == (5 if waiver == "open" else 2)


@EITHER
def test_cost_settled_during_a_waiver_reaches_the_heir(rig: Rig, waiver: Waiver) -> None:
    rig.write(limit(rate="1/h", burst=10))
    before = rig.engine.check("/a", {}, 2)
    rig.write({**limit(rate="1/h", burst=10), "/a": {"limits": {"l": {"rate": "1/h"}}}})
    assert rig.ask(scope="/a").remaining == 7, "the heir continues the charged bucket"
    rig.engine.waive({"/": waiver})
    before.settle(6)
    rig.engine.waive({})
    assert rig.left(scope="/a") == 3


@EITHER
def test_generation_published_during_a_waiver_is_waived(rig: Rig, waiver: Waiver) -> None:
    rig.engine.waive({"/": waiver})
    for burst in (1, 2):
        rig.write({**limit(rate="0/s", burst=burst), "/a": {}})
        assert rig.ask(scope="/a").allowed
    rig.engine.waive({})
    assert not rig.ask(scope="/a").allowed


def test_waiver_does_not_wait_for_a_swap(rig: Rig) -> None:
    rig.write(limit(rate="0/s"))
    asked = []

    def between_pieces() -> None:
        rig.engine.waive({"/": "open"})
        asked.append(rig.ask().allowed)
        rig.engine.waive({})
        asked.append(rig.ask().allowed)

    plans = compile_tree(tree(limit(rate="0/s", burst=3)), 2)
    rig.engine.swap(plans, pause=between_pieces)
    assert asked
    assert asked == [True, False] * (len(asked) // 2)


# -- without policies


@EITHER
def test_waiver_works_before_any_policy_is_loaded(rig: Rig, waiver: Waiver) -> None:
    engine = rig.engine
    deny = Decision(False, "error", 0, retry_after_ns=None)
    engine.guard(lambda scope, error: deny, lambda: deny)
    gate = engine.gate("/a")

    def asked() -> list[bool]:
        many = engine.check_many([("/a",), ("/b", {})])
        return [engine.check("/a", {}).allowed, gate(), *map(bool, many)]

    assert asked() == [False] * 4
    engine.waive({"/a": waiver})
    assert asked() == [True, True, True, False]
    assert asked() == [True, True, True, False], "and again, when scopes are remembered"
    engine.waive({})
    assert asked() == [False] * 4
    rig.write(limit(rate="0/s"))
    engine.waive({"/a": waiver})
    assert asked() == [True, True, True, False]


@EITHER
def test_waiver_works_for_very_many_scopes(
    rig: Rig, waiver: Waiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratectl.engine.control._MAX_ALIASES", 8)
    rig.write(limit(rate="0/s"))
    rig.engine.waive({"/a": waiver})
    for number in range(40):
        assert rig.ask(scope=f"/a/{number}").allowed
        assert not rig.ask(scope=f"/b/{number}").allowed
