"""Migration of buckets by publications: each written rule. None mints a token."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from engine.model import Limit
from engine.plans import rate, window
from engine.promises import assert_token_promise, assert_window_promise
from engine.rules import SECOND, Tokens, Window

if TYPE_CHECKING:
    from conformance.engine_rig import Rig
    from engine.rules import Rule

T = ("tenant",)


def one(rule: Rule, scope: str = "/", per: tuple[str, ...] = T) -> Limit:
    return Limit(scope, "l", rule, per)


def test_reload_keeps_buckets(rig: Rig) -> None:
    for generation in range(5):
        rig.publish(one(rate(1, burst=9)), at=generation)
        assert rig.ask(at=generation, tenant="a").remaining == 8 - generation


def test_reload_keeps_windows(rig: Rig) -> None:
    for generation in range(5):
        rig.publish(one(window(9)), at=generation)
        assert rig.ask(at=generation, tenant="a").remaining == 8 - generation


# -- token bucket


def test_bucket_refills_at_the_old_rate_until_the_swap(rig: Rig) -> None:
    rig.publish(one(rate(10, burst=100)))
    rig.ask(100, tenant="a")
    rig.publish(one(rate(1, burst=100)), at=3 * SECOND)
    assert rig.left(3 * SECOND, tenant="a") == 30
    assert rig.left(5 * SECOND, tenant="a") == 32


def test_untouched_bucket_migrates_through_every_change(rig: Rig) -> None:
    """Even if it is touched late, and after many changes (also above 32)."""
    rig.publish(one(rate(1, burst=1_000)))
    rig.ask(1_000, tenant="a")
    for second in range(1, 101):
        rig.publish(one(rate(second % 3 + 1, burst=1_000)), at=second * SECOND)
    expected = sum([1, *[second % 3 + 1 for second in range(1, 100)]])
    assert rig.left(100 * SECOND, tenant="a") == expected


def test_burst_growth_gives_capacity_not_tokens_to_tracked_keys(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)))
    rig.ask(4, tenant="a")
    rig.publish(one(rate(1, burst=100)))
    assert rig.ask(0, tenant="a")[5:7] == (100, 6)
    assert rig.left(20 * SECOND, tenant="a") == 26


def test_burst_growth_gives_capacity_not_tokens_to_untracked_keys(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)))
    rig.ask(tenant="other")
    rig.publish(one(rate(1, burst=100)))
    assert [rig.left(at * SECOND, tenant="a") for at in (0, 20, 90, 500)] == [10, 30, 100, 100]


def test_burst_growth_gives_capacity_not_tokens_to_scopes_never_touched(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)))
    rig.publish(one(rate(1, burst=100)))
    assert [rig.left(at * SECOND, tenant="a") for at in (0, 20, 90, 500)] == [10, 30, 100, 100]


def test_growth_before_a_limit_is_used_gives_no_tokens_at_a_later_change(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)))
    rig.publish(one(rate(1, burst=100)))
    rig.ask(tenant="other")
    rig.publish(one(rate(2, burst=100)), at=5 * SECOND)
    assert [rig.left(at * SECOND, tenant="a") for at in (5, 10, 100)] == [15, 25, 100]


def test_growth_in_steps_gives_no_more_than_growth_at_once(rig: Rig) -> None:
    for burst in (10, 40, 70, 100):
        rig.publish(one(rate(1, burst=burst)), at=burst * SECOND)
    assert rig.left(100 * SECOND, tenant="a") == 70  # full at each step, but not at the last
    for burst in (10, 40, 70, 100):
        rig.publish(one(rate(1, burst=burst)), at=101 * SECOND)
    assert rig.left(101 * SECOND, tenant="a") == 10


def test_smaller_burst_takes_the_tokens_above_it(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)))
    rig.ask(2, tenant="a")
    rig.publish(one(rate(1, burst=5)))
    assert [rig.left(tenant="a"), rig.left(tenant="b")] == [5, 5]
    rig.publish(one(rate(1, burst=10)))
    assert [rig.left(tenant="a"), rig.left(tenant="b")] == [5, 5]


def test_rate_change_keeps_a_debt(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)))
    rig.ask(10, tenant="a")
    rig.publish(one(rate(1, 60, burst=10)), at=SECOND // 2)
    got = rig.ask(1, at=SECOND // 2, tenant="a")
    assert got.retry_after_ns == 30 * SECOND
    rig.publish(one(rate(1_000, burst=10)), at=SECOND // 2 + 30 * SECOND - 1)
    assert rig.ask(1, at=SECOND // 2 + 30 * SECOND - 1, tenant="a").retry_after_ns == 1


def test_a_level_between_two_ticks_is_rounded_down(rig: Rig) -> None:
    rig.publish(one(Tokens(1, 11, 5)))
    rig.ask(5, tenant="a")
    rig.publish(one(Tokens(1, 7, 5)), at=10)  # ten elevenths of a token
    assert rig.ask(1, at=10, tenant="a").retry_after_ns == 1
    assert rig.ask(1, at=11, tenant="a").allowed
    rig.publish(one(Tokens(1, 10**18, 5)), at=12)
    week = 604_800 * SECOND
    level = Fraction(10, 11)
    kept = Fraction(int(level * week), week) + Fraction(1, 7) - 1
    kept = Fraction(int((kept + Fraction(1, 7)) * week), week)
    due = -(-(1 - kept) * 10**18 // 1)
    got = rig.ask(1, at=12, tenant="a").retry_after_ns
    assert got is not None
    assert abs(got - due) <= 10**18 // week + 1


def test_rate_changes_under_load_keep_the_promise(rig: Rig) -> None:
    """Any span admits at most the largest burst and the fastest rate."""
    log, now = [], 0
    for step in range(300):
        if step % 10 == 0:
            rig.publish(one(rate(1 + step % 3, burst=4 + step % 7)), at=now)
        if rig.ask(1 + step % 2, now, tenant="a").allowed:
            log.append((now, 1 + step % 2))
        now += 130_000_001 * (step % 5)
    assert_token_promise(log, Fraction(3, SECOND), 10)


# -- sliding window


def test_changed_count_of_a_window_keeps_counted_requests(rig: Rig) -> None:
    rig.publish(one(window(10)))
    rig.ask(6, tenant="a")
    rig.publish(one(window(4)))
    got = rig.ask(1, tenant="a")
    assert (got.reason, got.remaining) == ("limited", 0)
    rig.publish(one(window(20)))
    assert rig.left(tenant="a") == 14


@pytest.mark.parametrize("length", [3, 7, 15, 29, 30, 60, 1000])
@pytest.mark.parametrize("at", [0, 1, 14, 15, 44])
def test_changed_window_length_counts_at_the_latest_possible_instant(
    rig: Rig, length: int, at: int
) -> None:
    """Across the change, any window of the shorter length admitted at most the count."""
    rig.publish(one(Window(10, 30)))
    log = []
    now = 0
    for now in range(at + 1):
        if rig.ask(1, now, tenant="a").allowed:
            log.append((now, 1))
    rig.publish(one(Window(10, length)), at=now)
    for now in range(at, at + 2 * length):
        while rig.ask(1, now, tenant="a").allowed:
            log.append((now, 1))
    assert_window_promise(log, 10, min(30, length))


def test_shorter_window_forgets_older_requests(rig: Rig) -> None:
    rig.publish(one(window(10, 150)))
    rig.ask(3, 0, tenant="a")
    rig.ask(4, 75 * SECOND, tenant="a")
    rig.publish(one(window(10, 15)), at=75 * SECOND)
    assert rig.left(75 * SECOND, tenant="a") == 6
    assert rig.left(91 * SECOND, tenant="a") == 10


def test_a_shorter_window_does_not_count_the_oldest_again(rig: Rig) -> None:
    """Counts just too old for the new length are dropped, not counted as the newest."""
    for admitted in range(30):
        rig.bound(100)
        rig.publish(one(Window(10, 30)))
        rig.ask(3, admitted, tenant="a")
        rig.publish(one(Window(10, 15)), at=29)
        last = max(29, admitted + 14)
        left = [rig.left(at, tenant="a") for at in (29, last, last + 1)]
        assert left == [7 if admitted + 15 > at else 10 for at in (29, last, last + 1)]


def test_longer_window_keeps_counting_known_requests(rig: Rig) -> None:
    rig.publish(one(window(10, 15)))
    rig.ask(3, 0, tenant="a")
    rig.publish(one(window(10, 150)), at=SECOND)
    assert rig.left(150 * SECOND - 1, tenant="a") == 7
    assert rig.left(150 * SECOND, tenant="a") == 10


# -- from one algorithm to the other


def test_tokens_missing_from_a_full_bucket_count_as_admitted_now(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)))
    rig.ask(7, tenant="a")
    at = SECOND // 2  # 3.5 tokens: 7 are missing, rounded up
    rig.publish(one(window(10, 15)), at=at)
    assert [rig.left(at, tenant="a"), rig.left(at, tenant="b")] == [3, 10]
    assert [rig.left(at + 15 * SECOND - off, tenant="a") for off in (1, 0)] == [3, 10]


def test_counted_requests_are_missing_from_a_full_bucket(rig: Rig) -> None:
    rig.publish(one(window(10, 15)))
    rig.ask(4, 0, tenant="a")
    rig.publish(one(rate(1, burst=10)), at=2 * SECOND)
    assert [rig.left(2 * SECOND, tenant="a"), rig.left(2 * SECOND, tenant="b")] == [6, 10]
    assert rig.left(4 * SECOND, tenant="a") == 8


def test_more_counted_than_the_burst_is_an_empty_bucket(rig: Rig) -> None:
    rig.publish(one(window(10, 15)))
    rig.ask(9, 0, tenant="a")
    rig.publish(one(rate(1, burst=5)), at=0)
    assert rig.left(0, tenant="a") == 0


def test_tokens_that_growth_has_not_given_are_not_missing_from_a_window(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)))
    rig.ask(4, tenant="a")
    rig.publish(one(rate(1, burst=100)))
    rig.publish(one(window(100, 15)))
    assert [rig.left(tenant=tenant) for tenant in "ab"] == [96, 100]


def test_growth_that_is_taken_back_leaves_nothing_behind(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)))
    rig.ask(4, tenant="a")
    for burst in (100, 10, 100, 10):
        rig.publish(one(rate(1, burst=burst)))
    assert [rig.left(at * SECOND, tenant="a") for at in (0, 4)] == [6, 10]
    rig.publish(one(rate(1, burst=100)), at=4 * SECOND)
    rig.publish(one(window(100, 15)), at=4 * SECOND)
    assert rig.left(4 * SECOND, tenant="a") == 100


def test_shadow_and_enforce_share_the_bucket(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1, burst=3), T, shadow=True))
    rig.ask(2, tenant="a")
    rig.publish(one(rate(1, burst=3)))
    assert rig.left(tenant="a") == 1


# -- requests that have another bucket than before


def test_a_newly_declared_scope_inherits_the_bucket(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)))
    rig.ask(7, scope="/a/b", tenant="a")
    rig.publish(one(rate(1, burst=10)), one(rate(1, burst=10), "/a"))
    assert rig.left(scope="/a", tenant="a") == 3
    assert rig.left(scope="/a", tenant="b") == 10
    rig.ask(3, scope="/a/b", tenant="a")
    assert [rig.left(scope="/a", tenant="a"), rig.left(scope="/", tenant="a")] == [0, 3]


def test_newly_declared_scope_inherits_from_a_removed_limit(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)))
    rig.ask(7, tenant="a")
    rig.publish(one(rate(1, burst=10), "/a"), bare=["/"])
    assert rig.left(scope="/a", tenant="a") == 3
    assert rig.left(4 * SECOND, scope="/a", tenant="a") == 7


@pytest.mark.parametrize("used", [False, True])
def test_inherited_state_does_not_depend_on_other_keys(rig: Rig, used: bool) -> None:
    root = one(rate(1, burst=10))
    rig.publish(root)
    if used:
        rig.ask(0, tenant="other")
    rig.publish(root, one(rate(1, burst=100), "/a"))
    left = [rig.left(at * SECOND, scope="/a", tenant="a") for at in (0, 50, 90, 100)]
    assert left == [10, 60, 100, 100]


@pytest.mark.parametrize("used", [False, True])
def test_tightening_the_ancestor_does_not_tighten_the_new_scope(rig: Rig, used: bool) -> None:
    """The scope inherits the ancestor's state of the previous generation, not the tightened one."""
    rig.publish(one(rate(1, burst=10)))
    if used:
        rig.ask(1, tenant="other")
    rig.ask(2, tenant="a")
    rig.publish(one(rate(1, burst=3)), one(rate(1, burst=10), "/a"))
    assert [rig.left(scope="/a", tenant=tenant) for tenant in "ab"] == [8, 10]
    assert [rig.left(scope="/", tenant=tenant) for tenant in "ab"] == [3, 3]


