"""Settle: a cost known only afterwards is corrected in every charged bucket. Mints nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.engine_rig import ENGINES, Rig
from conformance.test_engine_threads import together
from ratectl.errors import UsageError
from soak import scaled

if TYPE_CHECKING:
    from ratectl.engine.decision import Decision

Policies = dict[str, dict[str, Any]]

SECOND = 10**9
HOUR = 3_600 * SECOND


def one(name: str = "l", /, **fields: Any) -> dict[str, Any]:
    return {"limits": {name: fields}}


TOKENS = {"rate": "1/s", "burst": 10}
WINDOW = {"algorithm": "sliding-window", "rate": "10/15s"}
QUOTA = {"algorithm": "quota", "rate": "10/min"}
KINDS = pytest.mark.parametrize(
    "fields", [TOKENS, WINDOW, QUOTA], ids=["token-bucket", "sliding-window", "quota"]
)


def ask(rig: Rig, cost: int = 1, scope: str = "/", **who: str) -> Decision:
    return rig.engine.check(scope, who, cost)


# -- one bucket


@KINDS
def test_settle_charges_more_or_refunds(rig: Rig, fields: dict[str, Any]) -> None:
    rig.write({"/": one(**fields)})
    ask(rig, 4).settle(7)
    assert rig.left() == 3
    decision = ask(rig, 3)
    decision.settle(1)
    assert rig.left() == 2
    decision.settle(0)
    assert rig.left() == 3


@KINDS
def test_excess_of_an_earlier_settle_is_refunded(rig: Rig, fields: dict[str, Any]) -> None:
    """A token bucket gets back at most the first charge: it may have been full meanwhile."""
    rig.write({"/": one(**fields)})
    decision = ask(rig, 4)
    decision.settle(7)
    decision.settle(1)
    assert rig.left() == (7 if fields is TOKENS else 9)


@KINDS
def test_last_settle_counts(rig: Rig, fields: dict[str, Any]) -> None:
    rig.write({"/": one(**fields)})
    decision = ask(rig, 2)
    for actual in (2, 5, 5, 9, 9):
        decision.settle(actual)
        assert rig.left() == 10 - actual


@KINDS
def test_settle_into_debt_makes_later_requests_wait(rig: Rig, fields: dict[str, Any]) -> None:
    rig.write({"/": one(**fields)})
    ask(rig, 2).settle(25)
    refused = ask(rig, 0)
    assert (refused.reason, refused.remaining) == ("limited", 0)
    wait = (60 if fields is QUOTA else 15) * SECOND
    assert refused.retry_after_ns == wait
    rig.now += wait - 1
    assert not ask(rig, 0)
    rig.now += 1
    assert ask(rig, 0)


def test_a_debt_is_paid_at_the_rate(rig: Rig) -> None:
    """After that, the state is as if the request had cost that much from the start."""
    rig.write({"/": one(**TOKENS)})
    ask(rig, 0).settle(40)
    assert ask(rig, 1).retry_after_ns == 31 * SECOND
    assert ask(rig, 0).reset_after_ns == 40 * SECOND
    rig.now = 35 * SECOND
    assert rig.left() == 5


@KINDS
def test_peek_may_be_settled_to_a_cost(rig: Rig, fields: dict[str, Any]) -> None:
    rig.write({"/": one(**fields, per="tenant")})
    ask(rig, 0, tenant="a").settle(6)
    assert [rig.left(tenant="a"), rig.left(tenant="b")] == [4, 10]
    assert rig.usage().keys == 1
    assert rig.usage().allowed >= 1


@KINDS
def test_settle_of_a_refusal_has_no_effect(rig: Rig, fields: dict[str, Any]) -> None:
    rig.write({"/": one(**fields)})
    ask(rig, 10)
    for cost in (1, 11):
        refused = ask(rig, cost)
        assert not refused
        refused.settle(0)
        refused.settle(50)
        refused.release()
    assert rig.left() == 0
    rig.now += HOUR
    assert rig.left() == 10


def test_without_a_policy_there_is_nothing_to_settle(rig: Rig) -> None:
    decision = ask(rig)
    decision.settle(9)
    decision.release()
    assert decision.reason == "no_policy"


@pytest.mark.parametrize("actual", [-1, 1.0, True, "1", None])
def test_invalid_actual_cost_is_refused(rig: Rig, actual: Any) -> None:
    """Also for a refused request: the call is wrong, whatever the decision."""
    rig.write({"/": one(**TOKENS)})
    for decision in (ask(rig, 1), ask(rig, 99), rig.another().check("/", {})):
        with pytest.raises(UsageError, match="actual cost is a whole number"):
            decision.settle(actual)
    assert rig.left() == 9


def test_settle_corrects_every_charged_limit_and_budget(rig: Rig) -> None:
    rig.write({
        "/": {"budgets": {"fleet": WINDOW}, **one("t", **TOKENS)},
        "/a": {"limits": {"q": QUOTA, "s": {**TOKENS, "mode": "shadow"},
                          "off": {**TOKENS, "mode": "shadow", "burst": 1}}},
    })  # fmt: skip
    decision = ask(rig, 4, scope="/a")
    assert decision.reason == "shadow"
    decision.settle(2)
    lowest = {of.limit: of.lowest for of in rig.engine.usage().limits}
    assert lowest == {"fleet": 6, "t": 6, "q": 6, "s": 6, "off": None}
    enforced: Policies = {"/a": {"limits": {"t": TOKENS, "q": QUOTA, "s": TOKENS}}}
    rig.write({"/": {"budgets": {"fleet": WINDOW}}, **enforced})
    assert rig.left() == 8, "the bucket of the budget"
    rig.write(enforced)
    for gone in ("t", "q", "s"):
        assert (rig.ask(0, scope="/a").limit, rig.left(scope="/a")) == (gone, 8)
        del enforced["/a"]["limits"][gone]
        rig.write(enforced)


def test_shadow_limits_that_would_have_refused_are_not_charged(rig: Rig) -> None:
    rig.write({"/": one(**TOKENS, mode="shadow", per="tenant")})
    ask(rig, 8, tenant="a")
    decision = ask(rig, 5, tenant="a")
    assert decision.reason == "shadow"
    decision.settle(50)
    rig.write({"/": one(**TOKENS, per="tenant")})
    assert rig.left(tenant="a") == 2


def test_settle_does_not_change_slots(rig: Rig) -> None:
    rig.write({"/": {"limits": {"t": TOKENS, "l": {"algorithm": "concurrency", "max": 9}}}})
    decision = ask(rig, 3)
    for actual in (8, 1, 3):
        decision.settle(actual)
    rig.write({"/": one(algorithm="concurrency", max=9)})
    assert rig.left() == 6
    decision.release()
    assert rig.left() == 9
    decision.settle(5)
    assert rig.left() == 9


def test_usage_includes_settled_costs(rig: Rig) -> None:
    rig.write({"/": one(**TOKENS)})
    ask(rig, 1).settle(8)
    assert rig.usage().lowest == 2
    ask(rig, 0).settle(8)
    usage = rig.usage()
    assert (usage.lowest, usage.allowed) == (0, 2)


# -- refunds mint nothing


def test_refund_excludes_tokens_that_a_full_bucket_lost(rig: Rig) -> None:
    rig.write({"/": one(**TOKENS)})
    decision = ask(rig, 5)
    rig.now = 5 * SECOND
    assert ask(rig, 10), "the bucket was full again"
    decision.settle(0)
    assert rig.left() == 0


def test_refund_after_another_refund_mints_nothing(rig: Rig) -> None:
    rig.write({"/": one(**TOKENS)})
    first, second = ask(rig, 5), ask(rig, 5)
    rig.now = SECOND
    first.settle(0)
    assert ask(rig, 6)
    second.settle(0)
    assert rig.left() == 4, "as if both had cost nothing: ten minus six"


def test_second_refund_mints_nothing(rig: Rig) -> None:
    rig.write({"/": one(**TOKENS)})
    decision = ask(rig, 5)
    decision.settle(2)
    rig.now = 3 * SECOND
    assert ask(rig, 10)
    decision.settle(1)
    assert rig.left() == 0


def test_late_refund_to_a_bucket_that_never_filled(rig: Rig) -> None:
    rig.write({"/": one(**TOKENS)})
    ask(rig, 10)
    rig.now = 5 * SECOND
    slow = ask(rig, 5)
    for _ in range(100):
        rig.now += 2 * SECOND
        assert ask(rig, 2)
    slow.settle(1)
    assert rig.left() == 4
    slow.settle(0)
    assert rig.left() == 5, "up to half the burst; above it is uncertain"


def test_refund_goes_to_the_sub_window_of_the_charge(rig: Rig) -> None:
    rig.write({"/": one(**WINDOW)})
    first = ask(rig, 6)
    rig.now = 8 * SECOND
    ask(rig, 4)
    first.settle(2)
    assert rig.left() == 4
    rig.now = 16 * SECOND
    assert rig.left() == 6
    first.settle(0)
    assert rig.left() == 6, "the window has passed it"


def test_quota_refunds_only_within_its_window(rig: Rig) -> None:
    rig.write({"/": one(**QUOTA)})
    first = ask(rig, 6)
    rig.now = 59 * SECOND
    first.settle(5)
    assert rig.left() == 5
    rig.now = 60 * SECOND
    ask(rig, 7)
    first.settle(0)
    assert rig.left() == 3


def test_a_step_of_the_wall_clock_refunds_nothing_in_another_window(rig: Rig) -> None:
    rig.write({"/": one(**QUOTA)})
    first = ask(rig, 6)
    rig.offset.ns += 90 * SECOND
    rig.now = 1
    ask(rig, 7)
    first.settle(0)
    assert rig.left() == 3


# -- the table


def test_evicted_bucket_is_charged_again_and_not_refunded(rig: Rig) -> None:
    rig.bound(2)
    rig.write({"/": one(**TOKENS, per="tenant")})
    decisions = [ask(rig, 2, tenant=tenant) for tenant in "xy"]
    rig.now = HOUR
    for number in range(20):
        ask(rig, 1, tenant=f"t{number}")
        rig.now += HOUR
    decisions[0].settle(5)
    decisions[1].settle(0)
    assert [rig.left(tenant=tenant) for tenant in "xy"] == [7, 10]


def test_a_debt_keeps_its_bucket(rig: Rig) -> None:
    rig.bound(2)
    rig.write({"/": one(**TOKENS, per="tenant")})
    ask(rig, 2, tenant="x").settle(5_000)
    for number in range(50):
        rig.now += 60 * SECOND
        ask(rig, 1, tenant=f"t{number}")
    assert not ask(rig, 0, tenant="x")


def test_shared_buckets_are_settled_too(rig: Rig) -> None:
    rig.bound(1)
    rig.write({"/": one(**TOKENS, per="tenant")})
    ask(rig, 9, tenant="own")
    shared = ask(rig, 2, tenant="x")
    shared.settle(6)
    assert rig.left(tenant="x") == 4
    shared.settle(1)
    assert (rig.left(tenant="x") or 0) <= 9
    assert rig.left(tenant="own") == 1


# -- threads


@pytest.mark.usefixtures("eager_threads")
def test_threads_that_settle_one_decision_agree(rig: Rig) -> None:
    rig.write({"/": one(rate="1/h", burst=10**6)})
    decision = ask(rig, 10)

    def work(number: int) -> None:
        for step in range(200):
            decision.settle(1_000 + (number + step) % 7)

    together(work)
    decision.settle(2_000)
    left = rig.left()
    assert left is not None
    assert left <= 10**6 - 2_000


@pytest.mark.usefixtures("eager_threads")
def test_no_correction_is_lost_between_threads(rig: Rig) -> None:
    rig.write({"/": one(rate="1/h", burst=10**6)})

    def work(_: int) -> None:
        for _ in range(200):
            ask(rig, 1).settle(3)

    together(work)
    assert rig.left() == 10**6 - 5 * 200 * 3


# -- never fuller than if the actual cost had been charged at first

LIMITS = [
    {"rate": "1/s", "burst": 8},
    {"rate": "2/s", "burst": 8},
    {"rate": "1/s", "burst": 5},
    {"algorithm": "sliding-window", "rate": "8/15s"},
    {"algorithm": "sliding-window", "rate": "8/30s"},
    {"algorithm": "sliding-window", "rate": "5/15s"},
    {"algorithm": "quota", "rate": "8/min"},
    {"algorithm": "quota", "rate": "6/h"},
    {"algorithm": "concurrency", "max": 9, "hold": "20s"},
]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("ask"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("settle"), st.integers(0, 20), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from((0, 1, 2, 3, 7)), st.sampled_from((0, 1))),
    ),
    max_size=50,
)


def _twins(rig: Rig, done: list[tuple[Any, ...]], change: Any) -> None:
    """Return an engine that charges more and settles to less, and one that charges less at once."""
    settled, plain = rig.another(), rig.another()

    def write(policies: Policies) -> None:
        for engine in (settled, plain):
            rig.engine = engine
            rig.write(policies)

    write(change())
    open_: list[tuple[Decision, int]] = []
    for what, one_, two in done:
        if what == "ask":
            cost, actual = max(one_, two), min(one_, two)
            decision = settled.check("/a", {"t": "x"}, cost)
            if decision:
                assert plain.check("/a", {"t": "x"}, actual)
                open_.append((decision, actual))
        elif what == "settle" and open_:
            decision, actual = open_.pop(one_ % len(open_))
            decision.settle(actual)
            decision.settle(actual)
        elif what == "wait":
            rig.now += one_ * SECOND + two
        elif what == "change":
            write(change())
        left = [engine.check("/a", {"t": "x"}, 0).remaining for engine in (settled, plain)]
        assert left[0] is not None
        assert left[1] is not None
        assert left[0] <= left[1], (what, left)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("fields", LIMITS[:8], ids=str)
@given(done=steps)
def test_a_refund_never_makes_a_bucket_fuller(
    name: str, fields: dict[str, Any], done: list[tuple[Any, ...]]
) -> None:
    _twins(Rig(ENGINES[name]), done, lambda: {"/": one(**fields)})


@pytest.mark.parametrize("seed", range(scaled(30, 600)))
def test_refund_never_makes_a_bucket_fuller_through_publications(rig: Rig, seed: int) -> None:
    chance = random.Random(seed)
    per, scopes = [[], ["t"], ["u"]], 0

    def change() -> Policies:
        nonlocal scopes
        scopes = chance.choice((scopes, 1))
        fields = {**chance.choice(LIMITS[:8]), "per": chance.choice(per)}
        root = one(**fields)
        if chance.random() < 0.3:
            root["overrides"] = [{"name": "x", "match": {"t": "x"}, "limits": {"l": fields}}]
        return {"/": root, **({"/a": {}} if scopes else {})}

    done: list[tuple[Any, ...]] = []
    for _ in range(120):
        done.append(
            chance.choice(
                (
                    ("ask", chance.randrange(4), chance.randrange(4)),
                    ("settle", chance.randrange(20), 0),
                    ("wait", chance.choice((0, 1, 3)), chance.choice((0, 1))),
                    ("change", 0, 0) if chance.random() < 0.4 else ("wait", 0, 0),
                )
            )
        )
    _twins(rig, done, change)
