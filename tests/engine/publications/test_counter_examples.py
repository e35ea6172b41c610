"""The stories that killed earlier wordings of the rules, with exact numbers, for each algorithm.

In all of them ``r`` is on ``old`` first and on ``new`` later, and its cost is counted against
what one bucket of its own would have admitted. Overrides match on ``who``, so that publications
move requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.engines import each_engine
from engine.publications.world import World

if TYPE_CHECKING:
    from engine.engines import MakeEngine
    from engine.publications.world import Documents

NOBODY = "nobody"
COUNTED: dict[str, dict[str, Any]] = {
    "window": {"algorithm": "sliding-window", "rate": "20/10s"},
    "quota": {"algorithm": "quota", "rate": "20/min"},
}
"""Limits without tokens: 20 for each window. A world starts with the minute."""
AFTER = {"window": 11, "quota": 60}
"""Seconds after which a window that began with the story is certainly over."""

each_window = pytest.mark.parametrize("kind", COUNTED)
each_kind = pytest.mark.parametrize("kind", ["tokens", *COUNTED])


def documents(
    limit: dict[str, Any], *overrides: tuple[str, list[str], dict[str, Any]]
) -> Documents:
    """Return ``/`` with the limit ``l`` and overrides of it: name, who is matched, fields."""
    made = [
        {"name": name, "match": {"who": who}, "limits": {"l": fields}}
        for name, who, fields in overrides
    ]
    return {"/": {"limits": {"l": limit}, "overrides": made}}


def moved(limit: dict[str, Any], old: dict[str, Any], *who: str) -> Documents:
    """Return documents whose override ``old`` matches these requests, and others ``limit``."""
    return documents(limit, ("old", [*who, NOBODY], old))


TOKENS: dict[str, Any] = {"rate": "1/s", "burst": 20}
FAST = {"rate": "40/s"}


# 1. Carried is the state at the departure, not at the first look


@each_engine
def test_1_state_is_carried_as_of_the_departure(make: MakeEngine) -> None:
    world = World(make, moved(TOKENS, FAST, "r", "q"))
    assert world.take(who="r") == 20
    world.publish(moved(TOKENS, FAST, "q"))
    world.wait(1)
    assert world.ask(who="q")
    assert world.take(who="r") == 1


@each_engine
@each_window
def test_1_counts_are_carried_as_of_the_departure(make: MakeEngine, kind: str) -> None:
    """Costs of others, charged to the old bucket afterwards, do not count."""
    limit = COUNTED[kind]
    world = World(make, moved(limit, {"mode": "enforce"}, "r", "q"))
    assert sum(bool(world.ask(who="r")) for _ in range(12)) == 12
    world.publish(moved(limit, {"mode": "enforce"}, "q"))
    world.wait(1)
    assert world.take(who="q") == 8
    assert world.take(who="r") == 8
    world.wait(AFTER[kind])
    assert world.take(who="r") == 20


# 2. Evicted is only what equals the default now and did at every change that counts


@each_engine
@pytest.mark.parametrize("strangers", [0, 200])
def test_2_bucket_that_is_full_again_is_not_forgotten_while_it_counts(
    make: MakeEngine, strangers: int
) -> None:
    limit = {**TOKENS, "per": ["tenant"]}
    world = World(make, moved(limit, FAST, "r", "q"))
    assert world.take(who="r", tenant="r") == 20
    world.publish(moved(limit, FAST, "q"))
    world.wait(1)
    world.strangers(strangers, who="q")
    world.strangers(strangers, who="another")
    assert world.take(who="r", tenant="r") == 1


@each_engine
def test_2_window_that_is_over_in_the_old_bucket_is_not_forgotten_while_it_counts(
    make: MakeEngine,
) -> None:
    """The old bucket counts for 2 s, the request's own limit since the change for 10 s."""
    limit = {**COUNTED["window"], "per": ["tenant"]}
    world = World(make, moved(limit, {"rate": "20/2s"}, "r", "q"))
    assert world.take(who="r", tenant="r") == 20
    world.publish(moved(limit, {"rate": "20/2s"}, "q"))
    world.wait(3)
    world.strangers(200, who="q")
    world.strangers(200, who="another")
    assert world.take(who="r", tenant="r") == 0
    world.wait(8)
    assert world.take(who="r", tenant="r") == 20


# 3. The whole path counts, not the pair of old and new