def test_tightening_the_ancestor_later_does_not_tighten_the_scope(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)))
    rig.ask(2, tenant="a")
    rig.publish(one(rate(1, burst=10)), one(rate(1, burst=10), "/a"))
    rig.publish(one(rate(1, burst=3)), one(rate(1, burst=10), "/a"), at=SECOND)
    assert [rig.left(SECOND, scope="/a", tenant=tenant) for tenant in "ab"] == [9, 10]
    assert rig.left(SECOND, tenant="a") == 3


def test_what_was_left_refills_by_the_rates_that_the_request_was_under(rig: Rig) -> None:
    """Even if it did not look at the bucket meanwhile."""
    slow = rate(1, 3_600, burst=1_000)
    rig.publish(one(slow))
    rig.ask(1_000, tenant="a")
    rig.publish(one(slow), one(rate(1_000, burst=1_000), "/a"))
    rig.publish(one(slow), one(slow, "/a"), at=SECOND // 10)
    assert rig.left(SECOND + 1, scope="/a", tenant="a") == 100


def test_shrinking_and_growing_a_new_scope_mints_nothing(rig: Rig) -> None:
    wide = rate(1, 3_600, burst=1_000)
    rig.publish(one(wide))
    rig.publish(one(wide), one(rate(1, 3_600, burst=10), "/a"))
    rig.publish(one(wide), one(wide, "/a"))
    assert rig.left(scope="/a", tenant="a") == 10


def test_a_new_scope_may_change_very_often(rig: Rig) -> None:
    wide = rate(1, 3_600, burst=1_000)
    rig.publish(one(wide))
    rig.ask(999, tenant="a")
    for burst in (*range(900, 850, -1), 10, *range(800, 750, -1), 1_000):
        rig.publish(one(wide), one(rate(1, 3_600, burst=burst), "/a"))
    assert [rig.left(scope="/a", tenant=tenant) for tenant in "ab"] == [1, 10]


def test_scopes_declared_below_each_other_inherit_in_turn(rig: Rig) -> None:
    limits = [one(rate(1, 60, burst=10))]
    rig.publish(*limits)
    rig.ask(6, scope="/a/a/a/a", tenant="a")
    for depth in range(1, 5):
        limits.append(one(rate(1, 60, burst=10), "/a" * depth))
        rig.publish(*limits)
    assert rig.left(scope="/a/a/a/a", tenant="a") == 4


def test_tightening_an_ancestor_far_up_does_not_tighten_the_scope(rig: Rig) -> None:
    root, slow = one(rate(1, burst=10)), rate(1, 3_600, burst=10)
    rig.publish(root)
    rig.ask(2, tenant="a")
    rig.publish(root, one(rate(10, burst=10), "/a"))
    rig.publish(root, one(slow, "/a"), one(slow, "/a/b"), at=SECOND // 2)
    rig.publish(one(rate(0, burst=1)), one(slow, "/a"), one(slow, "/a/b"), at=2 * SECOND)
    left = [rig.left(2 * SECOND, scope=scope, tenant="a") for scope in ("/a", "/a/b", "/")]
    assert left == [10, 10, 1]


def test_a_change_of_per_starts_from_the_old_buckets(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)))
    rig.ask(7, tenant="a", route="r")
    rig.publish(one(rate(1, burst=10), per=("tenant", "route")))
    left = [rig.left(tenant=t, route=r) for t, r in (("a", "r"), ("a", "s"), ("b", "r"))]
    assert left == [3, 3, 10]
    rig.ask(2, tenant="a", route="r")
    assert [rig.left(tenant="a", route="r"), rig.left(tenant="a", route="s")] == [1, 3]


