"""Publications that gave tokens, or refused for no reason: one test for each way that was found.

Exact numbers by the four rules of DESIGN "Across publications"; nothing here knows how an engine
keeps buckets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.engines import each_engine
from engine.publications.world import NS, World

if TYPE_CHECKING:
    from engine.engines import MakeEngine
    from engine.publications.world import Documents

TENANT = {"per": ["tenant"]}
SLOW: dict[str, dict[str, Any]] = {
    "tokens": {"rate": "1/week", "burst": 20},
    "window": {"algorithm": "sliding-window", "rate": "20/week"},
    "quota": {"algorithm": "quota", "rate": "20/month"},
}
"""Limits of 20 that give nothing back within a test."""

each_algorithm = pytest.mark.parametrize("limit", SLOW.values(), ids=SLOW)


def only(limit: dict[str, Any], **more: Any) -> Documents:
    """Return documents with one limit ``l`` at ``/``."""
    return {"/": {"limits": {"l": limit}, **more}}


def override(name: str, match: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": name, "match": match, "limits": {"l": fields}}


# (a) Overrides for others


@each_engine
@each_algorithm
@pytest.mark.parametrize("looking", [True, False], ids=["refused-between", "unseen-between"])
def test_overrides_for_other_tenants_give_nothing_back(
    make: MakeEngine, limit: dict[str, Any], looking: bool
) -> None:
    """18 publications, each adding an override for another tenant, refused requests between."""
    limit = {**limit, **TENANT}
    world = World(make, only(limit))
    assert world.take(tenant="r") == 20
    others: list[dict[str, Any]] = []
    for number in range(18):
        others.append(override(f"o{number}", {"tenant": f"t{number}"}, mode="shadow"))
        world.publish(only(limit, overrides=list(others)))
        world.wait(60)
        if looking:
            assert not world.ask(tenant="r")
    assert world.take(tenant="r") == 0


@each_engine
@each_algorithm
def test_publications_that_touch_others_leave_a_partly_used_bucket(
    make: MakeEngine, limit: dict[str, Any]
) -> None:
    limit = {**limit, **TENANT}
    world = World(make, only(limit))
    used = 0
    for number in range(40):
        if number % 4 == 0:
            used += bool(world.ask(tenant="r"))
        other = override("other", {"tenant": f"t{number}"}, mode="shadow")
        world.publish(only(limit, overrides=[other]))
        world.wait(1)
    assert (used, world.take(tenant="r")) == (10, 10)


# (b) Scopes newly declared


@each_engine
def test_new_scope_refills_at_its_own_rate_while_others_drain_its_parent(
    make: MakeEngine,
) -> None:
    slow = {"rate": "1/s", "burst": 10}
    world = World(make, only(slow))
    assert world.take("/a") == 10
    world.publish({**only(slow), "/a": {"limits": {"l": {"rate": "10/s", "burst": 10}}}})
    admitted = 0
    for _ in range(100):
        world.wait(0.1)
        world.take("/b")
        admitted += bool(world.ask("/a"))
    assert admitted == 100


@each_engine
@pytest.mark.parametrize("busy", [True, False], ids=["parent-asked", "parent-idle"])
def test_refusal_at_a_new_scope_names_the_exact_instant(make: MakeEngine, busy: bool) -> None:
    slow = {"rate": "1/h", "burst": 10}
    world = World(make, only(slow))
    assert world.take("/a") == 10
    world.publish({**only(slow), "/a": {"limits": {"l": {"rate": "2/s", "burst": 10}}}})
    refused = world.ask("/a")
    assert (refused.allowed, refused.retry_after_ns) == (False, NS // 2)
    if busy:
        world.ask("/b")
    world.pass_ns(NS // 2 - 1)
    assert not world.ask("/a")
    world.pass_ns(1)
    assert world.ask("/a")


@each_engine
def test_quota_of_a_new_scope_names_the_instant_at_which_it_admits(make: MakeEngine) -> None:
    """A day's quota used up becomes a minute's: what was counted counts in this minute."""
    daily = {"algorithm": "quota", "rate": "10/day"}
    world = World(make, only(daily))
    assert world.take("/a") == 10
    world.wait(30)
    world.publish({**only(daily), "/a": {"limits": {"l": {"rate": "10/min"}}}})
    refused = world.ask("/a")
    assert (refused.allowed, refused.retry_after_ns) == (False, 30 * NS)
    world.ask("/b")
    world.pass_ns(30 * NS - 1)
    assert not world.ask("/a")
    world.pass_ns(1)
    assert world.take("/a") == 10


@each_engine
@each_algorithm
def test_new_scope_starts_from_what_its_clients_left(
    make: MakeEngine, limit: dict[str, Any]
) -> None:
    """Also for a request that is first seen long after, and whoever used the parent meanwhile."""
    world = World(make, only(limit))
    assert sum(bool(world.ask("/a")) for _ in range(5)) == 5
    world.publish({**only(limit), "/a": {}})
    world.take("/b")
    world.wait(3600)
    assert world.take("/a") == 15


# (c) A clock that steps back


def _day_after_eviction(make: MakeEngine, strangers: int) -> list[int]:
    """Spend a day's quota; a minute into the next day the wall clock steps back two minutes."""
    world = World(make, only({"algorithm": "quota", "rate": "10/day", **TENANT}))
    world.wait(24 * 3600 - 60)
    taken = [world.take(tenant="r")]
    world.wait(120)
    world.strangers(strangers)
    world.offset.move(world.offset.ns - 120 * NS, world.now)
    taken.append(world.take(tenant="r"))
    world.wait(180)
    taken.append(world.take(tenant="r"))
    return taken