@each_engine
def test_3_two_requests_with_the_same_ends_and_other_ways(make: MakeEngine) -> None:
    base = {"rate": "40/s", "burst": 20}
    slow = {"rate": "1/s"}
    world = World(make, documents(base, ("old", ["r", "q"], FAST), ("mid", [NOBODY], slow)))
    assert world.take(who="r") == 20
    world.publish(documents(base, ("old", [NOBODY], FAST), ("mid", ["r"], slow)))
    assert not world.ask(who="q")
    world.wait(1)
    world.publish(documents(base, ("old", [NOBODY], FAST), ("mid", [NOBODY], slow)))
    assert world.take(who="r") == 1


@each_engine
@each_window
def test_3_counts_of_a_request_that_came_another_way(make: MakeEngine, kind: str) -> None:
    limit, same = COUNTED[kind], {"mode": "enforce"}
    world = World(make, documents(limit, ("old", ["r", "q"], same), ("mid", [NOBODY], same)))
    assert sum(bool(world.ask(who="r")) for _ in range(10)) == 10
    world.publish(documents(limit, ("old", [NOBODY], same), ("mid", ["r"], same)))
    assert world.ask(who="q", cost=0)
    world.wait(1)
    assert world.take(who="r") == 10
    world.publish(documents(limit, ("old", [NOBODY], same), ("mid", [NOBODY], same)))
    assert world.take(who="r") == 0


# 4. Missing is a debt that no burst clips

HUNDRED: dict[str, dict[str, Any]] = {
    "tokens": {"rate": "1/h", "burst": 100},
    "window": {"algorithm": "sliding-window", "rate": "100/h"},
    "quota": {"algorithm": "quota", "rate": "100/h"},
}
TEN = {"tokens": {"burst": 10}, "window": {"rate": "10/h"}, "quota": {"rate": "10/h"}}


@each_engine
@each_kind
@pytest.mark.parametrize("looking", [True, False], ids=["seen", "unseen"])
def test_4_debt_survives_a_small_burst(make: MakeEngine, kind: str, looking: bool) -> None:
    limit = {**HUNDRED[kind], "per": ["tenant"]}
    who = {"who": "r", "tenant": "r"}
    world = World(make, moved(limit, {"mode": "enforce"}, "r"))
    assert world.take(**who) == 100
    world.publish(moved(limit, TEN[kind], "r"))
    if looking:
        assert not world.ask(**who)
    world.publish(moved(limit, TEN[kind]))
    assert world.take(**who) == 0


# 5. At every later instant the larger of the two counts


@each_engine
@pytest.mark.parametrize("looking", [True, False], ids=["seen", "unseen"])
def test_5_older_counts_do_not_hide_younger_ones(make: MakeEngine, looking: bool) -> None:
    """``new`` holds 10 of 0 s, ``r`` brings 9 of 1.5 s: at 2 s eleven are free, not twenty."""
    limit = {"algorithm": "sliding-window", "rate": "20/2s"}
    same = {"mode": "enforce"}
    world = World(make, moved(limit, same, "r"))
    assert sum(bool(world.ask(who="s")) for _ in range(10)) == 10
    world.wait(1.5)
    assert sum(bool(world.ask(who="r")) for _ in range(9)) == 9
    world.publish(moved(limit, same))
    if looking:
        assert world.ask(who="r", cost=0).remaining == 10
    world.wait(0.7)
    assert world.take(who="r") == 11
    world.wait(1.5)
    assert world.take(who="r") == 9


@each_engine
def test_5_younger_counts_do_not_add_to_older_ones(make: MakeEngine) -> None:
    limit = {"algorithm": "quota", "rate": "20/min"}
    world = World(make, moved(limit, {"mode": "enforce"}, "r"))
    assert sum(bool(world.ask(who="s")) for _ in range(10)) == 10
    assert sum(bool(world.ask(who="r")) for _ in range(9)) == 9
    world.publish(moved(limit, {"mode": "enforce"}))
    assert world.take(who="r") == 10


# 6. What was left counts as long as the rates since say, not those at the departure


@each_engine
def test_6_rate_that_falls_after_the_departure(make: MakeEngine) -> None:
    """0.1 s at 40/s and 0.5 s at 1/s are four tokens and a half."""
    base = {"rate": "40/s", "burst": 20}
    world = World(make, moved(base, {"mode": "enforce"}, "r"))
    assert world.take(who="r") == 20
    world.publish(moved(base, {"mode": "enforce"}))
    world.wait(0.1)
    world.publish(moved({**base, "rate": "1/s"}, {"mode": "enforce"}))
    world.wait(0.5)
    assert world.take(who="r") == 4


