"""State machine that sends the same requests to an engine and the oracle, and compares all fields.

In some examples the clock steps back as well. An engine's time then stands still until the clock
gets there again, and its waits begin where the clock is.
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
    from ratectl.engine.api import LimitCounts
    from ratectl.engine.decision import Decision

LAST = 4 * 10**18
"""Latest time of a clock: nanoseconds since 1970 have to fit into 64 bits."""

REMEMBERED = 24


class Open(NamedTuple):
    """An admitted request, to be released or settled."""

    decision: Decision
    charge: Charge
    scope: str


class Machine(RuleBasedStateMachine):
    """Time, generations and requests; subclasses decide what is drawn."""

    make: ClassVar[MakeEngine]

    def __init__(self) -> None:
        super().__init__()
        self.oracle = Oracle()
        self.published: Published = {}
        self.edges = [0]
        self.open: list[Open] = []
        self.now = 0
        """Reading of the clock."""
        self.last = 0
        """Latest instant of any decision or change."""
        self.scale = 1

    def start(
        self, first: int, wall: int, *, max_buckets: int, evicts: bool = True, scale: int = 1
    ) -> None:  # fmt: skip
        """``max_buckets``: bound of the table. ``evicts``: buckets may be forgotten.

        ``scale``: factor for all drawn limits and requests.
        """
        self.now, self.last, self.scale = first, first, scale
        set_wall(wall - first)
        self.engine = type(self).make(lambda: self.now, max_buckets=max_buckets)
        self.engine._table.evicts = evicts  # type: ignore[attr-defined]

    def publish(self, published: Published) -> None:
        self.published = published
        if self.scale > 1:
            published = {
                scope: tuple([replace(of, rule=scaled(of.rule, self.scale)) for of in limits])
                for scope, limits in published.items()
            }
        generation = self.oracle.generation + 1
        self.engine.swap(plan_set(generation, published, OFFSET))
        self.oracle.swap(generation, published, self.instant())

    # -- requests

    def ask(self, requests: Iterable[Request]) -> None:
        for request in requests:
            request = request.scaled(self.scale)
            got = self.ask_one(request)
            self.edges = [*self.edges[-7:], got.retry_after_ns or 0, got.reset_after_ns or 0]

    def ask_one(self, request: Request) -> Verdict:
        scope, attributes, cost = request
        decision = self.engine.check(scope, attributes, cost)
        got = verdict(decision)
        if self.oracle.covering(scope) is not None:
            self.instant()
        expected = self.oracle.check(scope, attributes, cost, self.last)
        if self.last > self.now:
            expected = expected.later(self.last - self.now)
        assert got == expected, f"{got} != {expected} for {request} at {self.now}"
        charge = self.oracle.charge
        if charge is not None and self.worth_remembering(charge):
            self.open = [*self.open[1 - REMEMBERED :], Open(decision, charge, scope)]
        return got

    def worth_remembering(self, charge: Charge) -> bool:
        """Return True if the decision can be released or settled."""
        return bool(charge.slots)

    def release(self, picks: Iterable[int]) -> None:
        """Release one of the last requests, which may be released already."""
        for pick in picks if self.open else ():
            decision, charge, _ = self.open[-1 - pick % len(self.open)]
            decision.release()
            charge.release()

    # -- time

    def instant(self) -> int:
        """Return the engine's time, which never steps back."""
        self.last = max(self.last, self.now)
        return self.last

    def pass_time(self, span: int) -> None:
        self.now = max(0, min(LAST, self.now + span))

    def pass_to_edge(self, pick: int) -> None:
        """Move the clock to an instant that an answer named, or 1 ns before or after it."""
        pick, off = divmod(pick, 3)
        self.pass_time(max(0, self.edges[pick % len(self.edges)] + (0, -1, 1)[off]))

    def move_wall(self, span: int) -> None:
        set_wall(WALL.ns + span, self.last)

    # -- counts

    def compare_usage(self) -> None:
        usage = self.engine.usage()
        self.instant()
        assert usage.generation == self.oracle.generation
        assert usage.no_policy == self.oracle.no_policy
        assert usage.overflowed == 0
        assert usage.buckets == sum(of.keys for of in usage.limits)
        told = {(of.scope, of.limit, of.budget): of for of in usage.limits}
        assert told.keys() <= self.oracle.tallies.keys()
        for identity in self.oracle.tallies:
            self._compare_counts(identity, told.get(identity))

    def _compare_counts(self, identity: tuple[str, str, bool], of: LimitCounts | None) -> None:
        tally, book = self.oracle.tallies[identity], self.oracle.books[identity]
        counts = (
            tally.allowed, tally.refused, tally.never, tally.shadow_refused, tally.absent,
            tally.lowest,
        )  # fmt: skip
        if of is None:
            assert counts == (0, 0, 0, 0, 0, None)
            return
        told = (of.allowed, of.refused, of.never, of.shadow_refused, of.absent, of.lowest)
        assert told == counts
        assert (of.shadow, of.most) == (book.limit.shadow, book.rule.most)
        assert of.keys <= len(book.kept)
        tally.lowest = None

    def teardown(self) -> None:
        if self.oracle.generation:
            self.compare_usage()


def run(machine: type[Machine], make: MakeEngine, profile: settings) -> None:
    """Run a machine. Hypothesis remembers failures by the machine's class."""
    run_state_machine_as_test(type(machine.__name__, (machine,), {"make": make}), settings=profile)