@each_engine
def test_clock_stepping_back_after_an_eviction_reopens_no_day(make: MakeEngine) -> None:
    """Two days were seen, so two days' quotas may be used, whichever day the clock reads."""
    taken = _day_after_eviction(make, strangers=200)
    assert taken[0] == 10
    assert sum(taken) == 20


@each_engine
def test_eviction_before_a_clock_steps_back_is_invisible(make: MakeEngine) -> None:
    assert _day_after_eviction(make, 200) == _day_after_eviction(make, 0)


# (d) Scopes that are removed


@each_engine
@each_algorithm
@pytest.mark.parametrize("asked_before", [True, False], ids=["parent-used", "parent-unused"])
def test_removed_scope_leaves_its_debt_to_the_parent(
    make: MakeEngine, limit: dict[str, Any], asked_before: bool
) -> None:
    limit = {**limit, **TENANT}
    world = World(make, {**only(limit), "/a": {"limits": {"l": {}}}})
    if asked_before:
        assert world.ask("/", tenant="r")
    assert world.take("/a", tenant="r") == 20
    world.publish(only(limit))
    assert world.take("/a", tenant="r") == 0


@each_engine
@each_algorithm
def test_removed_scope_leaves_what_was_not_used(make: MakeEngine, limit: dict[str, Any]) -> None:
    limit = {**limit, **TENANT}
    world = World(make, {**only(limit), "/a": {"limits": {"l": {}}}})
    assert sum(bool(world.ask("/a", tenant="r")) for _ in range(6)) == 6
    world.publish(only(limit))
    world.wait(1)
    assert world.take("/a", tenant="r") == 14


# (e) Algorithms that change twice

HUNDRED: dict[str, dict[str, Any]] = {
    "tokens": {"rate": "1/week", "burst": 100},
    "window": {"algorithm": "sliding-window", "rate": "100/week"},
    "quota": {"algorithm": "quota", "rate": "100/month"},
}
ONE: dict[str, dict[str, Any]] = {
    "tokens": {"rate": "1/week", "burst": 1},
    "window": {"algorithm": "sliding-window", "rate": "1/week"},
    "quota": {"algorithm": "quota", "rate": "1/month"},
}


@each_engine
@pytest.mark.parametrize("first", HUNDRED)
@pytest.mark.parametrize("second", ONE)
@pytest.mark.parametrize("third", HUNDRED)
@pytest.mark.parametrize("looking", [True, False], ids=["seen", "unseen"])
def test_limit_that_shrinks_and_changes_its_algorithm_gives_nothing_back(
    make: MakeEngine, first: str, second: str, third: str, looking: bool
) -> None:
    """100 used, then at most 1, then 100 by another algorithm: nothing more."""
    world = World(make, only(HUNDRED[first]))
    assert world.take() == 100
    for limit in (ONE[second], HUNDRED[third]):
        world.publish(only(limit))
        if looking:
            assert not world.ask()
    assert world.take() == 0


@each_engine
def test_token_bucket_drained_through_a_small_burst_into_a_window(make: MakeEngine) -> None:
    world = World(make, only({"rate": "1/h", "burst": 100}))
    assert world.take() == 100
    world.publish(only({"rate": "1/h", "burst": 1}))
    world.publish(only({"algorithm": "sliding-window", "rate": "100/h"}))
    assert world.take() == 0
