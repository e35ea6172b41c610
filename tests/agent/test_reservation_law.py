"""Random reservations, compared with an oracle that is written from the documents only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from reserving import ACME, agent_of, left

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl import Agent, Reservation

CAPACITY = {"requests": 40, "tokens": 3_000, "images": 60}


@dataclass
class Promise:
    """Reservation as the documents describe it. Time is in seconds."""

    cost: Mapping[str, int]
    expires: int
    refunds: bool
    deadline: int
    used: dict[str, int] = field(default_factory=dict)
    expired: bool = False
    ended: bool = False

    def charged(self, unit: str) -> int:
        """Return the cost that is charged in a unit."""
        estimate = self.cost.get(unit, 1 if unit == "requests" else 0)
        used = self.used.get(unit)
        if self.expired and self.refunds and unit in self.cost:
            return used or 0
        if used is None:
            return estimate
        gives_back = self.ended or (self.expired and self.refunds)
        return used if gives_back else max(used, estimate)


class Books:
    """An agent with one quota for each unit, and the promises of its reservations."""

    def __init__(self) -> None:
        quotas = {unit: {"algorithm": "quota", "rate": f"{n}/day"} for unit, n in CAPACITY.items()}
        self.agent: Agent = agent_of(**quotas)
        # A quota that is never empty: refunds to one that was are not always exact.
        assert self.agent.check("/", ACME, dict.fromkeys(CAPACITY, 1))
        self.now = 0
        self.open: list[tuple[Reservation, Promise]] = []

    def charged(self, unit: str) -> int:
        return 1 + sum(promise.charged(unit) for _, promise in self.open)

    def check(self) -> None:
        for unit, capacity in CAPACITY.items():
            assert left(self.agent, unit) == max(0, capacity - self.charged(unit))
        for reservation, promise in self.open:
            assert reservation.expired == promise.expired

    def reserve(self, cost: Mapping[str, int], expires: int, on_expiry: Any) -> None:
        asked = {"requests": 1, **cost}
        fits = all(self.charged(unit) + n <= CAPACITY[unit] for unit, n in asked.items())
        reservation = self.agent.reserve("/", ACME, cost, expires=expires, on_expiry=on_expiry)
        assert bool(reservation.open()) == fits
        if fits:
            promise = Promise(cost, expires, on_expiry == "refund", self.now + expires)
            self.open.append((reservation, promise))

    def report(self, which: int, totals: Mapping[str, int]) -> None:
        if self.open:
            reservation, promise = self.open[which % len(self.open)]
            reservation.used(totals)
            promise.used.update(totals)
            if not promise.expired:
                promise.deadline = self.now + promise.expires

    def end(self, which: int) -> None:
        if self.open:
            reservation, promise = self.open[which % len(self.open)]
            reservation.close()
            promise.ended = True

    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.agent.clock.advance(seconds)
        for _, promise in self.open:
            if not promise.ended and self.now >= promise.deadline:
                promise.expired = True


totals = st.dictionaries(
    st.sampled_from(["tokens", "images", "requests"]), st.integers(0, 900), max_size=3
)
costs = st.fixed_dictionaries(
    {},
    optional={
        "tokens": st.integers(0, 900),
        "images": st.integers(0, 20),
        "requests": st.integers(0, 5),
    },
)
which = st.integers(0, 9)
steps = st.one_of(
    st.tuples(st.just("reserve"), costs, st.integers(1, 20), st.sampled_from(["keep", "refund"])),
    st.tuples(st.just("report"), which, totals),
    st.tuples(st.just("report"), which, totals),
    st.tuples(st.just("end"), which),
    st.tuples(st.just("wait"), st.integers(0, 12)),
)


@given(st.lists(steps, max_size=40))
@settings(max_examples=150, deadline=None)
def test_quotas_hold_what_the_documents_say(steps: list[tuple[Any, ...]]) -> None:
    books = Books()
    for name, *arguments in steps:
        getattr(books, name)(*arguments)
        books.check()
    assert len(books.agent._expiries) == sum(
        promise.refunds and not promise.ended and not promise.expired for _, promise in books.open
    )
