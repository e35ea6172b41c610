"""Attempts of requests that wait: they decide as checks do, and count no refusal for now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.plans import verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from conformance.engine_rig import Rig
    from ratectl.engine.buckets.place import Place
    from ratectl.engine.decision import Decision

SECOND = 10**9
ACME = {"tenant": "acme"}
LIMITS: dict[str, dict[str, Any]] = {
    "tokens": {"rate": "1/s", "burst": 2},
    "window": {"algorithm": "sliding-window", "rate": "2/s"},
    "quota": {"algorithm": "quota", "rate": "2/min"},
    "slots": {"algorithm": "concurrency", "max": 2},
    "odd": {"rate": "3/7s", "burst": 2, "per": "tenant"},
}


class Watching:
    """A watcher and a mirror."""

    def __init__(self) -> None:
        self.freed_places: list[Place] = []
        self.changes = 0
        self.seen: list[str] = []

    def freed(self, places: Iterable[Place]) -> None:
        self.freed_places += places

    def changed(self) -> None:
        self.changes += 1

    def decided(
        self, scope: str, attributes: Mapping[str, str], cost: int, now: int, decision: Decision
    ) -> bool:
        self.seen.append(decision.reason)
        return False

    def released(self, decision: Decision) -> None: ...

    def settled(self, decision: Decision, actual: int, now: int) -> None: ...


@pytest.mark.parametrize("fields", LIMITS.values(), ids=LIMITS)
def test_attempts_decide_as_checks_do(rig: Rig, fields: dict[str, Any]) -> None:
    policies = {"/a": {"limits": {"l": fields}}, "/b": {"limits": {"l": fields}}}
    rig.write(policies)
    for cost in (1, 0, 1, 1, 2, 3, 0, 1):
        checked = rig.ask(cost, scope="/a", tenant="acme")
        attempted = verdict(rig.engine.attempt("/b", ACME, cost))
        assert attempted[:4] + attempted[5:] == checked[:4] + checked[5:]
        rig.now += SECOND // 3
    checks, attempts = rig.usage(scope="/a"), rig.usage(scope="/b")
    assert (attempts.allowed, attempts.never) == (checks.allowed, checks.never)
    assert (checks.refused > 0, attempts.refused) == (True, 0)
    assert sum(count for _, count in attempts.top_refused) == attempts.never > 0


def test_shadow_limit_counts_no_refused_attempt(rig: Rig) -> None:
    limits = {
        "l": {"rate": "1/day", "burst": 1, "mode": "shadow"},
        "real": {"rate": "1/s", "burst": 1},
    }
    rig.write({"/": {"limits": limits}})
    decisions = [rig.engine.attempt("/", {}) for _ in range(5)]
    assert [of.reason for of in decisions] == ["ok", *["limited"] * 4]
    assert rig.usage().shadow_refused == 0


def test_places_are_the_buckets_that_can_refuse(rig: Rig) -> None:
    limits = {
        "own": {"rate": "1/s", "burst": 2, "per": "tenant"},
        "dark": {"rate": "1/s", "mode": "shadow"},
    }
    rig.write({"/": {"limits": limits, "budgets": {"all": {"rate": "9/s", "burst": 9}}}})
    places = rig.engine.places("/x/y", ACME)
    assert sorted((of.limit, of.scope, of.capacity) for of in places) == [
        ("all", "/", 9), ("own", "/", 2)
    ]  # fmt: skip
    assert rig.engine.places("/", ACME) == places
    other = rig.engine.places("/", {"tenant": "other"})
    assert len(set(places) & set(other)) == 1
    rig.write({"/": {"limits": {"own": {"rate": "5/s", "burst": 5, "per": "tenant"}}}})
    assert rig.engine.places("/", ACME)[0] in places
    rig.engine.waive({"/": "open"})
    assert rig.engine.places("/", ACME) == ()
    rig.engine.waive({"/": "shadow"})
    assert rig.engine.places("/", ACME) == ()


def test_watcher_learns_of_releases_refunds_and_changes(rig: Rig) -> None:
    rig.write({"/": {"limits": {"l": {"algorithm": "concurrency", "max": 5, "per": "tenant"}}}})
    early = rig.engine.check("/", ACME)
    watching = Watching()
    rig.engine.watch(watching)
    (place,) = rig.engine.places("/", ACME)
    with rig.engine.check("/", ACME):
        assert watching.freed_places == []
    early.release()
    assert watching.freed_places == [place, place]
    decision = rig.engine.check("/", ACME, 2)
    decision.settle(3)
    assert len(watching.freed_places) == 2
    decision.settle(1)
    assert len(watching.freed_places) == 3
    rig.write({"/": {"limits": {"l": {"rate": "1/s"}}}})
    rig.engine.waive({"/": "open"})
    assert watching.changes == 2
    rig.engine.watch(None)
    decision.release()
    rig.engine.waive({})
    assert (len(watching.freed_places), watching.changes) == (3, 2)


def test_mirror_sees_only_the_end_of_a_wait(rig: Rig) -> None:
    rig.write({"/": {"limits": {"l": {"rate": "1/s", "burst": 1}}}})
    mirror = Watching()
    rig.engine.mirror(mirror)
    (place,) = rig.engine.places("/", {})
    for _ in range(3):
        refusal = rig.engine.attempt("/", {})
    rig.engine.attempt("/", {}, 2)
    assert mirror.seen == ["ok", "never"]
    rig.engine.wait_at(place)
    rig.engine.give_up(place, "/", {}, 1, refusal)
    assert mirror.seen == ["ok", "never", "limited"]
    used = rig.usage()
    assert (used.allowed, used.refused, used.never, used.waited) == (1, 1, 1, 1)


def test_unreadable_attributes_fail_as_in_a_check(rig: Rig) -> None:
    class Broken(dict[str, str]):
        def get(self, *_: object) -> Any:
            raise LookupError("no attribute today")

    rig.write({"/": {"limits": {"l": {"rate": "1/s", "per": "tenant"}}}})
    with pytest.raises(LookupError):
        rig.engine.attempt("/", Broken())
    failed = rig.engine.check("/", ACME)
    rig.engine.guard(lambda _scope, _error: failed, lambda: failed)
    assert rig.engine.attempt("/", Broken()) is failed
    assert rig.engine.places("/", Broken()) == ()
