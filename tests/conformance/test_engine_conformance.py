"""Behaviour of every engine: times, promises, keys, scopes, reports."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from engine.model import Limit
from engine.plans import rate, window
from engine.promises import assert_exact_retry, assert_token_promise, assert_window_promise
from engine.rules import SECOND, Tokens, Window

if TYPE_CHECKING:
    from conformance.engine_rig import Rig
    from ratectl.engine.api import Engine

MS = SECOND // 1000
HOUR = 3_600 * SECOND
T = ("tenant",)

TOKEN_TABLE = [
    # milliseconds, cost, allowed, remaining, retry_after, reset_after (milliseconds)
    (0, 0, True, 3, 0, 0),
    (0, 1, True, 2, 0, 100),
    (0, 2, True, 0, 0, 300),
    (0, 1, False, 0, 100, 300),
    (0, 3, False, 0, 300, 300),
    (0, 4, False, 0, None, 300),
    (50, 1, False, 0, 50, 250),
    (100, 1, True, 0, 0, 300),
    (250, 1, True, 0, 0, 250),
    (250, 0, True, 0, 0, 250),
    (200, 1, False, 0, 100, 300),  # stepped back: the bucket's own time is 250
    (260, 1, False, 0, 40, 240),
    (10_000, 3, True, 0, 0, 300),
]

WINDOW_TABLE = [
    # fifteenths of the window, cost, allowed, remaining, retry_after, reset_after (fifteenths)
    (0, 0, True, 4, 0, 0),
    (0, 1, True, 3, 0, 15),
    (3, 2, True, 1, 0, 15),
    (3, 2, False, 1, 12, 15),
    (3, 4, False, 1, 15, 15),
    (3, 5, False, 1, None, 15),
    (14, 2, False, 1, 1, 4),
    (15, 2, True, 0, 0, 15),
    (17, 1, False, 0, 1, 13),
    (16, 1, False, 0, 2, 14),  # stepped back
    (18, 2, True, 0, 0, 15),
    (100, 4, True, 0, 0, 15),
]


def test_token_bucket_by_the_clock(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(10, burst=3)))
    for at, cost, allowed, remaining, retry, reset in TOKEN_TABLE:
        got = rig.ask(cost, at * MS)
        assert got.allowed is allowed, at
        assert (got.remaining, got.capacity) == (remaining, 3), at
        assert got.retry_after_ns == (None if retry is None else retry * MS), at
        assert got.reset_after_ns == reset * MS, at


def test_sliding_window_by_the_clock(rig: Rig) -> None:
    rig.publish(Limit("/", "l", Window(4, 15 * SECOND)))
    for at, cost, allowed, remaining, retry, reset in WINDOW_TABLE:
        got = rig.ask(cost, at * SECOND)
        assert got.allowed is allowed, at
        assert (got.remaining, got.capacity) == (remaining, 4), at
        assert got.retry_after_ns == (None if retry is None else retry * SECOND), at
        assert got.reset_after_ns == reset * SECOND, at


RULES = [
    rate(3, burst=1), rate(3, burst=7), rate(1, 7, burst=3), rate(1000, 11, burst=2),
    Tokens(1, 2, 5), Tokens(10**9, 604_800 * SECOND, 4),
    window(5, 1), window(1, 60), Window(7, 15), Window(7, 16), Window(3, 1), Window(40, 3_600_001),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_algorithms_keep_their_promises(rig: Rig, rule: Tokens | Window) -> None:
    """Greedy requests with random pauses never get more than promised."""
    rig.publish(Limit("/", "l", rule))
    chance = random.Random(str(rule))
    pause = rule.length // 15 if isinstance(rule, Window) else int(1 / rule.rate) + 1
    now, log = 0, []
    for _ in range(400):
        now += chance.choice((0, 0, 1, pause // 3, pause, pause + 1, 3 * pause))
        cost = chance.choice((1, 1, 1, 2, 3))
        if rig.ask(cost, now).allowed:
            log.append((now, cost))
    assert len(log) > 10
    if isinstance(rule, Window):
        assert_window_promise(log, rule.most, rule.length)
    else:
        assert_token_promise(log, rule.rate, rule.burst)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_refused_before_the_promised_instant_and_admitted_at_it(rig: Rig, rule: Tokens) -> None:
    rig.publish(Limit("/", "l", rule))
    now = 12_345_678_901
    for step in range(20):
        while rig.ask(1, now).allowed:
            pass
        cost = 1 + step % rule.most
        now = assert_exact_retry(rig.engine, "/", {}, cost, now)


def test_rational_rates_do_not_drift(rig: Rig) -> None:
    """3/s for an hour, taken one at a time as soon as told: exactly 3 * 3600 and the burst."""
    rig.publish(Limit("/", "l", rate(3, burst=1)))
    now, taken = 0, 0
    while now < 600 * SECOND:
        got = rig.ask(1, now)
        taken += got.allowed
        now += got.retry_after_ns or 0
    assert taken == 3 * 600


def test_all_or_nothing(rig: Rig) -> None:
    """If one limit refuses, no other is charged, in either order."""
    for names in (("l", "m"), ("m", "l")):
        rig.publish(Limit("/", names[0], rate(1, burst=5), T), Limit("/", names[1], window(2), T))
        tenant = names[0]
        assert [rig.ask(tenant=tenant).allowed for _ in range(4)] == [True, True, False, False]
        by_name = {of.limit: of for of in rig.engine.usage().limits}
        rig.publish(Limit("/", names[0], rate(1, burst=5), T))
        assert rig.left(tenant=tenant) == 3
        assert by_name[names[0]].allowed == 2
        rig.publish()


def test_the_least_remaining_limit_is_reported(rig: Rig) -> None:
    rig.publish(Limit("/", "wide", rate(1, burst=9)), Limit("/", "l", rate(1, burst=4)),
                Limit("/", "twin", rate(1, burst=4)))  # fmt: skip
    got = rig.ask(1)
    assert (got.limit, got.remaining, got.reason) == ("l", 3, "ok")


def test_longest_wait_is_reported_but_never_is_reported_first(rig: Rig) -> None:
    rig.publish(Limit("/", "fast", rate(10, burst=2)), Limit("/", "slow", rate(1, burst=2)),
                Limit("/", "twin", rate(1, burst=2)), Limit("/", "wide", window(9)))  # fmt: skip
    rig.ask(2)
    got = rig.ask(1)
    assert (got.limit, got.retry_after_ns, got.reason) == ("slow", SECOND, "limited")
    got = rig.ask(3)
    assert (got.limit, got.retry_after_ns, got.reason) == ("fast", None, "never")


def test_a_cost_above_the_burst_never_passes(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(100, burst=5)))
    got = rig.ask(6)
    assert (got.reason, got.retry_after_ns, got.remaining) == ("never", None, 5)
    assert rig.ask(5).allowed


@pytest.mark.parametrize("rule", [rate(0, burst=5), window(0)], ids=["token-bucket", "window"])
def test_a_rate_of_zero_refuses_all(rig: Rig, rule: Tokens) -> None:
    rig.publish(Limit("/", "l", rule))
    for cost in (0, 1, 2, 6):
        got = rig.ask(cost)
        assert (got.allowed, got.reason, got.retry_after_ns) == (False, "never", None)


def test_bucket_without_refill_is_never_full_again(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1, burst=5)))
    rig.ask(1)
    rig.publish(Limit("/", "l", rate(0, burst=5)))
    assert rig.ask(1).reset_after_ns is None


def test_a_peek_consumes_nothing_and_tracks_nothing(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1, burst=2), T), Limit("/", "m", window(2), T))
    for tenant in "abc":
        for _ in range(5):
            assert rig.ask(0, tenant=tenant).remaining == 2
    assert rig.engine.usage().buckets == 0
    rig.ask(2, tenant="a")
    assert (rig.ask(0, tenant="a").allowed, rig.left(tenant="a")) == (True, 0)


def test_a_refusal_tracks_nothing(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1, burst=2), T), Limit("/", "no", rate(0)))
    rig.ask(tenant="a")
    assert rig.engine.usage().buckets == 0


# -- shadow


def test_shadow_limit_never_refuses_but_reports_it(rig: Rig) -> None:
    rig.publish(
        Limit("/", "l", rate(1, burst=9)), Limit("/", "dark", rate(1, burst=2), shadow=True)
    )
    reports = [(got.reason, got.limit, got.remaining) for got in (rig.ask() for _ in range(4))]
    assert reports == [("ok", "l", 8), ("ok", "l", 7), ("shadow", "dark", 0), ("shadow", "dark", 0)]
    assert rig.ask().retry_after_ns == 0
    dark = rig.usage("dark")
    assert (dark.allowed, dark.refused, dark.shadow_refused) == (2, 0, 3)


def test_shadow_is_charged_only_for_admitted_requests(rig: Rig) -> None:
    rig.publish(
        Limit("/", "l", rate(1, burst=1)), Limit("/", "dark", rate(1, burst=9), shadow=True)
    )
    for _ in range(3):
        rig.ask()
    rig.publish(Limit("/", "dark", rate(1, burst=9)))
    assert rig.left() == 8


def test_worst_of_several_shadow_refusals_is_reported(rig: Rig) -> None:
    dark = [rate(10, burst=1), rate(1, burst=1), rate(5, burst=1)]
    rig.publish(*[Limit("/", f"dark{n}", rule, shadow=True) for n, rule in enumerate(dark)])
    rig.ask()
    assert rig.ask().limit == "dark1"
    assert rig.ask(2).limit == "dark0"


def test_only_shadow_limits_report_nothing_when_they_admit(rig: Rig) -> None:
    rig.publish(Limit("/", "dark", rate(1), shadow=True))
    got = rig.ask()
    assert (got.reason, got.limit, got.scope, got.remaining) == ("ok", None, "/", None)


# -- keys


def test_absent_and_empty_are_different_keys(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1), T))
    assert [rig.ask().allowed, rig.ask(tenant="").allowed] == [True, True]
    assert [rig.ask().allowed, rig.ask(tenant="").allowed] == [False, False]


def test_every_part_of_a_key_counts(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1), ("tenant", "route")))
    asked = [{}, {"tenant": "a"}, {"route": "a"}, {"tenant": "", "route": ""},
             {"tenant": "a", "route": "b"}, {"tenant": "b", "route": "a"}]  # fmt: skip
    assert all(rig.ask(**attributes).allowed for attributes in asked)
    assert not any(rig.ask(**attributes).allowed for attributes in asked)


def test_attributes_that_are_not_counted_do_not_matter(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1)))
    assert rig.ask(tenant="a").allowed
    assert not rig.ask(tenant="b").allowed


@pytest.mark.parametrize(
    "value", [5, True, 1.5, b"raw", float("nan"), ("a", 1), frozenset({1})], ids=repr
)
def test_values_of_other_types_count_as_their_text(rig: Rig, value: object) -> None:
    rig.publish(Limit("/", "l", rate(1), T))
    assert rig.ask(tenant=value).allowed
    assert not rig.ask(tenant=value).allowed
    if not isinstance(value, tuple):
        assert not rig.ask(tenant=str(value)).allowed


def test_long_keys_are_told_apart(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1), T), Limit("/", "m", rate(9), ("tenant", "route")))
    long = "x" * 100_000
    keys = [long + "1", long + "2", "x" * 256, "x" * 257, "é" * 300, "\ud800" * 300]
    assert [rig.ask(tenant=key).allowed for key in keys] == [True] * 6
    assert [rig.ask(tenant=key).allowed for key in keys] == [False] * 6


# -- scopes


def test_an_undeclared_scope_uses_its_nearest_ancestors_buckets(rig: Rig) -> None:
    rig.publish(
        Limit("/", "l", rate(1, burst=9)), Limit("/a", "l", rate(1, burst=2)), bare=["/a/b"]
    )
    assert [rig.ask(scope="/a/x/y").scope, rig.ask(scope="/a").scope] == ["/a", "/a"]
    assert not rig.ask(scope="/a/x").allowed
    assert rig.ask(scope="/a/b/c") == (True, "ok", 1, None, "/a/b", None, None, 0, 0, None)
    assert [rig.ask(scope=scope).scope for scope in ("/", "/ab", "/b")] == ["/", "/", "/"]


def test_scope_without_policy_passes_and_is_counted(rig: Rig) -> None:
    assert rig.ask(scope="/a") == (True, "no_policy", 0, None, None, None, None, 0, 0, None)
    rig.publish(Limit("/a", "l", rate(0)))
    assert rig.ask(scope="/b").reason == rig.ask(scope="/").reason == "no_policy"
    assert not rig.ask(scope="/a/b").allowed
    assert rig.engine.usage().no_policy == 3


def test_very_many_scopes_keep_their_covering_scope(rig: Rig) -> None:
    rig.publish(Limit("/a", "l", rate(1, burst=110_000)))
    for number in range(100_500):
        rig.engine.check(f"/a/{number}", {}, 1)
    assert rig.left(scope="/a") == 110_000 - 100_500


def test_plan_and_generation_follow_the_swap(engine: Engine, rig: Rig) -> None:
    assert (engine.generation, engine.plan("/a")) == (0, None)
    rig.publish(Limit("/a", "l", rate(1)))
    assert engine.generation == rig.ask(scope="/a").generation == 1
    plan = engine.plan("/a/b")
    assert plan is not None
    assert plan.scope == "/a"


# -- arguments


@pytest.mark.parametrize("cost", [-1, 1.0, "1", None, True, 10.5], ids=repr)
def test_a_bad_cost_is_an_error(engine: Engine, cost: object) -> None:
    with pytest.raises(ValueError, match="cost is a whole number, 0 or more"):
        engine.check("/", {}, cost)  # type: ignore[arg-type]


def test_the_clock_is_read_when_no_instant_is_given(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1)))
    assert [rig.ask().allowed, rig.ask().allowed] == [True, False]
    rig.now = SECOND
    assert rig.ask().allowed
    assert rig.ask(at=2 * SECOND).allowed


def test_earlier_instants_count_as_the_buckets_own_time(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1, burst=2)))
    order = (5, 1, 9, 2, 7, 0, 9)
    assert [rig.ask(at=at * SECOND).allowed for at in order] == [
        True, True, True, True, False, False, False,
    ]  # fmt: skip


def test_a_clock_that_steps_back_mints_nothing(rig: Rig) -> None:
    for name, rule in (("l", rate(1, burst=5)), ("m", window(5, 5))):
        rig.publish(Limit("/", name, rule), at=HOUR)
        assert sum(rig.ask(at=HOUR - back * SECOND).allowed for back in range(50)) == 5
        assert rig.ask(at=HOUR).remaining == 0
