"""State machine that sends the same requests to an engine and the oracle, and compares all fields.

In some examples the clock steps back as well. An evicted bucket's own time is forgotten, which such
a clock can notice; and no more is promised of it than that nothing is minted. So in these examples
no key gets a new bucket while any other might be forgotten: the request only looks, instead.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from engine.drawn import OFFSET, WALL, set_wall
from engine.model import Oracle
from engine.plans import plan_set, verdict
from engine.rules import scaled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypothesis import settings

    from engine.drawn import Request
    from engine.engines import MakeEngine
    from engine.model import Charge, Published, Verdict
    from ratectl.engine.api import LimitUsage
    from ratectl.engine.decision import Decision

LAST = 4 * 10**18
"""Latest time of a clock: nanoseconds since 1970 have to fit into 64 bits."""

REMEMBERED = 24


class Open(NamedTuple):
    """An admitted request, to be released or settled."""

    decision: Decision
    charge: Charge


class Machine(RuleBasedStateMachine):
    """Time, generations and requests; subclasses decide what is drawn."""

    make: ClassVar[MakeEngine]

    def __init__(self) -> None:
        super().__init__()
        self.oracle = Oracle()
        self.published: Published = {}
        self.edges = [0]
        self.open: list[Open] = []
        self.back = False
        self.now = 0
        self.scale = 1
        self.met: dict[tuple[object, ...], Request] = {}
        """Requests that together read every bucket."""

    def start(
        self, first: int, wall: int, *, back: bool, max_buckets: int, scale: int = 1
    ) -> None:  # fmt: skip
        """``back``: the clock may step back. ``max_buckets``: default as many as there are keys.

        ``scale``: factor for all drawn limits and requests.
        """
        self.back, self.now, self.scale = back, first, scale
        set_wall(wall - first)
        self.engine = type(self).make(lambda: self.now, max_buckets=max_buckets)
        self.engine._table.evicts = not back  # type: ignore[attr-defined]

    def publish(self, published: Published) -> None:
        self.published = published
        if self.scale > 1:
            published = {
                scope: tuple([replace(of, rule=scaled(of.rule, self.scale)) for of in limits])
                for scope, limits in published.items()
            }
        generation = self.oracle.generation + 1
        self.engine.swap(plan_set(generation, published, OFFSET))
        self.oracle.swap(generation, published, self.now)

    # -- requests

    def ask(self, requests: Iterable[Request]) -> None:
        for request in requests:
            request = request._replace(cost=request.cost * self.scale)
            if self.back:
                request = self.without_forgetting(request)
            got = self.ask_one(request)
            self.edges = [*self.edges[-7:], got.retry_after_ns or 0, got.reset_after_ns or 0]

    def ask_one(self, request: Request) -> Verdict:
        scope, attributes, cost = request
        decision = self.engine.check(scope, attributes, cost)
        got = verdict(decision)
        expected = self.oracle.check(scope, attributes, cost, self.now)
        assert got == expected, f"{got} != {expected} for {request} at {self.now}"
        charge = self.oracle.charge
        if charge is not None and self.worth_remembering(charge):
            self.open = [*self.open[1 - REMEMBERED :], Open(decision, charge)]
        return got

    def worth_remembering(self, charge: Charge) -> bool:
        """Return True if the decision can be released or settled."""
        return bool(charge.slots)

    def without_forgetting(self, request: Request) -> Request:
        """Return the request, or a peek if it would start a bucket while others might be forgotten.

        All kept buckets have been read by then, so it makes no difference if an engine that
        makes room reads them as well.
        """
        if not request.cost or not self.oracle.begins(request.scope, request.attributes):
            return request
        self.look_at_all()
        if any(book.idle(self.now) for book in self.oracle.books.values()):
            return request._replace(cost=0)
        self.met[request.scope, *request.attributes.items()] = request._replace(cost=0)
        return request

    def look_at_all(self) -> None:
        opened = self.open
        for each in self.met.values():
            self.ask_one(each)
        self.open = opened

    def release(self, picks: Iterable[int]) -> None:
        """Release one of the last requests, which may be released already."""
        for pick in picks if self.open else ():
            decision, charge = self.open[-1 - pick % len(self.open)]
            decision.release()
            charge.release()

    # -- time

    def pass_time(self, span: int) -> None:
        self.now = max(0, min(LAST, self.now + span))

    def pass_to_edge(self, pick: int) -> None:
        """Move the clock to an instant that an answer named, or 1 ns before or after it."""
        pick, off = divmod(pick, 3)
        self.pass_time(max(0, self.edges[pick % len(self.edges)] + (0, -1, 1)[off]))

    def move_wall(self, span: int) -> None:
        set_wall(WALL.ns + span)

    # -- counts

    def compare_usage(self) -> None:
        usage = self.engine.usage()
        for book in self.oracle.books.values():
            book.expire(self.now)
        assert usage.generation == self.oracle.generation
        assert usage.no_policy == self.oracle.no_policy
        assert usage.overflowed == 0
        assert usage.buckets == sum(of.keys for of in usage.limits)
        told = {(of.scope, of.limit, of.budget): of for of in usage.limits}
        assert told.keys() <= self.oracle.tallies.keys()
        for identity in self.oracle.tallies:
            self._compare_counts(identity, told.get(identity))

    def _compare_counts(self, identity: tuple[str, str, bool], of: LimitUsage | None) -> None:
        tally, book = self.oracle.tallies[identity], self.oracle.books[identity]
        counts = (tally.allowed, tally.refused, tally.never, tally.shadow_refused, tally.lowest)
        if of is None:
            assert counts == (0, 0, 0, 0, None)
            return
        assert (of.allowed, of.refused, of.never, of.shadow_refused, of.lowest) == counts
        assert (of.shadow, of.most) == (book.limit.shadow, book.rule.most)
        assert of.keys <= len(book.kept)
        tally.lowest = None

    def teardown(self) -> None:
        if self.oracle.generation:
            self.compare_usage()


def run(machine: type[Machine], make: MakeEngine, profile: settings) -> None:
    """Run a machine. Hypothesis remembers failures by the machine's class."""
    run_state_machine_as_test(type(machine.__name__, (machine,), {"make": make}), settings=profile)
