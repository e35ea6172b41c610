"""Units: limits that count tokens or bytes beside ones that count requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.books import Limit
from engine.plans import by_scope, plan_set, rate
from engine.rules import SECOND, Slots, Tokens, Window
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conformance.engine_rig import Rig
    from engine.rules import Rule
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision

HOURLY = rate(1, 3_600, 10)


def limit(name: str, rule: Rule = HOURLY, unit: str = "requests", **more: Any) -> Limit:
    return Limit(more.pop("scope", "/"), name, rule, unit=unit, **more)


def tokens(capacity: int = 1_000, **more: Any) -> Limit:
    return limit("tokens", rate(1, 3_600, capacity), "tokens", **more)


REQUESTS = limit("requests")
TOKENS = tokens()


def check(rig: Rig, cost: Cost = 1, scope: str = "/", **who: str) -> Decision:
    return rig.engine.check(scope, who, cost, rig.now)  # with an instant, the core itself decides


def lefts(rig: Rig) -> dict[str, int | None]:
    rig.engine.usage()
    assert check(rig, 0)
    return {of.limit: of.lowest for of in rig.engine.usage().limits}


# -- which limits are consulted


def test_mapping_charges_its_units_and_one_request(rig: Rig) -> None:
    rig.publish(REQUESTS, TOKENS)
    assert check(rig, {"tokens": 400})
    assert lefts(rig) == {"requests": 9, "tokens": 600}
    assert check(rig, {"tokens": 100, "requests": 3})
    assert lefts(rig) == {"requests": 6, "tokens": 500}
    assert check(rig, {"requests": 0, "tokens": 1})
    assert check(rig, {})
    assert lefts(rig) == {"requests": 5, "tokens": 499}


def test_limit_of_a_unit_that_the_cost_does_not_name_is_not_consulted(rig: Rig) -> None:
    rig.publish(REQUESTS, TOKENS)
    assert check(rig, {"tokens": 1_000})
    for cost in (1, {"bytes": 5_000}, {}):
        decision = check(rig, cost)
        assert decision.allowed
        assert (decision.limit, decision.unit) == ("requests", "requests")
    refused = check(rig, {"tokens": 1})
    assert (refused.reason, refused.limit, refused.unit) == ("limited", "tokens", "tokens")
    counts = {of.limit: (of.allowed, of.refused, of.lowest) for of in rig.engine.usage().limits}
    assert counts == {"requests": (4, 0, 6), "tokens": (1, 1, 0)}


def test_integer_cost_is_a_number_of_requests(rig: Rig) -> None:
    rig.publish(TOKENS)
    decision = check(rig, 5_000)
    assert decision.allowed
    assert (decision.reason, decision.limit, decision.unit, decision.scope) == (
        "ok",
        None,
        None,
        "/",
    )
    assert rig.usage("tokens").allowed == 0
    assert rig.usage("tokens").lowest is None


def test_integer_zero_peeks_at_limits_of_all_units(rig: Rig) -> None:
    rig.publish(REQUESTS, TOKENS)
    check(rig, {"tokens": 900})
    peeked = check(rig, 0)
    assert (peeked.limit, peeked.remaining, peeked.capacity) == ("tokens", 100, 1_000)
    assert lefts(rig) == {"requests": 9, "tokens": 100}


def test_unit_named_with_zero_peeks(rig: Rig) -> None:
    rig.publish(REQUESTS, TOKENS)
    check(rig, {"tokens": 900})
    peeked = check(rig, {"tokens": 0})
    assert (peeked.limit, peeked.unit, peeked.remaining) == ("tokens", "tokens", 100)
    assert lefts(rig) == {"requests": 8, "tokens": 100}
    check(rig, {"tokens": 0}).settle({"tokens": 105})
    assert not check(rig, {"tokens": 0}), "in debt"


def test_never_is_judged_for_each_unit(rig: Rig) -> None:
    rig.publish(REQUESTS, TOKENS)
    assert check(rig, {"tokens": 11}), "more than the burst of requests"
    refused = check(rig, {"tokens": 1_001})
    assert (refused.reason, refused.limit, refused.unit) == ("never", "tokens", "tokens")
    refused = check(rig, {"tokens": 1, "requests": 11})
    assert (refused.reason, refused.limit, refused.unit) == ("never", "requests", "requests")
    assert lefts(rig) == {"requests": 9, "tokens": 989}, "all or nothing"
    assert [of.never for of in rig.engine.usage().limits] == [1, 1]


def test_slots_count_requests_unless_their_limit_names_a_unit(rig: Rig) -> None:
    rig.publish(limit("calls", Slots(2, 60 * SECOND)), limit("jobs", Slots(9, 60 * SECOND), "jobs"))
    one, two = check(rig, {"jobs": 4}), check(rig)
    assert (one.allowed, two.allowed, check(rig).limit) == (True, True, "calls")
    assert check(rig, {"jobs": 5, "requests": 0}), "5 of 9 are free"
    assert check(rig, {"jobs": 1, "requests": 0}).reason == "limited"
    two.release()
    assert not check(rig, {"jobs": 4}), "none of these is free"
    one.release()
    assert check(rig, {"jobs": 4})
    assert check(rig, {"jobs": 10, "requests": 0}).reason == "never"


def test_budgets_and_shadow_limits_count_their_units(rig: Rig) -> None:
    rig.publish(
        tokens(budget=True), tokens(5, scope="/a", shadow=True), limit("requests", scope="/a")
    )
    decision = check(rig, {"tokens": 6}, "/a")
    assert (decision.allowed, decision.reason, decision.unit) == (True, "shadow", "tokens")
    assert check(rig, 1, "/a").reason == "ok", "the shadow limit is not consulted"
    counts = {
        (of.scope, of.limit): (of.allowed, of.shadow_refused) for of in rig.engine.usage().limits
    }
    assert counts == {("/", "tokens"): (1, 0), ("/a", "tokens"): (0, 1), ("/a", "requests"): (2, 0)}


def test_request_carries_over_to_limits_that_are_not_consulted(rig: Rig) -> None:
    per_key = tokens(per=("tenant",))
    rig.publish(per_key)
    check(rig, {"tokens": 700}, tenant="a")
    rig.publish(tokens())
    assert check(rig, 1, tenant="a").limit is None
    assert check(rig, {"tokens": 0}, tenant="b").remaining == 300, "carried by the first look"


# -- which limit is named


def test_decision_names_the_limit_with_the_least_share_left(rig: Rig) -> None:
    rig.publish(REQUESTS, TOKENS)
    decision = check(rig, {"tokens": 500})
    assert (decision.limit, decision.remaining, decision.capacity) == ("tokens", 500, 1_000)
    decision = check(rig, {"tokens": 0, "requests": 5})
    assert (decision.limit, decision.remaining, decision.capacity) == ("requests", 4, 10)


def test_first_of_equal_shares_is_named(rig: Rig) -> None:
    rig.publish(REQUESTS, TOKENS)
    assert check(rig, {"tokens": 100}).limit == "requests"
    rig.publish(TOKENS, REQUESTS)
    assert check(rig, 0).limit == "tokens"


def test_window_of_another_unit_counts_many_instants(rig: Rig) -> None:
    rig.publish(limit("tokens", Window(1_000, 60 * SECOND), "tokens"))
    for second in range(40):
        rig.now = second * SECOND
        assert check(rig, {"requests": 0, "tokens": 10}).remaining == 990 - 10 * second
    rig.now = 60 * SECOND
    assert check(rig, {"requests": 0, "tokens": 0}).remaining == 610


def test_shares_are_compared_exactly(rig: Rig) -> None:
    """Floats cannot tell these two apart."""
    large = 2**60
    rig.publish(
        limit("one", Window(large, SECOND), "a"), limit("other", Window(large - 1, SECOND), "b")
    )
    assert check(rig, {"a": 1, "b": 1}).limit == "other"
    rig.publish(
        limit("one", Window(large - 1, SECOND), "c"), limit("other", Window(large, SECOND), "d")
    )
    assert check(rig, {"c": 1, "d": 1}).limit == "one"


def test_limit_without_capacity_is_the_tightest(rig: Rig) -> None:
    rig.publish(REQUESTS, limit("none", Tokens(1, SECOND, 0)), TOKENS)
    peeked = check(rig, 0)
    assert (peeked.allowed, peeked.limit, peeked.remaining, peeked.capacity) == (True, "none", 0, 0)


# -- settling


def test_settle_corrects_only_the_units_that_it_names(rig: Rig) -> None:
    one, other = Window(10, 3_600 * SECOND), Window(1_000, 3_600 * SECOND)
    rig.publish(limit("requests", one), limit("tokens", other, "tokens"))
    decision = check(rig, {"tokens": 400})
    decision.settle({"tokens": 100})
    assert lefts(rig) == {"requests": 9, "tokens": 900}
    decision.settle({"requests": 4})
    assert lefts(rig) == {"requests": 6, "tokens": 900}
    decision.settle({})
    decision.settle({"bytes": 9})
    assert lefts(rig) == {"requests": 6, "tokens": 900}
    decision.settle({"tokens": 300, "requests": 2})
    assert lefts(rig) == {"requests": 8, "tokens": 700}, "the last call counts"


def test_integer_after_a_mapping_is_an_error(rig: Rig) -> None:
    """A wrong program fails whatever the answer is, so it fails in every environment."""
    rig.publish(REQUESTS, TOKENS)
    free = rig.another()
    free.swap(plan_set(1, by_scope(limit("l", scope="/elsewhere"))))
    decisions = [
        check(rig, {"tokens": 400}), check(rig, {"tokens": 9_999}), check(rig, {"requests": 10}),
        *(free.check("/", {}, {"tokens": 1}, rig.now) for _ in range(2)),
        rig.engine.attempt("/", {}, {"tokens": 9_999}),
    ]  # fmt: skip
    settled = check(rig, {"tokens": 5})
    settled.settle({"tokens": 5})
    for decision in (*decisions, settled):
        with pytest.raises(UsageError, match=r"is one as well, not 3: write \{'requests': 3\}"):
            decision.settle(3)
        decision.settle({"requests": 1})
    assert lefts(rig) == {"requests": 8, "tokens": 595}


def test_integer_after_an_integer_corrects_requests(rig: Rig) -> None:
    rig.publish(REQUESTS, TOKENS)
    decision = check(rig, 0)
    decision.settle(4)
    assert lefts(rig) == {"requests": 6, "tokens": 1_000}


def test_mapping_after_an_integer_corrects_its_units(rig: Rig) -> None:
    rig.publish(REQUESTS, TOKENS)
    decision = check(rig, 2)
    decision.settle({"requests": 3})
    assert lefts(rig) == {"requests": 7, "tokens": 1_000}
    check(rig, 0).settle({"tokens": 250})
    assert lefts(rig) == {"requests": 7, "tokens": 750}


def test_unit_that_was_not_named_is_charged_by_the_settlement(rig: Rig) -> None:
    window = Window(1_000, 3_600 * SECOND)
    rig.publish(REQUESTS, limit("tokens", window, "tokens", per=("tenant",)))
    decision = check(rig, tenant="a")
    decision.settle({"tokens": 2_500})
    assert check(rig, {"tokens": 0}, tenant="a").reason == "limited"
    assert check(rig, {"tokens": 0}, tenant="b").remaining == 8
    decision.settle({"tokens": 300})
    assert check(rig, {"tokens": 700}, tenant="a"), "a second settlement corrects the first"
    assert not check(rig, {"tokens": 1}, tenant="a")
    usage = {of.limit: (of.allowed, of.refused) for of in rig.engine.usage().limits}
    assert usage["tokens"] == (2, 2)


def test_refused_and_uncovered_requests_are_not_charged_by_a_settlement(rig: Rig) -> None:
    rig.publish(REQUESTS, TOKENS)
    refused = check(rig, {"requests": 11})
    uncovered = rig.another()
    free = uncovered.check("/", {}, {"bytes": 1})
    uncovered.swap(plan_set(1, by_scope(REQUESTS, TOKENS)))
    for decision in (refused, free):
        decision.settle({"tokens": 500, "requests": 5})
    assert lefts(rig) == {"requests": 10, "tokens": 1_000}
    assert uncovered.check("/", {}, 0).remaining == 10


def test_refund_in_one_unit_mints_nothing(rig: Rig) -> None:
    rig.publish(REQUESTS, limit("tokens", rate(1, 1, 10), "tokens"))
    decision = check(rig, {"tokens": 5})
    rig.now = 5 * SECOND
    assert check(rig, {"tokens": 10}), "the bucket was full again"
    decision.settle({"tokens": 0})
    assert not check(rig, {"tokens": 1})


# -- changes of units


@pytest.mark.parametrize("touched", [True, False])
def test_limit_that_changes_its_unit_starts_full(rig: Rig, touched: bool) -> None:
    def counting(unit: str) -> Limit:
        return limit("l", HOURLY, unit)

    rig.publish(counting("requests"))
    decision = check(rig, 8)
    rig.publish(counting("tokens"))
    if touched:
        assert check(rig, {"tokens": 0}).remaining == 10
    decision.settle({"requests": 9})
    assert check(rig, {"tokens": 3}).remaining == 7
    assert [(of.unit, of.lowest) for of in rig.engine.usage().limits] == [("tokens", 7)]
    rig.publish(counting("requests"))
    assert check(rig, 0).remaining == 1, "what was missing in requests counts again"
    assert (rig.usage().unit, rig.usage().allowed) == ("requests", 1), "counts begin again"
    rig.publish(counting("bytes"))
    assert check(rig, 0).remaining == 10


def test_units_of_one_limit_name_are_never_mixed_across_scopes(rig: Rig) -> None:
    rig.publish(limit("l", HOURLY, "tokens"))
    check(rig, {"tokens": 9}, "/a")
    own = limit("l", HOURLY, "bytes", scope="/a")
    rig.publish(limit("l", HOURLY, "tokens"), own)
    assert check(rig, {"bytes": 0}, "/a").remaining == 10
    rig.publish(limit("l", HOURLY, "tokens"), limit("l", HOURLY, "tokens", scope="/a"))
    assert check(rig, {"tokens": 0}, "/a").remaining == 1


# -- other ways to decide


def test_every_way_to_decide_takes_units(rig: Rig) -> None:
    rig.publish(REQUESTS, TOKENS)
    engine = rig.engine
    assert all(engine.check_many([("/", {}, {"tokens": 100}), ("/", {}, 1), ("/",)], rig.now))
    gate = engine.gate("/", "tenant", cost={"tokens": 300})
    assert [gate("a") for _ in range(4)] == [True, True, True, False]
    assert engine.attempt("/", {}, {"tokens": 0}).remaining == 0
    assert not engine.attempt("/", {}, {"tokens": 1})
    assert rig.usage("tokens").refused == 1, "that of the gate"
    assert lefts(rig) == {"requests": 3, "tokens": 0}


def test_places_are_those_of_consulted_limits(rig: Rig) -> None:
    rig.publish(REQUESTS, TOKENS)
    for cost, units in (
        (1, ["requests"]),
        ({"tokens": 1}, ["requests", "tokens"]),
        (0, ["requests", "tokens"]),
    ):
        places = rig.engine.places("/", {}, cost)
        assert [place.unit for place in places] == units
    with pytest.raises(UsageError, match="cost is a whole number"):
        rig.engine.places("/", {}, -1)
    (before,) = rig.engine.places("/", {}, 1)
    rig.publish(limit("requests", HOURLY, "other"))
    assert before not in rig.engine.places("/", {}, {"other": 1})


def test_mirror_sees_checked_costs(rig: Rig) -> None:
    seen: list[object] = []

    class Mirror:
        def decided(
            self, scope: str, who: Mapping[str, str], cost: Cost, now: int, of: Decision
        ) -> bool:
            seen.append(cost)
            return False

        def released(self, decision: Decision) -> None: ...

        def settled(self, decision: Decision, actual: Cost, now: int) -> None:
            seen.append(actual)

    rig.publish(REQUESTS, TOKENS)
    rig.engine.mirror(Mirror())
    given = {"tokens": 3}
    check(rig, given).settle({"tokens": 2})
    rig.engine.attempt("/", {}, given)
    expected = {"requests": 1, "tokens": 3}
    assert seen == [expected, {"tokens": 2}, expected]
    assert all(cost is not given for cost in seen)


# -- wrong costs


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        ({"tokens": -1}, "cost of 'tokens' is a whole number, 0 or more, not -1"),
        ({"tokens": 1.5}, "cost of 'tokens' is a whole number, 0 or more, not 1.5"),
        ({"tokens": True}, "cost of 'tokens' is a whole number, 0 or more, not True"),
        ({"tokens": None}, "cost of 'tokens' is a whole number, 0 or more, not None"),
        ({3: 1}, "cost maps names of units, like 'tokens', not 3"),
        ({None: 1}, "cost maps names of units, like 'tokens', not None"),
        ([("tokens", 1)], r"cost is a whole number, 0 or more, or a mapping of units like "),
        ("tokens", "not 'tokens'"),
        (-1, "a mapping of units like {'tokens': 4000}, not -1"),
    ],
)  # fmt: skip
def test_wrong_cost_is_an_error_and_charges_nothing(rig: Rig, cost: Any, message: str) -> None:
    rig.publish(REQUESTS, TOKENS)
    ways = (
        lambda: check(rig, cost),
        lambda: rig.engine.check_many([("/", {}, cost)]),
        lambda: rig.engine.gate("/", cost=cost),
        lambda: rig.engine.attempt("/", {}, cost),
    )
    decision = check(rig, {"tokens": 1})
    for way in ways:
        with pytest.raises(UsageError) as raised:
            way()
        assert message in str(raised.value)
    with pytest.raises(UsageError, match="actual cost"):
        decision.settle(cost)
    assert lefts(rig) == {"requests": 9, "tokens": 999}


def test_costs_beyond_all_bounds_are_refused_or_counted(rig: Rig) -> None:
    rig.publish(REQUESTS, TOKENS)
    assert check(rig, {"tokens": 10**40}).reason == "never"
    decision = check(rig, {"bytes": 10**40, "tokens": 1})
    assert decision.allowed
    decision.settle({"tokens": 10**40})
    assert check(rig, {"tokens": 0}).reason == "limited"
    decision.settle({"tokens": 1})
    assert check(rig, 1).remaining == 8


def test_decision_is_shown_with_its_unit(rig: Rig) -> None:
    rig.publish(REQUESTS, TOKENS)
    assert "by tokens@/, 10 of 1000 tokens left" in repr(check(rig, {"tokens": 990}))
    assert "by requests@/, 8 of 10 left" in repr(check(rig))
