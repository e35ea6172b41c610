"""Slots of requests that moved count in the old bucket and in the new one until their release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.engines import each_engine
from engine.publications.test_counter_examples import documents, moved
from engine.publications.world import World

if TYPE_CHECKING:
    from engine.engines import MakeEngine
    from engine.publications.world import Documents
    from ratectl.engine.decision import Decision

SLOTS: dict[str, Any] = {"algorithm": "concurrency", "max": 3, "hold": "60s"}
OLD = {"mode": "enforce"}


@each_engine
def test_held_slots_move_along_and_are_released_in_both_buckets(make: MakeEngine) -> None:
    world = World(make, moved(SLOTS, OLD, "r", "q"))
    held = [world.ask(who="r") for _ in range(3)]
    assert all(held)
    world.publish(moved(SLOTS, OLD, "q"))
    assert not world.ask(who="r")
    held[0].release()
    assert world.take(who="r") == 1
    assert world.take(who="q") == 1
    world.wait(60)
    assert world.take(who="r") == 3


def scopes(limit: dict[str, Any], *below: str) -> Documents:
    """Return documents in which ``/`` and each of these scopes have buckets of their own."""
    return {"/": {"limits": {"l": limit}}, **{scope: {} for scope in below}}


def end(world: World, held: Decision, way: str) -> None:
    """End a slot that was taken 30 seconds ago."""
    if way == "released":
        held.release()
    else:
        world.wait(30)


def take(world: World, way: str, scope: str) -> None:
    """Take a slot that stays held."""
    if way == "check":
        assert world.ask(scope)
    elif way == "check_many":
        assert world.engine.check_many([(scope, {})], world.now)[0]
    else:
        assert world.engine.gate(scope)()


each_end = pytest.mark.parametrize("way", ["released", "expired"])


@each_engine
@each_end
@pytest.mark.parametrize("by", ["check", "check_many", "gate"])
def test_slots_taken_after_a_request_moved_count_in_their_own_bucket_only(
    make: MakeEngine, way: str, by: str
) -> None:
    """Also if no slot is held any more, and the new bucket was not used since."""
    world = World(make, scopes(SLOTS))
    held = world.ask("/a")
    world.wait(30)
    world.publish(scopes(SLOTS, "/a"))
    assert world.ask("/a", cost=0).remaining == 2
    end(world, held, way)
    take(world, by, "/")
    assert world.ask("/", cost=0).remaining == 2
    assert world.take("/a") == 3


@each_engine
@each_end
def test_slots_of_keys_without_room_count_in_their_own_bucket_only(
    make: MakeEngine, way: str
) -> None:
    """The table has room for one bucket, so other keys share buckets."""
    limit = {**SLOTS, "per": ["tenant"]}
    world = World(make, scopes(limit), max_buckets=1)
    assert world.ask(tenant="first")
    held = world.ask("/a", tenant="t")
    world.wait(30)
    world.publish(scopes(limit, "/a"))
    assert world.ask("/a", tenant="t", cost=0).remaining == 2
    end(world, held, way)
    assert world.ask(tenant="t").remaining == 2
    assert world.ask("/a", tenant="t", cost=0).remaining == 3


@each_engine
@each_end
def test_slots_count_in_their_own_bucket_only_after_several_publications(
    make: MakeEngine, way: str
) -> None:
    world = World(make, scopes(SLOTS))
    held = world.ask("/a")
    world.wait(30)
    world.publish(scopes(SLOTS, "/a"))
    assert world.ask("/a", cost=0).remaining == 2
    world.publish(scopes({**SLOTS, "max": 6}, "/a"))
    world.publish(scopes(SLOTS, "/a", "/b"))
    assert world.ask("/b", cost=0).remaining == 2
    end(world, held, way)
    world.publish(scopes({**SLOTS, "max": 5}, "/a", "/b"))
    assert world.ask("/").remaining == 4
    assert world.take("/a") == 5
    assert world.take("/b") == 5


@each_engine
def test_slots_that_became_tokens_are_not_freed_in_any_bucket_that_counts_them(
    make: MakeEngine,
) -> None:
    """``s`` has carried the slot of ``r`` to its bucket, which another algorithm counts then."""

    def published(limit: dict[str, Any], *who: str) -> Documents:
        return documents(limit, ("new", [*who, "nobody"], OLD))

    world = World(make, published(SLOTS))
    held = world.ask(who="r")
    world.publish(published(SLOTS, "r", "s"))
    assert world.ask(who="s").remaining == 1
    world.publish(published({"rate": "1/h", "burst": 3}, "r", "s"))
    held.release()
    assert world.take(who="r") == 1
