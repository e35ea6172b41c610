"""Quotas: a number in each calendar window, by a wall clock that may step."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from engine.plans import verdict
from engine.promises import assert_exact_retry
from ratectl.engine.algorithms.calendar import CalendarWindow
from ratectl.engine.algorithms.protocol import NEVER
from ratectl.engine.algorithms.quota import Quota, WallOffset

if TYPE_CHECKING:
    from conformance.engine_rig import Rig

SECOND = 10**9
MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
BERLIN = "00:00 Europe/Berlin"


def ns(written: str) -> int:
    since = datetime.fromisoformat(written) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1) * 1_000


TEN = ns("2026-11-24T10:00:00+00:00")
"""Wall clock time at the engine's time 0."""


def quota(rate: str = "5/day", **fields: Any) -> dict[str, Any]:
    return {"/": {"limits": {"l": {"algorithm": "quota", "rate": rate, **fields}}}}


def other(**fields: Any) -> dict[str, Any]:
    return {"/": {"limits": {"l": fields}}}


@pytest.fixture(autouse=True)
def _ten(rig: Rig) -> None:
    rig.offset.ns = TEN


TABLE = [
    # seconds before (-) or after the window's end, cost, allowed, remaining, retry, reset
    (-50, 0, True, 5, 0, 0),
    (-50, 2, True, 3, 0, 50),
    (-40, 4, False, 3, 40, 40),
    (-40, 6, False, 3, None, 40),
    (-30, 3, True, 0, 0, 30),
    (-30, 0, True, 0, 0, 30),
    (-1, 1, False, 0, 1, 1),
    (0, 5, True, 0, 0, 60),
    (59, 1, False, 0, 1, 1),
    (60, 1, True, 4, 0, 60),
    (600, 0, True, 5, 0, 0),
]


def test_quota_by_the_clock(rig: Rig) -> None:
    rig.write(quota("5/min"))
    for at, cost, allowed, remaining, retry, reset in TABLE:
        got = rig.ask(cost, (at + 60) * SECOND)
        assert got.allowed is allowed, at
        assert (got.remaining, got.capacity) == (remaining, 5), at
        assert got.retry_after_ns == (None if retry is None else retry * SECOND), at
        assert got.reset_after_ns == reset * SECOND, at