def test_a_change_of_per_with_rate_and_burst(rig: Rig) -> None:
    """The old rate up to the swap, then the new; and no tokens for the grown burst."""
    rig.publish(one(rate(1, burst=10)))
    rig.ask(10, tenant="a")
    rig.publish(one(rate(2, burst=100), per=()), at=3 * SECOND)
    assert rig.left(3 * SECOND, tenant="a") == 3
    assert rig.left(5 * SECOND, tenant="a") == 7
    rig.publish(one(rate(2, burst=100), per=("route",)), at=5 * SECOND)
    assert rig.left(5 * SECOND, tenant="zzz", route="r") == 7, "all shared one bucket"


def test_changes_of_per_there_and_back_mint_nothing(rig: Rig) -> None:
    for per in (T, (), ("route",), T, ("route", "tenant"), T):
        rig.publish(one(rate(1, 60, burst=12), per=per))
        rig.ask(2, tenant="a", route="r")
    assert rig.left(tenant="a", route="r") == 0


def test_what_was_left_counts_until_it_has_come_back(rig: Rig) -> None:
    rig.publish(one(rate(1, 60, burst=10)))
    rig.ask(10, tenant="a")
    rig.publish(one(rate(1, 60, burst=10)), one(rate(1, burst=10), "/a"))
    left = [rig.left(10 * SECOND - off, scope="/a", tenant="a") for off in (1, 0)]
    assert left == [9, 10]


