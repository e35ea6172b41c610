"""Resets: an operator makes the buckets of one key full, on every engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from conformance.test_engine_waiting import Watching
from engine.model import Limit
from engine.plans import rate
from policy.trees import tree
from ratectl.compiler.plans import compile_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conformance.engine_rig import Rig

SECOND = 10**9
KINDS: dict[str, dict[str, Any]] = {
    "token-bucket": {"rate": "1/h", "burst": 2},
    "sliding-window": {"algorithm": "sliding-window", "rate": "2/h"},
    "wide-window": {"algorithm": "sliding-window", "rate": "2/h", "precision": 128},
    "quota": {"algorithm": "quota", "rate": "2/day"},
    "concurrency": {"algorithm": "concurrency", "max": 2, "hold": "1h"},
}
ALL_KINDS = pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
ACME, ZETA = {"tenant": "acme"}, {"tenant": "zeta"}


def per_tenant(fields: dict[str, Any], **more: Any) -> dict[str, dict[str, Any]]:
    return {"/": {"limits": {"l": {**fields, "per": "tenant"}}, **more}}


def gold(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": "gold", "match": {"tier": "gold"}, "limits": {"l": fields}}]


def exhaust(rig: Rig, scope: str = "/", **attributes: str) -> None:
    while rig.ask(scope=scope, **attributes).allowed:
        pass


@ALL_KINDS
def test_reset_fills_the_bucket_of_one_key(rig: Rig, fields: dict[str, Any]) -> None:
    rig.write(per_tenant(fields))
    exhaust(rig, **ACME)
    exhaust(rig, **ZETA)
    rig.now += 1
    assert rig.engine.reset("/", "l", ACME) == (1, 0, 0)
    assert [rig.left(tenant=name) for name in ("acme", "zeta", "new")] == [2, 0, 2]
    assert [rig.ask(**ACME).allowed for _ in range(3)] == [True, True, False]


@ALL_KINDS
def test_reset_of_a_limit_with_one_bucket(rig: Rig, fields: dict[str, Any]) -> None:
    rig.write({"/": {"limits": {"l": fields}}})
    exhaust(rig)
    assert rig.engine.reset("/", "l", {}) == (1, 0, 0)
    assert rig.left() == 2


@ALL_KINDS
def test_reset_of_an_untouched_key_changes_nothing(rig: Rig, fields: dict[str, Any]) -> None:
    rig.write(per_tenant(fields))
    assert rig.engine.reset("/", "l", ACME) == (0, 0, 0)
    rig.ask(**ZETA)
    assert rig.engine.reset("/", "l", ACME) == (0, 0, 0)
    assert (rig.left(**ACME), rig.engine.usage().buckets) == (2, 1)


@ALL_KINDS
def test_reset_bucket_is_evicted_like_a_full_one(rig: Rig, fields: dict[str, Any]) -> None:
    rig.write(per_tenant(fields))
    for number in range(50):
        rig.ask(tenant=f"t{number}")
    for number in range(50):
        assert rig.engine.reset("/", "l", {"tenant": f"t{number}"}) == (1, 0, 0)
    for number in range(50):
        rig.ask(tenant=f"u{number}")
    assert rig.engine.usage().buckets == 50


def test_absent_attribute_is_a_key_of_its_own(rig: Rig) -> None:
    rig.write(per_tenant(KINDS["quota"]))
    exhaust(rig)
    exhaust(rig, tenant="")
    rig.engine.reset("/", "l", {"tenant": None})
    assert (rig.left(), rig.left(tenant="")) == (2, 0)


def test_key_of_two_attributes_in_any_order(rig: Rig) -> None:
    fields = {**KINDS["quota"], "per": ["tenant", "route"]}
    rig.write({"/": {"limits": {"l": fields}}})
    for route in ("x", "y"):
        exhaust(rig, tenant="acme", route=route)
    assert rig.engine.reset("/", "l", {"route": "x", "tenant": "acme"}) == (1, 0, 0)
    assert [rig.left(tenant="acme", route=route) for route in ("x", "y")] == [2, 0]


@pytest.mark.parametrize(
    ("scope", "limit", "budget"),
    [("/", "x", False), ("/nowhere", "l", False), ("/", "l", True), ("/", "", False)],
)
def test_limit_that_is_not_in_force(rig: Rig, scope: str, limit: str, budget: bool) -> None:
    assert rig.engine.reset(scope, limit, ACME, budget=budget) is None, "before the first swap"
    rig.write(per_tenant(KINDS["quota"]))
    assert rig.engine.reset(scope, limit, ACME, budget=budget) is None


def test_buckets_that_count_per_other_attributes_stay(rig: Rig) -> None:
    rig.write(per_tenant(KINDS["quota"], overrides=gold(per=["tenant", "tier"])))
    exhaust(rig, **ACME)
    exhaust(rig, **ACME, tier="gold")
    assert rig.engine.reset("/", "l", ACME) == (1, 0, 1)
    assert (rig.left(**ACME), rig.left(**ACME, tier="gold")) == (2, 0)
    assert rig.engine.reset("/", "l", {**ACME, "tier": "gold"}) == (1, 0, 1)
    assert rig.left(**ACME, tier="gold") == 2


@ALL_KINDS
def test_buckets_of_all_overrides_are_reset(rig: Rig, fields: dict[str, Any]) -> None:
    more = {"max": 3} if "max" in fields else {"rate": fields["rate"].replace("2", "3", 1)}
    rig.write(per_tenant(fields, overrides=gold(**more)))
    for tier in ("gold", "free"):
        exhaust(rig, **ACME, tier=tier)
    rig.now += 1
    assert rig.engine.reset("/", "l", ACME) == (2, 0, 0)
    assert all(rig.ask(**ACME, tier=tier).allowed for tier in ("gold", "free"))


def test_budget_and_limit_of_one_name_are_reset_apart(rig: Rig) -> None:
    fields = {**KINDS["quota"], "per": "tenant"}
    rig.write({"/": {"limits": {"l": fields}, "budgets": {"l": fields}}, "/a": {}})
    exhaust(rig, "/a", **ACME)
    assert rig.engine.reset("/", "l", ACME) == (0, 0, 0), "nothing was asked at / itself"
    assert rig.engine.reset("/", "l", ACME, budget=True) == (1, 0, 0)
    assert not rig.ask(scope="/a", **ACME).allowed
    assert rig.engine.reset("/a", "l", ACME) == (1, 0, 0)
    assert rig.ask(scope="/a", **ACME).allowed


def test_scopes_have_their_own_buckets(rig: Rig) -> None:
    rig.write({**per_tenant(KINDS["quota"]), "/a": {}})
    for scope in ("/", "/a", "/z"):
        exhaust(rig, scope, **ACME)
    rig.engine.reset("/", "l", ACME)
    left = {scope: rig.left(scope=scope, **ACME) for scope in ("/", "/a", "/z")}
    assert left == {"/": 2, "/a": 0, "/z": 2}, "an undeclared scope uses the buckets of /"


# -- what was left by publications


@ALL_KINDS
def test_requests_carry_over_nothing_from_before(rig: Rig, fields: dict[str, Any]) -> None:
    """The bucket of an override is left, and the request has not looked at its new one yet."""
    rig.write(per_tenant(fields, overrides=gold(mode="enforce", **fields)))
    for who in (ACME, ZETA):
        exhaust(rig, **who, tier="gold")
    rig.now += 1
    rig.write(per_tenant(fields))
    assert rig.engine.reset("/", "l", ACME) == (0, 0, 0)
    assert (rig.left(**ACME, tier="gold"), rig.left(**ZETA, tier="gold")) == (2, 0)
    exhaust(rig, **ACME, tier="gold")
    rig.now += 1
    rig.write(per_tenant(fields, overrides=gold(mode="enforce", **fields)))
    assert rig.left(**ACME, tier="gold") == 0, "what came after the reset is carried over"


@ALL_KINDS
@pytest.mark.parametrize("looking", [True, False])
def test_scope_that_was_declared_since(rig: Rig, fields: dict[str, Any], looking: bool) -> None:
    rig.write(per_tenant(fields))
    exhaust(rig, "/a", **ACME)
    rig.now += 1
    rig.write({**per_tenant(fields), "/a": {}})
    if looking:
        assert rig.left(scope="/a", **ACME) == 0
    rig.engine.reset("/", "l", ACME)
    assert rig.left(scope="/a", **ACME) == 0, "its bucket is another one now"
    rig.engine.reset("/a", "l", ACME)
    assert rig.left(scope="/a", **ACME) == 2


@ALL_KINDS
def test_reset_before_a_publication_is_not_undone_by_it(rig: Rig, fields: dict[str, Any]) -> None:
    rig.write(per_tenant(fields))
    exhaust(rig, "/a", **ACME)
    rig.now += 1
    rig.engine.reset("/", "l", ACME)
    rig.write({**per_tenant(fields), "/a": {}})
    assert rig.left(scope="/a", **ACME) == 2


def test_old_buckets_that_only_this_key_used_are_forgotten(rig: Rig) -> None:
    quota = KINDS["quota"]
    rig.write({"/": {"limits": {"l": {**quota, "per": ["tenant", "route"]}}}})
    for name in ("acme", "zeta"):
        exhaust(rig, tenant=name, route="x")
    rig.now += 1
    rig.write(per_tenant(quota))
    rig.engine.reset("/", "l", ACME)
    assert (rig.left(**ACME, route="x"), rig.left(**ZETA, route="x")) == (2, 0)


def test_old_bucket_that_other_keys_used_too_is_carried_over(rig: Rig) -> None:
    """As by a new key."""
    rig.write({"/": {"limits": {"l": KINDS["quota"]}}})
    exhaust(rig, **ACME)
    rig.now += 1
    rig.write(per_tenant(KINDS["quota"]))
    rig.engine.reset("/", "l", ACME)
    assert rig.left(**ACME) == rig.left(tenant="new") == 0


@pytest.mark.parametrize("looking", [True, False])
def test_growth_gives_no_tokens_to_a_reset_key_either(rig: Rig, looking: bool) -> None:
    """A new key of a scope that was declared since begins with the tokens of before."""
    rig.publish(Limit("/", "l", rate(1, burst=3), ("tenant",)))
    rig.ask(3, scope="/a", **ACME)
    grown = rate(1, burst=9)
    rig.publish(Limit("/", "l", grown, ("tenant",)), Limit("/a", "l", grown, ("tenant",)))
    if looking:
        rig.left(scope="/a", **ACME)
    rig.engine.reset("/a", "l", ACME)
    assert (rig.left(scope="/a", **ACME), rig.left(scope="/a", tenant="new")) == (3, 3)


def test_untouched_bucket_follows_every_change_before_its_reset(rig: Rig) -> None:
    """After growth, an untracked key has the tokens of before, and so has a reset one."""
    rig.publish(Limit("/", "l", rate(1, burst=10), ("tenant",)))
    rig.ask(10, tenant="acme")
    rig.publish(Limit("/", "l", rate(1, burst=100), ("tenant",)))
    rig.engine.reset("/", "l", ACME)
    assert (rig.left(tenant="acme"), rig.left(tenant="new")) == (10, 10)


@ALL_KINDS
def test_reset_while_a_swap_is_under_way(rig: Rig, fields: dict[str, Any]) -> None:
    rig.write(per_tenant(fields))
    exhaust(rig, **ACME)
    rig.now += 1
    done: list[object] = []

    def between() -> None:
        if rig.engine.generation == 2 and not done:
            done.append(rig.engine.reset("/", "l", ACME))

    documents = {**per_tenant(fields), **{f"/s{number}": {} for number in range(20)}}
    rig.engine.swap(compile_tree(tree(documents), 2, rig.offset), pause=between)
    assert done == [(1, 0, 0)]
    assert rig.left(**ACME) == 2


# -- decisions before the reset


def test_slots_taken_before_the_reset_are_forgotten_and_their_release_frees_nothing(
    rig: Rig,
) -> None:
    rig.write(per_tenant(KINDS["concurrency"]))
    before = [rig.engine.check("/", ACME) for _ in range(2)]
    rig.engine.reset("/", "l", ACME)
    after = [rig.engine.check("/", ACME) for _ in range(2)]
    assert [each.allowed for each in after] == [True, True]
    for decision in before:
        decision.release()
    assert not rig.ask(**ACME).allowed
    after[0].release()
    assert rig.left(**ACME) == 1


@ALL_KINDS
@pytest.mark.parametrize("use", [0, 1])
def test_refund_of_a_charge_before_the_reset_gives_nothing(
    rig: Rig, fields: dict[str, Any], use: int
) -> None:
    rig.write(per_tenant(fields))
    before = rig.engine.check("/", ACME, 2)
    rig.now += 1
    rig.engine.reset("/", "l", ACME)
    rig.ask(use, **ACME)
    before.settle(0)
    assert rig.left(**ACME) == 2 - use
    rig.now += SECOND
    before.settle(0)
    assert rig.left(**ACME) == 2 - use


@pytest.mark.parametrize("name", ["token-bucket", "sliding-window", "quota"])
def test_higher_cost_of_a_request_before_the_reset_is_charged(rig: Rig, name: str) -> None:
    rig.write(per_tenant(KINDS[name]))
    before = rig.engine.check("/", ACME, 1)
    rig.now += 1
    rig.engine.reset("/", "l", ACME)
    before.settle(2)
    assert rig.left(**ACME) == 1
    before.settle(0)
    assert rig.left(**ACME) == 1, "it is not known what of it the new bucket has"


# -- keys without room


def test_shared_bucket_is_reported_and_stays(rig: Rig) -> None:
    rig.bound(1)
    rig.write(per_tenant(KINDS["quota"]))
    exhaust(rig, tenant="first")
    exhaust(rig, **ACME)
    assert rig.engine.usage().overflowed > 0
    assert rig.engine.reset("/", "l", ACME) == (0, 1, 0)
    assert rig.left(**ACME) == 0
    assert rig.engine.reset("/", "l", {"tenant": "first"}) == (1, 0, 0)
    assert rig.left(tenant="first") == 2


# -- observers


class Observer(Watching):
    def __init__(self) -> None:
        super().__init__()
        self.resets: list[tuple[str, str, dict[str, str | None], bool]] = []

    def reset(
        self,
        scope: str,
        limit: str,
        attributes: Mapping[str, str | None],
        *,
        budget: bool,
        now: int | None,
    ) -> None:
        self.resets.append((scope, limit, dict(attributes), budget))


def test_watcher_and_mirror_are_told(rig: Rig) -> None:
    rig.write(per_tenant(KINDS["quota"], overrides=gold(rate="9/day")))
    observer = Observer()
    exhaust(rig, **ACME)
    exhaust(rig, **ZETA)
    places = rig.engine.places("/", ACME)
    rig.engine.watch(observer)
    rig.engine.mirror(observer)
    rig.engine.reset("/", "l", ACME)
    assert observer.freed_places == list(places)
    rig.engine.reset("/", "nothing", ACME)
    assert observer.resets == [("/", "l", ACME, False)]