def test_quota_of_each_second(rig: Rig) -> None:
    """Seconds begin with those of the wall clock, as minutes do."""
    rig.offset.ns = TEN + 600_000_000
    rig.write(quota("2/s"))
    tenths = (0, 1, 3, 4, 5, 13, 14, 24)
    allowed = [rig.ask(1, at * SECOND // 10).allowed for at in tenths]
    assert allowed == [True, True, False, True, True, False, True, True]
    assert rig.ask(0, 24 * SECOND // 10).reset_after_ns == 1_000_000_000


def test_no_more_than_the_count_in_each_local_day(rig: Rig) -> None:
    """Counted by the dates of Berlin, with a clock change among them."""
    rig.offset.ns = ns("2026-10-20T00:00:00+00:00") + 123_456_789
    rig.write(quota("7/day", resets=BERLIN))
    chance = random.Random(7)
    taken: Counter[object] = Counter()
    now = 0
    while now < 12 * DAY:
        now += chance.choice((0, 1, MINUTE, HOUR, 2 * HOUR))
        cost = chance.choice((1, 1, 2))
        if rig.ask(cost, now).allowed:
            wall = datetime.fromtimestamp((now + rig.offset.ns) // SECOND, ZoneInfo(BERLIN[6:]))
            taken[wall.date()] += cost
    assert len(taken) == 13
    assert set(list(taken.values())[:-1]) == {7}


@pytest.mark.parametrize(
    ("rate", "resets", "wait"),
    [
        ("5/min", None, MINUTE),
        ("5/h", None, HOUR),
        ("5/day", None, 14 * HOUR),
        ("5/day", BERLIN, 13 * HOUR),
        ("5/week", None, 5 * DAY + 14 * HOUR),
        ("5/week", "Wed 10:30 UTC", DAY + HOUR // 2),
        ("5/month", None, 6 * DAY + 14 * HOUR),
        ("5/month", "31 00:00", 5 * DAY + 14 * HOUR),
    ],
)
@pytest.mark.parametrize("early", [0, 1, 987_654_321])
def test_refused_until_exactly_the_promised_instant(
    rig: Rig, rate: str, resets: str | None, wait: int, early: int
) -> None:
    rig.offset.ns = TEN + early
    rig.write(quota(rate, **({"resets": resets} if resets else {})))
    assert rig.ask(5).allowed
    assert rig.ask().retry_after_ns == wait - early
    assert assert_exact_retry(rig.engine, "/", {}, 5, 0) == wait - early
    assert rig.left(wait - early) == 0


def test_a_cost_above_the_count_never_passes(rig: Rig) -> None:
    rig.write(quota())
    assert rig.ask(6)[:2] == (False, "never")
    assert rig.ask(5).allowed
    assert rig.ask(6).retry_after_ns is None


def test_a_rate_of_zero_refuses_all(rig: Rig) -> None:
    rig.write(quota("0/day"))
    for cost in (0, 1, 2):
        got = rig.ask(cost)
        assert (got.allowed, got.reason, got.retry_after_ns) == (False, "never", None)


def test_a_peek_takes_nothing_and_tracks_nothing(rig: Rig) -> None:
    rig.write(quota(per="tenant"))
    for _ in range(9):
        assert rig.left(tenant="a") == 5
    assert rig.engine.usage().buckets == 0


def test_each_key_has_its_own_window(rig: Rig) -> None:
    rig.write(quota(per="tenant"))
    assert rig.ask(5, tenant="a").allowed
    assert not rig.ask(1, tenant="a").allowed
    assert [rig.left(tenant="b"), rig.left()] == [5, 5]


def test_undeclared_scopes_share_and_declared_ones_do_not(rig: Rig) -> None:
    rig.write({**quota(), "/a": {}})
    rig.ask(2, scope="/x")
    rig.ask(1, scope="/a/b")
    assert [rig.left(scope=scope) for scope in ("/", "/y/z", "/a")] == [3, 3, 4]


# -- the wall clock


def test_only_the_sum_of_both_clocks_matters(rig: Rig) -> None:
    for now in (0, 5, DAY, 1_000 * DAY):
        rig.bound(10)
        rig.offset.ns = TEN - now
        rig.write(quota(resets=BERLIN), at=now)
        rig.ask(5, now)
        assert rig.ask(1, now).retry_after_ns == 13 * HOUR


def test_a_step_back_does_not_reopen_a_window(rig: Rig) -> None:
    rig.write(quota())
    rig.ask(5, 13 * HOUR)
    rig.ask(5, 14 * HOUR)  # the 25th
    for back in (1, HOUR, 20 * HOUR, 3 * DAY, 90 * DAY):
        rig.offset.ns = TEN - back
        got = rig.ask(1, 14 * HOUR)
        assert (got.allowed, got.remaining) == (False, 0)
        assert got.retry_after_ns == got.reset_after_ns == DAY + back
    assert not rig.ask(1, 14 * HOUR + DAY + 90 * DAY - 1).allowed
    assert rig.ask(5, 14 * HOUR + DAY + 90 * DAY).allowed


@pytest.mark.parametrize("evicted", [False, True])
def test_a_step_back_reopens_no_window_of_an_evicted_bucket(rig: Rig, evicted: bool) -> None:
    rig.write(quota(per=["tenant"]))
    assert rig.ask(5, HOUR, tenant="acme").allowed
    tomorrow = 15 * HOUR
    if evicted:
        rig.now = tomorrow
        for number in range(3):
            rig.ask(1, tomorrow, tenant=str(number))
        assert rig.usage().keys == 3
    else:
        assert rig.left(tomorrow, tenant="acme") == 5
    rig.offset.move(TEN - DAY, tomorrow)
    assert rig.ask(5, tomorrow, tenant="acme").allowed, "counted in the latest window"
    refused = rig.ask(1, tomorrow, tenant="acme")
    assert refused.retry_after_ns == DAY - HOUR + DAY
    rig.offset.move(TEN, tomorrow)
    assert not rig.ask(1, tomorrow, tenant="acme").allowed
    assert rig.ask(5, tomorrow + DAY - HOUR, tenant="acme").allowed


def test_after_a_step_back_requests_count_in_the_latest_window(rig: Rig) -> None:
    rig.write(quota())
    rig.ask(1, 14 * HOUR)
    rig.offset.ns -= DAY
    assert [rig.ask(1, 14 * HOUR).remaining for _ in range(4)] == [3, 2, 1, 0]
    rig.offset.ns += DAY
    assert not rig.ask(1, 14 * HOUR).allowed


def test_a_step_forward_opens_the_next_window(rig: Rig) -> None:
    rig.write(quota())
    rig.ask(5)
    rig.offset.ns += 14 * HOUR - 1
    assert not rig.ask().allowed
    rig.offset.ns += 1
    assert rig.ask(5).allowed
    rig.offset.ns += 400 * DAY
    assert rig.ask(5).allowed
    assert not rig.ask().allowed


def test_an_engine_clock_that_steps_back_mints_nothing(rig: Rig) -> None:
    rig.write(quota("5/min"))
    assert sum(rig.ask(at=HOUR - back * SECOND).allowed for back in range(300)) == 5


@pytest.mark.parametrize("ask", ["wait", "reset_after"])
def test_a_wait_is_never_negative_though_the_offset_moves_meanwhile(ask: str) -> None:
    """Another thread refreshes the offset: a refusal names a valid wait for any new value."""

    class Restless(WallOffset):
        __slots__ = ()
        seen = 0

        @property
        def ns(self) -> int:  # type: ignore[override]
            Restless.seen += 1
            return TEN + Restless.seen * 3_600 * SECOND

        @ns.setter
        def ns(self, value: int) -> None:
            pass

    of = Quota(5, CalendarWindow("day"), Restless())
    state = of.spent(5, 0)
    for _ in range(100):
        start, end, since, _ = of.advance(state, 0)
        state = (start, end, since, 5)
        wait = of.attempt(state, 1, 0)[0] if ask == "wait" else of.reset_after(state, 0)
        passed = TEN + Restless.seen * 3_600 * SECOND >= end
        assert wait > 0 or (passed and wait == 0)
        assert wait != NEVER


# -- reload


def test_changed_count_of_a_quota_keeps_counted_requests(rig: Rig) -> None:
    rig.write(quota("5/day", per="tenant"))
    rig.ask(4, tenant="a")
    for rate, left in (("5/day", 1), ("10/day", 6), ("3/day", 0), ("5/day", 1)):
        rig.write(quota(rate, per="tenant"))
        assert rig.left(tenant="a") == left
    rig.write(quota("3/day", per="tenant"))
    assert rig.ask(1, tenant="a").retry_after_ns == 14 * HOUR
    assert rig.left(14 * HOUR, tenant="a") == 3
    assert rig.left(tenant="b") == 3


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({"rate": "5/day", "resets": BERLIN}, 13 * HOUR),
        ({"rate": "5/day", "resets": "10:30 UTC"}, HOUR // 2),
        ({"rate": "5/week"}, 5 * DAY + 14 * HOUR),
        ({"rate": "5/month"}, 6 * DAY + 14 * HOUR),
        ({"rate": "5/min"}, MINUTE),
    ],
)
def test_changed_window_keeps_counted_requests(rig: Rig, fields: dict[str, Any], end: int) -> None:
    rig.write(quota())
    rig.ask(4)
    rig.write(quota(**fields))
    assert rig.left() == 1
    assert rig.ask(2).retry_after_ns == end
    assert rig.left(end) == 5


def test_counts_of_past_windows_are_gone(rig: Rig) -> None:
    rig.write(quota())
    rig.ask(4)
    rig.write(quota("9/week"), at=14 * HOUR)
    assert rig.left(14 * HOUR) == 9


def test_change_applied_late_counts_from_its_own_instant(rig: Rig) -> None:
    rig.write(quota("5/h"))
    rig.ask(4)
    rig.write(quota("5/day"), at=HOUR // 2)
    assert rig.left(5 * HOUR) == 1


def test_a_change_after_a_step_back_does_not_reopen_a_window(rig: Rig) -> None:
    rig.write(quota())
    rig.ask(5, 14 * HOUR)
    rig.offset.ns -= 10 * HOUR
    rig.write(quota(resets=BERLIN), at=14 * HOUR)
    assert not rig.ask(1, 14 * HOUR).allowed
    assert not rig.ask(1, 24 * HOUR).allowed  # the 25th once more


SWAPS = [
    {"rate": "5/h", "burst": 5},
    {"rate": "5/h", "algorithm": "sliding-window"},
]


@pytest.mark.parametrize("fields", SWAPS, ids=["token-bucket", "sliding-window"])
def test_change_between_quota_and_other_algorithms(rig: Rig, fields: dict[str, Any]) -> None:
    """The missing amount is missing from the new bucket too, in both directions."""
    rig.write(other(**fields))
    rig.ask(3)
    rig.write(quota("7/day"))
    assert rig.left() == 4
    rig.ask(1)
    rig.write(other(**fields))
    assert rig.left() == 1
    assert rig.left(2 * HOUR) >= 3
    assert rig.left(9 * HOUR) == 5


@pytest.mark.parametrize("fields", SWAPS, ids=["token-bucket", "sliding-window"])
def test_more_missing_than_the_new_capacity_is_an_empty_bucket(
    rig: Rig, fields: dict[str, Any]
) -> None:
    rig.write(quota("50/day"))
    rig.ask(40)
    rig.write(other(**fields))
    assert (rig.left(), rig.ask().allowed) == (0, False)
    rig.bound(100)
    rig.write(other(rate="50/h", burst=50))
    rig.ask(40)
    rig.write(quota("5/day"))
    got = rig.ask()
    assert (got.allowed, got.remaining, got.retry_after_ns) == (False, 0, 14 * HOUR)


@pytest.mark.parametrize("fields", SWAPS, ids=["token-bucket", "sliding-window"])
def test_a_window_that_ended_before_the_change_is_full(rig: Rig, fields: dict[str, Any]) -> None:
    rig.write(quota("5/day"))
    rig.ask(5)
    rig.write(other(**fields), at=14 * HOUR)
    assert rig.left(14 * HOUR) == 5


def test_tokens_that_growth_has_not_given_are_not_missing_from_a_quota(rig: Rig) -> None:
    tokens = {"rate": "1/h", "per": "tenant"}
    rig.write(other(burst=10, **tokens))
    rig.ask(4, tenant="a")
    rig.write(other(burst=100, **tokens))
    assert [rig.left(tenant=tenant) for tenant in "ab"] == [6, 10]
    rig.write(quota("100/day", per="tenant"))
    assert [rig.left(tenant=tenant) for tenant in "ab"] == [96, 100]


def test_growth_of_a_quota_is_available_at_once(rig: Rig) -> None:
    rig.write(quota("5/day", per="tenant"))
    rig.write(quota("50/day", per="tenant"))
    assert rig.left(tenant="a") == 50


def test_newly_declared_scope_starts_from_the_counted_state(rig: Rig) -> None:
    rig.write(quota())
    rig.ask(4, scope="/a")
    rig.write({**quota(), "/a": {}})
    assert [rig.left(scope="/a"), rig.left(scope="/")] == [1, 1]
    rig.ask(1, scope="/a")
    assert [rig.left(scope="/a"), rig.left(scope="/")] == [0, 1]
    assert rig.left(14 * HOUR, scope="/a") == 5


def test_changed_per_starts_from_the_counted_state(rig: Rig) -> None:
    rig.write(quota())
    rig.ask(4)
    rig.write(quota(per="tenant"))
    assert [rig.left(tenant="a"), rig.left(tenant="b")] == [1, 1]
    rig.ask(1, tenant="a")
    assert [rig.left(tenant="a"), rig.left(tenant="b")] == [0, 1]
    assert rig.left(14 * HOUR, tenant="b") == 5


# -- the table


def test_eviction_cannot_be_noticed(rig: Rig) -> None:
    """A small table decides like a large one, over many windows with some reloads."""
    small, large = rig.another(max_buckets=6), rig.another()
    chance = random.Random(3)
    now = 0
    for step in range(1_500):
        if step % 100 == 0:
            limits = quota(f"{5 + step % 3}/min", per="tenant")
            for engine in (small, large):
                rig.engine = engine
                rig.write(limits, at=now)
        now += chance.choice((0, SECOND, 9 * SECOND, 30 * SECOND))
        tenant = f"{now // (3 * MINUTE)}-{chance.randrange(2)}"
        cost = chance.choice((0, 1, 3))
        answers = [verdict(of.check("/", {"tenant": tenant}, cost, now)) for of in (small, large)]
        answers[1] = answers[1]._replace(generation=answers[0].generation)
        assert answers[0] == answers[1], step
    assert small.usage().overflowed == 0
    assert large.usage().buckets >= small.usage().buckets


def test_past_windows_are_evicted(rig: Rig) -> None:
    rig.bound(3)
    rig.write(quota("5/min", per="tenant"))
    for minute in range(20):
        for tenant in "abc":
            assert rig.ask(5, minute * MINUTE, tenant=f"{tenant}{minute}").allowed
    assert rig.engine.usage().overflowed == 0
    assert rig.engine.usage().buckets <= 3


def test_a_full_table_never_admits_more(rig: Rig) -> None:
    rig.bound(2)
    rig.write(quota("5/day", per="tenant"))
    for tenant in "abcdefgh":
        assert sum(rig.ask(tenant=tenant).allowed for _ in range(9)) <= 5
    assert rig.engine.usage().overflowed > 0


def test_stricter_of_two_windows_admits_no_more_than_either() -> None:
    offset = WallOffset(TEN)
    of = Quota(5, CalendarWindow("day"), offset)
    today = of.spent(4, 0)
    tomorrow = of.spent(2, 14 * HOUR)  # read before the wall clock stepped back
    for one, two in ((today, tomorrow), (tomorrow, today)):
        _, end, _, used = of.stricter(one, two, 0)
        assert (used, end) == (4, tomorrow[1])
    assert not of.same(today, tomorrow, 0)
    assert not of.same(of.spent(2, 0), tomorrow, 0)
    assert of.same(of.spent(0, 0), of.spent(0, 14 * HOUR), 0)
