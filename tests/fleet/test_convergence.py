"""Waiting for agents: how many are enough, which are waited for, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fleet.reports import report_agent
from ratectl.errors import StoreUnavailable
from ratectl.fleet.convergence import Enough, Standing, wait_for_agents
from ratectl.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ratectl.fleet.convergence import Outcome
    from ratectl.stores.base import Store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/s.db"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


def waited(
    store: Any, wanted: Enough, meanwhile: Callable[[float], object] = lambda _: None
) -> tuple[Outcome, Standing, float]:
    """Wait at most ten seconds for generation 5; call ``meanwhile`` at each look."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        meanwhile(round(now, 3))

    outcome, standing = wait_for_agents(
        store, 5, wanted, seconds=10.0, clock=lambda: now, sleep=sleep
    )
    return outcome, standing, now


@pytest.mark.parametrize(
    ("text", "there", "number"),
    [("3", 9, 3), ("3", 1, 3), ("50%", 9, 5), ("1%", 3, 1), ("100%", 7, 7), ("0.5%", 1_000, 5)],
)
def test_required_number_of_agents(text: str, there: int, number: int) -> None:
    assert Enough.parse(text).of(there) == number


@pytest.mark.parametrize("text", ["0", "-1", "0%", "101%", "x", "", "%", "nan%", "1.5", "5 %x"])
def test_invalid_number_of_agents_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither a number of agents, like 3, nor a share"):
        Enough.parse(text)


def test_wait_ends_when_all_agents_run_it(store: Store, url: str) -> None:
    for agent in ("a", "b", "c"):
        report_agent(url, id=agent, generation=4)

    def meanwhile(now: float) -> None:
        for at, agent, generation in ((1.0, "a", 5), (2.0, "b", 6), (3.0, "c", 5)):
            if now == at:
                report_agent(url, id=agent, generation=generation)

    outcome, standing, now = waited(store, Enough(), meanwhile)
    assert (outcome, len(standing.running), now) == ("reached", 3, pytest.approx(3.0))


def test_agent_that_leaves_is_not_waited_for(store: Store, url: str) -> None:
    report_agent(url, id="a", generation=5)
    report_agent(url, id="b", generation=4)

    def meanwhile(now: float) -> None:
        if now == 1.0:
            store.delete("agents/b")

    outcome, standing, _ = waited(store, Enough(), meanwhile)
    assert (outcome, standing.there) == ("reached", 1)


def test_wait_for_a_number_includes_agents_that_start_later(store: Store, url: str) -> None:
    report_agent(url, id="a", generation=5)

    def meanwhile(now: float) -> None:
        if now == 1.0:
            report_agent(url, id="b", generation=5)

    assert waited(store, Enough(number=2), meanwhile)[0] == "reached"


def test_one_rejection_ends_the_wait(store: Store, url: str) -> None:
    for agent in ("a", "b", "c"):
        report_agent(url, id=agent, generation=5)
    report_agent(url, id="d", generation=4, state="rejected", rejected=5, error="no")
    outcome, standing, now = waited(store, Enough(number=1))
    assert (outcome, [each.id for each in standing.rejected], now) == ("rejected", ["d"], 0.0)


def test_rejection_of_another_generation_does_not_count(store: Store, url: str) -> None:
    report_agent(url, id="a", generation=3, state="rejected", rejected=4, error="no")
    assert waited(store, Enough())[0] == "timeout"


def test_wait_ends_after_two_seconds_without_agents(store: Store) -> None:
    outcome, _, now = waited(store, Enough(number=3))
    assert (outcome, now) == ("nobody", pytest.approx(2.0))


def test_agent_that_has_just_started_is_waited_for(store: Store, url: str) -> None:
    def meanwhile(now: float) -> None:
        if now == 1.5:
            report_agent(url, id="a", generation=5)

    outcome, standing, now = waited(store, Enough(), meanwhile)
    assert (outcome, standing.there, now) == ("reached", 1, pytest.approx(1.5))


def test_wait_ends_at_the_timeout(store: Store, url: str) -> None:
    report_agent(url, id="a", generation=4)
    outcome, standing, now = waited(store, Enough())
    assert (outcome, [each.id for each in standing.behind]) == ("timeout", ["a"])
    assert now == pytest.approx(10.0, abs=0.2)


class Flaky:
    """A store that does not answer for a while."""

    def __init__(self, store: Store, fails: int) -> None:
        self.store, self.fails = store, fails

    def list(self, prefix: str) -> Any:
        self.fails -= 1
        if self.fails >= 0:
            raise StoreUnavailable("here", "gone")
        return self.store.list(prefix)


def test_unreachable_store_is_asked_again(store: Store, url: str) -> None:
    report_agent(url, id="a", generation=5)
    assert waited(Flaky(store, 5), Enough())[0] == "reached"
    with pytest.raises(StoreUnavailable):
        waited(Flaky(store, 10_000), Enough())