def test_what_requests_left_counts_when_their_scope_gets_the_limit_later(rig: Rig) -> None:
    rig.publish(one(rate(1, 60, burst=10)))
    rig.ask(10, scope="/a", tenant="x")
    rig.publish(one(rate(1, 60, burst=10)), bare=["/a"])
    rig.publish(one(rate(1, 60, burst=10)), one(rate(1, 60, burst=10), "/a"), at=60 * SECOND)
    left = [rig.left(60 * SECOND, scope="/a", tenant=tenant) for tenant in "xy"]
    assert left == [1, 10]


def test_a_limit_that_comes_back_slower_misses_it_until_it_has_refilled(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)))
    rig.ask(10, tenant="a")
    rig.publish(bare=["/"], at=1 * SECOND)
    rig.publish(one(rate(1, 3_600, burst=10)), at=2 * SECOND)
    rig.now = 15 * SECOND
    rig.engine.usage()
    assert rig.left(20 * SECOND, tenant="a") == 2
    assert rig.left(2 * SECOND + 8 * 3_600 * SECOND, tenant="a") == 10


def test_a_limit_removed_and_added_again_misses_what_it_admitted(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)))
    rig.ask(7, tenant="a")
    rig.publish(bare=["/"])
    assert rig.ask(99, tenant="a").allowed
    rig.publish(one(rate(1, burst=20)))
    assert [rig.left(tenant=tenant) for tenant in "ab"] == [13, 20]
    assert rig.usage().allowed == 2


def test_traffic_of_a_removed_scope_brings_along_what_it_left(rig: Rig) -> None:
    rig.publish(one(rate(1, burst=10)), one(rate(1, burst=10), "/a"))
    rig.ask(9, scope="/a", tenant="a")
    rig.ask(3, scope="/", tenant="a")
    rig.publish(one(rate(1, burst=10)))
    assert rig.left(tenant="a") == 7
    assert rig.ask(0, scope="/a", tenant="a")[4:7] == ("/", 10, 1)
    assert rig.left(tenant="a") == 1, "they share the ancestor's bucket"
    rig.publish(one(rate(1, burst=10)), one(rate(1, burst=10), "/a"))
    assert rig.left(scope="/a", tenant="a") == 1
