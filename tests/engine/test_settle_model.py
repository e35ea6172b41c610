"""Costs settled afterwards, beside the oracle: what is charged, and how much is refunded, exactly.

Nothing is published meanwhile, and no bucket is forgotten: of what one began as, or was before, no
more is promised than that a refund gives back too little (``conformance/test_engine_settle.py``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from engine.clocks import HOUR, batches, edges, picks, scales, walls
from engine.drawn import UNITS, WALL, Crowd
from engine.engines import each_engine
from engine.machine import Machine, run
from engine.model import Limit
from engine.plans import by_scope
from engine.rules import SECOND, Quota, Slots, Tokens, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.books import Book, Key
    from engine.engines import MakeEngine
    from engine.machine import Open
    from engine.rules import Rule

TOKENS = [Tokens(count, SECOND, burst) for burst in (8, 5, 12) for count in (1, 3)]
WINDOWS = [Window(most, length * SECOND) for most in (8, 5, 12) for length in (15, 4)]
QUOTAS = [Quota(most, unit, WALL, at) for most in (8, 20) for unit, at in UNITS]
SLOTS = [Slots(most, hold * SECOND) for most in (8, 20) for hold in (5, 60)]
POOL: Sequence[Rule] = [
    each for of in zip(TOKENS, WINDOWS, TOKENS, QUOTAS, SLOTS, strict=False) for each in of
]
COSTS = (1, 2, 4, 1, 0, 3, 6, 2)
PAIR = Crowd(("/a", "/", "/a/b"), COSTS, ("x", "y"), ("x",))
ACTUAL = (0, 1, 4, 2, 8, 3, 0, 20)
OVERLOOKED: Final = True
"""When engines charge more, they do not notice that a bucket is more than half full by then."""

chosen = st.integers(0, len(POOL) - 1)
spans = st.sampled_from((0, 0, 0, 1, SECOND // 2, SECOND, 2 * SECOND, 5 * SECOND, 15 * SECOND))


class Settling(Machine):
    """One limit, or two limits and two budgets corrected together; the clock may step back."""

    @initialize(
        of=st.lists(chosen, min_size=1, max_size=4),
        bits=st.integers(0, 15),
        wall=walls,
        scale=scales,
    )
    def begin(self, of: list[int], bits: int, wall: int, scale: int) -> None:
        self.start(10**15, wall, max_buckets=10_000, evicts=False, scale=scale)
        self.steps = bits & 1
        per = ("tenant",)
        places = (
            Limit("/", "l", TOKENS[0], per),
            Limit("/a", "b", TOKENS[0], per if bits & 8 else (), budget=True),
            Limit("/", "b", TOKENS[0], budget=True),
            Limit("/a", "m", TOKENS[0], per, shadow=bits & 6 == 6),
        )
        limits = [replace(limit, rule=POOL[n]) for limit, n in zip(places, of, strict=False)]
        self.publish(by_scope(*limits))

    def worth_remembering(self, charge: object) -> bool:
        return True

    @rule(batch=batches, span=spans)
    def check(self, batch: bytes, span: int) -> None:
        self.ask(PAIR.requests(batch))
        self.pass_time(span)

    @rule(edge=edges, batch=batches)
    def check_at_an_edge(self, edge: int, batch: bytes) -> None:
        self.pass_to_edge(edge)
        self.ask(PAIR.requests(batch))

    @rule(which=picks, batch=batches)
    def settle(self, which: bytes, batch: bytes) -> None:
        """Settle some of the last requests, one of them often several times."""
        for pick in which if self.open else ():
            open_ = self.open[-1 - pick // 8 % len(self.open)]
            actual = ACTUAL[pick % 8] * self.scale
            if self.promised(open_, actual):
                open_.decision.settle(actual)
                self.oracle.settle(open_.charge, open_.scope, actual, self.instant())
        self.ask(PAIR.requests(batch))

    def promised(self, of: Open, actual: int) -> bool:
        """Return True if the oracle knows the outcome of the settle."""
        charge = of.charge
        if actual <= charge.costs["requests"][0] or not OVERLOOKED:
            return True
        return not any(self.high(look.book, look.key) for look in charge.looks)

    def high(self, book: Book, key: Key) -> bool:
        here = book.kept.get(key)
        tokens = isinstance(book.rule, Tokens)
        return tokens and (
            here is None or 2 * book.rule.look(here, self.instant()).tokens > book.rule.burst
        )

    @rule(which=picks, batch=batches)
    def give_back(self, which: bytes, batch: bytes) -> None:
        self.release(which)
        self.ask(PAIR.requests(batch))

    @precondition(lambda self: self.steps)
    @rule(span=st.sampled_from((1, SECOND, 7 * SECOND)), batch=batches)
    def step_back(self, span: int, batch: bytes) -> None:
        self.pass_time(-span)
        self.ask(PAIR.requests(batch))

    @precondition(lambda self: self.steps)
    @rule(span=st.sampled_from((1, 60 * SECOND, HOUR, -1, -60 * SECOND, -HOUR)))
    def wall_steps(self, span: int) -> None:
        self.move_wall(span)

    @rule()
    def read_usage(self) -> None:
        self.compare_usage()


@each_engine
def test_engine_and_oracle_settle_alike(make: MakeEngine) -> None:
    run(Settling, make, settings())