@each_engine
@pytest.mark.parametrize(
    ("before", "after", "seconds"),
    [
        ({"algorithm": "sliding-window", "rate": "20/2s"}, {"rate": "20/10s"}, 11),
        ({"algorithm": "quota", "rate": "20/min"}, {"rate": "20/h"}, 3600),
    ],
    ids=["window", "quota"],
)
def test_6_window_that_grows_after_the_departure(
    make: MakeEngine, before: dict[str, Any], after: dict[str, Any], seconds: int
) -> None:
    world = World(make, moved(before, {"mode": "enforce"}, "r"))
    assert world.take(who="r") == 20
    world.publish(moved(before, {"mode": "enforce"}))
    world.wait(1)
    world.publish(moved({**before, **after}, {"mode": "enforce"}))
    world.wait(5)
    assert world.take(who="r") == 0
    world.wait(seconds)
    assert world.take(who="r") == 20


# Also: what "new" means, buckets of groups out of force, and carrying twice


@each_engine
@pytest.mark.parametrize("new_bucket", ["never-asked", "evicted", "just-made"])
def test_new_group_starts_with_the_tokens_and_an_old_one_with_the_debt(
    make: MakeEngine, new_bucket: str
) -> None:
    """10 of 20 are left; the other group admits 100: what is missing is 10, not 90.

    A group in force before the change is an old one whether anything is stored there or not.
    """
    limit = {"rate": "1/h", "burst": 20, "per": ["tenant"]}
    who = {"who": "r", "tenant": "r"}
    big = {"rate": "100/s", "burst": 100} if new_bucket == "evicted" else {"burst": 100}
    before = documents(limit, ("big", [NOBODY], big))
    world = World(make, documents(limit) if new_bucket == "just-made" else before)
    assert sum(bool(world.ask(**who)) for _ in range(10)) == 10
    if new_bucket == "evicted":
        assert world.ask(who=NOBODY, tenant="r")
        world.wait(1)
        world.strangers(200, who=NOBODY)
        world.publish(documents(limit, ("big", [NOBODY], {"rate": "1/h", "burst": 100})))
    world.publish(documents(limit, ("big", ["r", NOBODY], {"rate": "1/h", "burst": 100})))
    assert world.take(**who) == (10 if new_bucket == "just-made" else 90)


@each_engine
@each_kind
def test_group_out_of_force_takes_its_buckets_along(make: MakeEngine, kind: str) -> None:
    """``r`` was seen meanwhile, ``s`` was not: both come back with what they left."""
    limit = {**HUNDRED[kind], "per": ["tenant"]}
    both = moved(limit, {"mode": "enforce"}, "r", "s")
    world = World(make, both)
    for _ in range(30):
        assert world.ask(who="r", tenant="r")
    assert world.take(who="s", tenant="s") == 100
    world.publish(documents(limit))
    for _ in range(30):
        assert world.ask(who="r", tenant="r")
    world.wait(1)
    world.publish(both)
    assert world.take(who="r", tenant="r") == 40
    assert world.take(who="s", tenant="s") == 0


@each_engine
@each_kind
def test_to_carry_twice_changes_nothing(make: MakeEngine, kind: str) -> None:
    """Peeks, refusals and admissions all carry, and only once."""
    limit = HUNDRED[kind]
    world = World(make, moved(limit, {"mode": "enforce"}, "r", "q"))
    for _ in range(30):
        assert world.ask(who="r")
    world.publish(moved(limit, {"mode": "enforce"}))
    for who in "rqrqr":
        assert world.ask(who=who, cost=0).remaining == 70
        assert not world.ask(who=who, cost=71)
    for _ in range(20):
        assert world.ask(who="r")
    assert world.ask(who="q", cost=0).remaining == 50
    assert world.take(who="r") == 50


@each_engine
@each_kind
def test_many_buckets_merge_into_one_by_the_largest_debt(make: MakeEngine, kind: str) -> None:
    """Three tenants used 30, 60 and 10; without ``per`` they share what the second left."""
    limit = HUNDRED[kind]
    world = World(make, documents({**limit, "per": ["tenant"]}))
    for tenant, cost in (("x", 30), ("y", 60), ("z", 10)):
        assert world.ask(tenant=tenant, cost=cost)
    world.publish(documents({**limit, "per": []}))
    left = [world.ask(tenant=tenant, cost=0).remaining for tenant in "xyz"]
    assert left == [70, 40, 40]
    assert world.take(tenant="x") == 40
