"""Estimates of what a cluster uses, compared with simulations of the real protocol."""

from __future__ import annotations

import pytest

from ratectl.cluster.protocol.timing import MILLISECOND, SECOND, Timing
from ratectl.cluster.sizing import LEAST_TIME, LEAST_TOKENS, Plan, Sizing
from simulation.traffic import Result, Traffic

LASTS = 30 * SECOND
DELAYS = 1.1
"""The simulated network takes 80 % to 140 % of the round trip."""


def sizing(rate: int, burst: int, members: int, round_trip: float) -> Sizing:
    """Estimates for a rate of each second, and a round trip in milliseconds."""
    plan = Plan(rate, SECOND, burst, members, round(round_trip * MILLISECOND))
    return Sizing(plan, Timing(), LASTS)


def simulated(
    rate: int, burst: int, members: int, round_trip: int, pattern: str, seconds: int = 8
) -> Result:
    """Traffic that asks for three times the rate. The busy members change once."""
    return Traffic(
        members, rate=rate, burst=burst, round_trip=round_trip * MILLISECOND, seconds=seconds,
        every=seconds // 2, pattern=pattern,
    ).run()  # fmt: skip


# Use, compared with simulations -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "burst", "members", "round_trip"),
    [
        (1_000, 50, 20, 50), (1_000, 100, 20, 100), (1_000, 200, 20, 200), (1_000, 50, 5, 50),
        (1_000, 20, 5, 50), (1_000, 20, 2, 50), (5_000, 250, 5, 50), (1_000, 10, 2, 20),
    ],
)  # fmt: skip
def test_estimate_for_even_requests_is_within_three_points(
    rate: int, burst: int, members: int, round_trip: int
) -> None:
    estimate = sizing(rate, burst, members, round_trip * DELAYS).used_if_even
    assert estimate is not None
    assert estimate < 1
    used = simulated(rate, burst, members, round_trip, "even").used
    assert estimate == pytest.approx(used, abs=0.03)


@pytest.mark.parametrize(
    ("rate", "burst", "members", "round_trip"),
    [
        (1_000, 50, 20, 10), (1_000, 50, 20, 50), (1_000, 100, 20, 50), (1_000, 200, 20, 100),
        (1_000, 200, 20, 200), (1_000, 50, 5, 50), (1_000, 100, 50, 10),
    ],
)  # fmt: skip
def test_estimate_for_skewed_requests_is_within_three_points(
    rate: int, burst: int, members: int, round_trip: int
) -> None:
    estimate = sizing(rate, burst, members, round_trip * DELAYS).used_if_skewed
    assert estimate is not None
    assert estimate < 1
    used = simulated(rate, burst, members, round_trip, "move").used
    assert estimate == pytest.approx(used, abs=0.03)


@pytest.mark.parametrize("pattern", ["even", "move"])
@pytest.mark.parametrize(
    ("rate", "members", "round_trip"),
    [
        (1_000, 2, 2), (1_000, 5, 2), (5_000, 5, 10), (1_000, 20, 2), (1_000, 20, 10),
        (1_000, 20, 50), (100, 50, 2), (1_000, 50, 50), (1_000, 100, 10),
    ],
)  # fmt: skip
def test_smallest_burst_is_used_wherever_the_requests_are(
    rate: int, members: int, round_trip: int, pattern: str
) -> None:
    burst = sizing(rate, 1, members, round_trip * DELAYS).smallest_burst
    assert sizing(rate, burst, members, round_trip * DELAYS).used_if_skewed == 1
    assert simulated(rate, burst, members, round_trip, pattern, 13).used >= 0.97


