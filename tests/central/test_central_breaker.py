"""When a server that fails is not asked any more."""

from __future__ import annotations

import pytest

from ratectl.central.failure import Breaker, ServerFailed

ERROR = ServerFailed("no answer")


class Watched:
    """A breaker on a clock that a test moves, and what it has told."""

    def __init__(self, deadline: float) -> None:
        self.now = 0.0
        self.told: list[str | None] = []
        self.breaker = Breaker(self.told.append, deadline)

    def failed(self, *times: float) -> None:
        for self.now in times:
            self.breaker.failed(ERROR)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    watched = Watched(0.2)
    monkeypatch.setattr("ratectl.central.failure.monotonic", lambda: watched.now)
    return watched


def test_three_failures_in_a_row_open_it(watched: Watched) -> None:
    watched.failed(0, 1)
    assert not watched.breaker.is_open
    watched.failed(2, 3)
    assert watched.breaker.is_open
    assert watched.told == ["no answer"]


def test_many_failures_at_one_time_are_one(watched: Watched) -> None:
    """Requests that came at once may have been too many for the deadline."""
    watched.failed(*[n / 1_000 for n in range(50)])
    assert not watched.breaker.is_open
    watched.failed(0.05)
    assert watched.breaker.is_open


def test_a_short_deadline_opens_it_sooner(watched: Watched) -> None:
    watched.breaker = Breaker(watched.told.append, 0.01)
    watched.failed(0, 0.005, 0.01)
    assert watched.breaker.is_open


def test_a_decision_of_the_server_ends_the_row(watched: Watched) -> None:
    watched.failed(0, 1)
    watched.breaker.succeeded()
    watched.failed(2, 3)
    assert not watched.breaker.is_open
    watched.failed(4)
    assert watched.breaker.is_open


def test_a_probe_that_succeeds_closes_it(watched: Watched) -> None:
    watched.failed(0, 1, 2)
    watched.breaker.close()
    watched.breaker.close()
    assert not watched.breaker.is_open
    assert watched.told == ["no answer", None]
    watched.failed(3, 4)
    assert not watched.breaker.is_open


def test_a_closed_agent_asks_no_more_and_has_no_problem(watched: Watched) -> None:
    watched.breaker.stay_open()
    watched.failed(0, 1, 2)
    assert watched.breaker.is_open
    assert watched.told == []
