"""Requests that lack an attribute: they share a bucket, or the limit does not apply to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.books import Limit
from engine.plans import rate
from engine.rules import Slots

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conformance.engine_rig import Rig
    from ratectl.engine.api import LimitCounts
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision

HOURLY = rate(1, 3_600, 2)


def limit(name: str = "per-tenant", **more: Any) -> Limit:
    return Limit("/", name, more.pop("rule", HOURLY), more.pop("per", ("tenant",)), **more)


SHARES = limit()
SKIPS = limit(skips=True)
EVERYBODY = limit("everybody", per=(), rule=rate(1, 3_600, 5))


def check(rig: Rig, cost: Cost = 1, **who: Any) -> Decision:
    return rig.engine.check("/", who, cost, rig.now)  # with an instant, the core itself decides


def usage(rig: Rig, name: str = "per-tenant") -> LimitCounts:
    (found,) = [of for of in rig.engine.usage().limits if of.limit == name]
    return found


def counts(rig: Rig, name: str = "per-tenant") -> tuple[int, int, int]:
    found = usage(rig, name)
    return found.allowed, found.refused, found.absent


def test_requests_without_the_attribute_share_one_bucket_and_are_counted(rig: Rig) -> None:
    rig.publish(SHARES)
    assert [check(rig).allowed for _ in range(3)] == [True, True, False]
    assert check(rig, tenant="acme")
    assert counts(rig) == (3, 1, 3)


def test_a_limit_that_skips_them_does_not_apply(rig: Rig) -> None:
    rig.publish(SKIPS, EVERYBODY)
    assert [check(rig).allowed for _ in range(6)] == [True] * 5 + [False]
    assert check(rig).limit == "everybody"
    assert counts(rig) == (0, 0, 7)
    assert counts(rig, "everybody") == (5, 2, 0)
    assert usage(rig).keys == 0


def test_a_request_that_every_limit_skips_is_allowed_by_none(rig: Rig) -> None:
    rig.publish(SKIPS)
    decision = check(rig)
    assert (decision.allowed, decision.reason, decision.limit, decision.scope) == (
        True, "ok", None, "/",
    )  # fmt: skip
    decision.settle(5)
    assert [check(rig, tenant="acme").allowed for _ in range(3)] == [True, True, False]
    assert counts(rig) == (2, 1, 1)


@pytest.mark.parametrize(
    "who", [{}, {"tenant": "a"}, {"route": "r"}, {"tenant": None, "route": "r"}]
)
def test_one_missing_attribute_of_several_is_enough(rig: Rig, who: Mapping[str, Any]) -> None:
    rig.publish(limit(per=("tenant", "route"), skips=True))
    assert all(check(rig, **who) for _ in range(5))
    assert counts(rig) == (0, 0, 5)


@pytest.mark.parametrize("empty", ["", "0", 0])
def test_an_empty_value_is_not_absent(rig: Rig, empty: object) -> None:
    rig.publish(SKIPS)
    assert [check(rig, tenant=empty).allowed for _ in range(3)] == [True, True, False]
    assert counts(rig) == (2, 1, 0)


@pytest.mark.parametrize("kind", ["a mapping", "a new key"])
def test_decisions_that_take_longer_agree(rig: Rig, kind: str) -> None:
    """Attributes that are no plain dict, and the first requests after a publication."""

    class Attributes(dict[str, str]):
        pass

    rig.publish(SKIPS, EVERYBODY)
    who = Attributes() if kind == "a mapping" else {}
    for _ in range(2):
        assert rig.engine.check("/", who, 1, rig.now)
    assert (counts(rig), counts(rig, "everybody")) == ((0, 0, 2), (2, 0, 0))


def test_other_ways_to_ask_agree(rig: Rig) -> None:
    rig.publish(SKIPS)
    gate = rig.engine.gate("/", "tenant")
    assert [gate(None) for _ in range(3)] == [True] * 3
    assert all(rig.engine.check_many([("/",), ("/", {"tenant": "a"}), ("/", {}, 0)], rig.now))
    assert rig.engine.attempt("/", {}, 1, rig.now)
    assert [place.key for place in rig.engine.places("/", {})] == []
    assert len(rig.engine.places("/", {"tenant": "a"})) == 1
    assert usage(rig).absent == 6


def test_costs_in_units_and_absent_attributes_combine(rig: Rig) -> None:
    rig.publish(limit("tokens", unit="tokens", skips=True), SHARES)
    assert check(rig, {"tokens": 500})
    assert check(rig)
    assert counts(rig, "tokens") == (0, 0, 1)
    assert counts(rig) == (2, 0, 2)
    assert check(rig, {"tokens": 3}, tenant="a").reason == "never"


def test_a_settlement_leaves_a_limit_that_skipped_the_request_alone(rig: Rig) -> None:
    rig.publish(limit("tokens", unit="tokens", skips=True))
    decision = check(rig, {"tokens": 0})
    decision.settle({"tokens": 2})
    rig.publish(limit("tokens", unit="tokens"))
    assert check(rig, {"tokens": 2}).remaining == 0
    assert not check(rig, {"tokens": 1})


def test_slots_of_a_limit_that_skips_the_request_are_not_taken(rig: Rig) -> None:
    rig.publish(limit(rule=Slots(1, 60 * 10**9), skips=True))
    first, second = check(rig), check(rig)
    assert first.allowed
    assert second.allowed
    assert check(rig, tenant="a").allowed
    assert not check(rig, tenant="a").allowed


def test_a_publication_changes_it_in_place(rig: Rig) -> None:
    """The shared bucket keeps its level while the limit skips such requests."""
    rig.publish(SHARES)
    assert [check(rig).allowed for _ in range(3)] == [True, True, False]
    rig.publish(SKIPS)
    assert check(rig).allowed
    rig.publish(SHARES)
    assert not check(rig).allowed
    assert counts(rig) == (2, 2, 5)