@pytest.mark.parametrize(
    ("rate", "burst", "members", "round_trip"),
    [
        (2_000, 44, 15, 15), (3_000, 356, 3, 70), (500, 8, 4, 3), (3_000, 140, 70, 15),
        (3_000, 278, 40, 30), (3_000, 853, 15, 70), (500, 107, 40, 15),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pattern", ["even", "move"])
def test_estimates_are_as_accurate_as_the_help_says(
    rate: int, burst: int, members: int, round_trip: int, pattern: str
) -> None:
    """The constants were fitted to the settings above, and not to these: some are the worst."""
    estimates = sizing(rate, burst, members, round_trip * DELAYS)
    estimate = estimates.used_if_even if pattern == "even" else estimates.used_if_skewed
    used = simulated(rate, burst, members, round_trip, pattern, 13).used
    assert estimate == pytest.approx(used, abs=0.03 if estimate == 1 else 0.2)


# Laws ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 2, 20, 1_000])
@pytest.mark.parametrize("round_trip", [0, 2, 50, 499])
@pytest.mark.parametrize("rate", [1, 1_000, 10**9])
def test_smallest_burst_keeps_every_rule_and_does_not_depend_on_the_given_one(
    rate: int, round_trip: int, members: int
) -> None:
    smallest = sizing(rate, 1, members, round_trip).smallest_burst
    assert smallest >= LEAST_TOKENS * members
    assert smallest * SECOND >= rate * LEAST_TIME
    there = sizing(rate, smallest, members, round_trip)
    assert (there.used_if_skewed, there.smallest_burst) == (1, smallest)


@pytest.mark.parametrize(
    ("rate", "members", "round_trip", "why"),
    [(100, 200, 1, "members"), (5_000, 2, 1, "pauses"), (1_000, 20, 100, "network")],
)
def test_each_rule_can_decide_the_smallest_burst(
    rate: int, members: int, round_trip: int, why: str
) -> None:
    smallest = sizing(rate, 1, members, round_trip).smallest_burst
    rules = {"members": LEAST_TOKENS * members, "pauses": rate * LEAST_TIME // SECOND}
    assert smallest == rules.get(why, smallest)
    assert smallest > max(value for rule, value in rules.items() if rule != why)


def test_more_is_used_with_a_larger_burst_and_with_even_requests() -> None:
    before = 0.0
    for burst in range(40, 400, 10):
        estimates = sizing(1_000, burst, 20, 50)
        even, skewed = estimates.used_if_even, estimates.used_if_skewed
        assert even is not None
        assert skewed is not None
        assert before <= skewed <= even
        before = skewed
    assert before == 1


def test_nothing_is_estimated_for_less_than_two_tokens_for_each_member() -> None:
    few = sizing(1_000, 39, 20, 2)
    assert (few.used_if_even, few.used_if_skewed) == (None, None)
    assert simulated(1_000, 10, 20, 2, "move").used < 0.3  # such a bucket may be of little use


def test_rate_of_a_longer_period_is_the_rate_of_each_second() -> None:
    of_a_minute = Sizing(Plan(60_000, 60 * SECOND, 100, 20, 50 * MILLISECOND), Timing(), LASTS)
    same = sizing(1_000, 100, 20, 50)
    assert of_a_minute.smallest_burst == same.smallest_burst
    assert of_a_minute.used_if_skewed == same.used_if_skewed


# Cost ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["even", "move"])
@pytest.mark.parametrize(
    ("burst", "members", "round_trip"), [(1_000, 20, 2), (100, 20, 50), (50, 20, 2), (10, 5, 2)]
)
def test_simulated_messages_are_between_the_estimates(
    burst: int, members: int, round_trip: int, pattern: str
) -> None:
    estimates = sizing(1_000, burst, members, round_trip)
    messages = simulated(1_000, burst, members, round_trip, pattern).messages
    assert estimates.idle_messages <= messages <= estimates.busy_messages


def test_costs_follow_from_the_constants_of_the_protocol() -> None:
    estimates = sizing(1_000, 1_000, 20, 2)
    timing = Timing()
    assert estimates.gap == timing.gap
    assert estimates.idle_messages == pytest.approx(2 * 2 * 20 / 0.15)
    assert estimates.writes == 3 * 20 / 30
    assert estimates.own_share_after == timing.resume_after
    assert 1.5 * SECOND <= estimates.owner_replaced_after <= 3 * SECOND
    assert LASTS < estimates.share_taken_after < LASTS + SECOND
