"""Slots across publications: held slots stay held, and every release reaches its bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from conformance.test_engine_concurrency import SECOND, Policies, other, slots, take
from ratectl.engine.algorithms.concurrency import Concurrency

if TYPE_CHECKING:
    from conformance.engine_rig import Rig
    from ratectl.engine.decision import Decision


# -- reload


def test_held_slots_stay_counted_after_a_change_of_max(rig: Rig) -> None:
    rig.write({"/": slots(5)})
    held = [take(rig) for _ in range(4)]
    for most, left in ((9, 5), (2, 0), (5, 1)):
        rig.write({"/": slots(most)})
        assert rig.left() == left
    rig.write({"/": slots(2)})
    for released, allowed in ((0, False), (1, False), (2, True)):
        held[released].release()
        assert rig.ask(1).allowed is allowed
    held[0].release()
    assert not rig.ask().allowed


def test_shorter_hold_frees_leaked_slots_earlier(rig: Rig) -> None:
    rig.write({"/": slots(3, hold="1h")})
    take(rig, 2)
    rig.write({"/": slots(3, hold="10s")}, at=100 * SECOND)
    take(rig, 1, 100 * SECOND)
    assert rig.left(110 * SECOND - 1) == 0
    assert rig.left(110 * SECOND) == 3


def test_longer_hold_applies_to_new_slots_only(rig: Rig) -> None:
    rig.write({"/": slots(3, hold="10s")})
    take(rig, 2)
    rig.write({"/": slots(3, hold="1h")}, at=5 * SECOND)
    take(rig, 1, 5 * SECOND)
    assert [rig.left(at * SECOND) for at in (9, 10, 3_604, 3_605)] == [0, 2, 2, 3]


@pytest.mark.parametrize("touched", [False, True])
def test_a_release_reaches_the_bucket_of_a_scope_declared_since(rig: Rig, touched: bool) -> None:
    rig.write({"/": slots(per="tenant")})
    held = [take(rig, scope="/a/b", tenant="x") for _ in range(2)]
    rig.write({"/": slots(per="tenant"), "/a": {}})
    if touched:
        take(rig, scope="/a", tenant="x")
    else:
        assert rig.left(scope="/a", tenant="x") == 1
    held[0].release()
    held[0].release()
    left = [rig.left(scope=scope, tenant="x") for scope in ("/a", "/")]
    assert left == [1 if touched else 2, 2]


@pytest.mark.parametrize("touched", [False, True])
def test_a_release_reaches_the_buckets_counted_by_something_else(rig: Rig, touched: bool) -> None:
    rig.write({"/": slots(per="tenant")})
    held = [take(rig, tenant="x", route="r") for _ in range(3)]
    rig.write({"/": slots()})
    assert not rig.ask(1, tenant="x").allowed
    rig.write({"/": slots(per="route")})
    if touched:
        held.pop().release()
        take(rig, tenant="x", route="r")
    left = [rig.left(tenant="x", route=route) for route in "rs"]
    assert left == [0, 1 if touched else 0]
    for of in held:
        of.release()
    left = [rig.left(tenant="x", route=route) for route in "rs"]
    assert left == [2 if touched else 3, 3]


def test_slot_taken_above_later_is_not_counted_below(rig: Rig) -> None:
    rig.write({"/": slots()})
    with take(rig, scope="/a"):
        rig.write({"/": slots(), "/a": {}})
        below = take(rig, scope="/a")
        above = take(rig)
        assert [rig.left(scope="/a"), rig.left()] == [1, 1]
        below.release()
        assert [rig.left(scope="/a"), rig.left()] == [2, 1]
        above.release()
    assert [rig.left(scope="/a"), rig.left()] == [3, 3]


def test_slot_is_released_once_through_many_generations(rig: Rig) -> None:
    held: list[Decision] = []
    policies: Policies = {}
    for depth in range(1, 5):
        rig.write({"/": slots(2 * depth), **policies})
        held += [take(rig, scope="/a/a/a/a") for _ in range(2)]
        rig.write({"/": slots(2 * depth, hold="1h"), **policies})
        assert not rig.ask(scope="/a/a/a/a").allowed
        policies["/a" * depth] = {}
    rig.write({"/": slots(8), **policies})
    for number, of in enumerate(held, start=1):
        of.release()
        of.release()
        assert rig.left(scope="/a/a/a/a") == number
    assert [rig.left(scope=scope) for scope in ("/", *policies)] == [8] * 5


def test_slots_of_a_limit_that_was_away_are_held_until_their_release(rig: Rig) -> None:
    rig.write({"/": slots()})
    held = take(rig, 2)
    rig.write({"/": {}})
    rig.write({"/": slots()})
    assert rig.left() == 1
    new = take(rig, 1)
    held.release()
    assert rig.left() == 2
    new.release()
    assert rig.left() == 3


SWAPS = [
    {"rate": "5/h", "burst": 5},
    {"rate": "5/h", "algorithm": "sliding-window"},
    {"rate": "5/day", "algorithm": "quota"},
]


@pytest.mark.parametrize("fields", SWAPS, ids=["token-bucket", "sliding-window", "quota"])
@pytest.mark.parametrize("touched", [False, True])
def test_held_slots_count_as_missing_in_another_algorithm(
    rig: Rig, fields: dict[str, Any], touched: bool
) -> None:
    """The result is the same if the bucket is read before the release or after it."""
    rig.write({"/": slots(5)})
    held = take(rig, 3)
    take(rig, 1).release()
    rig.write({"/": other(**fields)})
    if touched:
        assert rig.left() == 2
    held.release()
    assert rig.left() == 2


@pytest.mark.parametrize("fields", SWAPS, ids=["token-bucket", "sliding-window", "quota"])
def test_missing_amount_of_another_algorithm_is_held_for_hold(
    rig: Rig, fields: dict[str, Any]
) -> None:
    rig.write({"/": other(**fields)})
    spent = take(rig, 3)
    rig.write({"/": slots(5, hold="10s")})
    assert rig.left() == 2
    spent.release()
    assert rig.left() == 2, "the request took no slot"
    assert [rig.left(at * SECOND) for at in (9, 10)] == [2, 5]


def test_missing_amount_of_another_algorithm_is_carried_once_by_all_scopes(rig: Rig) -> None:
    spent = {"algorithm": "quota", "rate": "9/h"}
    below: dict[str, Any] = {scope: {} for scope in ("/a", "/b", "/c")}
    rig.write({"/": {"budgets": {"b": spent}}, **below})
    rig.ask(2, scope="/a", tenant="x")
    held = {"algorithm": "concurrency", "max": 5, "hold": "10s", "per": "tenant"}
    rig.write({"/": {"budgets": {"b": held}}, **below})
    assert [rig.left(scope=scope, tenant="x") for scope in ("/", *below)] == [3] * 4
    assert [rig.left(10 * SECOND, scope=scope, tenant="x") for scope in below] == [5] * 3


def test_a_change_after_a_step_back_mints_nothing(rig: Rig) -> None:
    rig.write({"/": slots()})
    for at in (100, 50):
        take(rig, at=at * SECOND)
    rig.write({"/": other(rate="1/s", burst=3)}, at=50 * SECOND)
    assert [rig.left(at * SECOND) for at in (50, 99, 100, 101)] == [1, 1, 1, 2]


def test_stricter_of_two_buckets_holds_the_slots_of_both() -> None:
    of = Concurrency(9, 10)
    for swapped in (False, True):
        one = of.spent(2, 0)
        old = of.continued(of, one, 0)
        of.attempt(one, 3, 0)
        other = Concurrency(9, 5).continued(of, one, 0)
        of.attempt(other, 1, 1)
        assert of.same(of.continued(of, old, 0), of.continued(of, old, 0), 0)
        assert not of.same(old, one, 1)
        strict = of.stricter(other, one, 1) if swapped else of.stricter(one, other, 1)
        assert [of.used(strict, now) for now in (1, 5, 9, 10, 11)] == [6, 6, 6, 1, 0]


def test_tokens_that_growth_has_not_given_take_no_slots(rig: Rig) -> None:
    rig.write({"/": other(rate="1/h", burst=2, per="tenant")})
    assert rig.ask(tenant="a")
    rig.write({"/": other(rate="1/h", burst=5, per="tenant")})
    rig.write({"/": slots(5, per="tenant", hold="10s")})
    assert [rig.left(tenant=tenant) for tenant in "ab"] == [4, 5]
    with take(rig, 2, tenant="a"):
        assert [rig.left(tenant=tenant) for tenant in "ab"] == [2, 5]
    assert [rig.left(10 * SECOND, tenant=tenant) for tenant in "ab"] == [5, 5]


# -- overrides


def gold(**fields: Any) -> dict[str, Any]:
    return {"overrides": [{"name": "gold", "match": {"tier": "gold"}, "limits": {"l": fields}}]}


def test_override_has_its_own_slots(rig: Rig) -> None:
    rig.write({"/": {**slots(1), **gold(max=2)}})
    held = [take(rig), take(rig, tier="gold"), take(rig, tier="gold")]
    assert not rig.ask().allowed
    assert not rig.ask(1, tier="gold").allowed
    held[1].release()
    assert [rig.left(), rig.left(tier="gold")] == [0, 1]


def test_override_may_change_a_rate_to_concurrency(rig: Rig) -> None:
    rig.write({"/": {**other(rate="1/h", burst=5), **gold(algorithm="concurrency", max=1)}})
    with take(rig, tier="gold"):
        assert rig.ask(1, tier="gold").retry_after_ns is None
        assert rig.left() == 5
    assert rig.left(tier="gold") == 1


@pytest.mark.parametrize("touched", [False, True])
def test_a_release_reaches_the_bucket_of_an_override_made_since(rig: Rig, touched: bool) -> None:
    rig.write({"/": slots(3)})
    held = [take(rig, tier="gold") for _ in range(2)]
    rig.write({"/": {**slots(3), **gold(max=3)}})
    if touched:
        held.append(take(rig, tier="gold"))
    assert rig.left(tier="gold") == (0 if touched else 1)
    for of in held:
        of.release()
    assert [rig.left(tier="gold"), rig.left()] == [3, 3]
