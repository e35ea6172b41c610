"""Simulated faults: no more is admitted than one central bucket would admit."""

from __future__ import annotations

import pytest

from simulation.schedule import random_schedule, window_schedule
from simulation.shrinking import explained, failure, shrunk
from simulation.world import Violation
from soak import scaled

SEEDS = scaled(120, 2_000)
WINDOW_SEEDS = scaled(40, 500)
AT_ONCE = 10


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_no_schedule_admits_more_than_one_bucket(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        if failure(random_schedule(seed)) is not None:
            pytest.fail(explained(seed) or "it failed once, and not again")


@pytest.mark.parametrize("first", range(0, WINDOW_SEEDS, AT_ONCE))
def test_no_schedule_admits_too_many_in_a_window(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        if failure(window_schedule(seed)) is not None:
            pytest.fail(explained(seed, windows=True) or "it failed once, and not again")


@pytest.mark.parametrize("seed", [489, 2198, 2736])
def test_schedules_that_admitted_too_much_once(seed: int) -> None:
    assert failure(random_schedule(seed)) is None


def test_a_failing_schedule_is_shrunk_to_what_it_needs() -> None:
    schedule = random_schedule(7)
    needed = {schedule.steps[10], schedule.steps[50]}
    small = shrunk(schedule, lambda tried: needed <= set(tried.steps))
    assert set(small.steps) == needed
    assert str(small).count("\n") == 2


def test_a_violation_names_its_time() -> None:
    violation = Violation(2_500_000, "too much")
    assert (violation.at, str(violation)) == (2.5, "at 2.50 ms: too much")
