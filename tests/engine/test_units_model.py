"""Costs in several units and absent attributes, beside the oracle: decisions, settlements and
publications."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from engine.clocks import batches, edges, picks, scales
from engine.drawn import Crowd, Edit, edited
from engine.engines import each_engine
from engine.machine import Machine, run
from engine.model import Limit
from engine.plans import by_scope
from engine.rules import SECOND, Slots, Tokens, Window
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.books import Book, Key
    from engine.engines import MakeEngine
    from engine.machine import Open
    from engine.model import Cost
    from engine.rules import Rule

POOL: Sequence[Rule] = [
    Tokens(1, SECOND, 8),
    Window(8, 15 * SECOND),
    Tokens(3, 10 * SECOND, 8),
    Window(5, 4 * SECOND),
    Slots(6, 60 * SECOND),
]
UNITS = ("requests", "tokens", "tokens", "bytes")
COSTS: Sequence[Cost] = (
    1, {"tokens": 2}, {"tokens": 3, "requests": 2}, 0, {"bytes": 1}, {"tokens": 0}, {},
    {"requests": 0, "tokens": 1, "bytes": 2}, {"tokens": 9}, {"nothing": 5}, 3, {"requests": 0},
)  # fmt: skip
CROWD = Crowd(("/a", "/", "/a/b"), COSTS, ("x", "y", None), ("x",))
ACTUAL: Sequence[Cost] = (
    {"tokens": 1}, 2, {"tokens": 4}, {"bytes": 3}, {"requests": 3}, 0, {}, {"tokens": 0},
    {"requests": 0, "tokens": 6}, {"bytes": 0, "nothing": 1},
)  # fmt: skip
KINDS = ("unit", "rule", "absent", "shadow", "drop", "add", "unit", "budget", "absent", "per")

spans = st.sampled_from((0, 0, 1, SECOND // 2, SECOND, 2 * SECOND, 5 * SECOND, 15 * SECOND))
numbers = st.integers(0, 255)


class Units(Machine):
    """Limits and budgets of several units, some of which skip requests without a tenant.

    Costs are settled, or publications change units and what is skipped.
    """

    @initialize(of=st.lists(numbers, min_size=2, max_size=5), scale=scales, changes=st.booleans())
    def begin(self, of: list[int], scale: int, changes: bool) -> None:
        self.changes = changes
        self.start(10**15, 0, max_buckets=10_000, evicts=False, scale=scale)
        places = (
            Limit("/", "l", POOL[0], ("tenant",)),
            Limit("/a", "m", POOL[0], ("tenant",)),
            Limit("/", "b", POOL[0], budget=True),
            Limit("/a", "l", POOL[0]),
            Limit("/", "m", POOL[0], ("tenant",), shadow=True),
        )
        self.publish(by_scope(*[
            replace(limit, rule=POOL[n // 4 % len(POOL)], unit=UNITS[n % 4],
                    skips=bool(limit.per) and n > 200)
            for limit, n in zip(places, of, strict=False)
        ]))  # fmt: skip

    def worth_remembering(self, charge: object) -> bool:
        return True

    @rule(batch=batches, span=spans)
    def check(self, batch: bytes, span: int) -> None:
        self.ask(CROWD.requests(batch))
        self.pass_time(span)

    @rule(edge=edges, batch=batches)
    def check_at_an_edge(self, edge: int, batch: bytes) -> None:
        self.pass_to_edge(edge)
        self.ask(CROWD.requests(batch))

    @rule(which=picks, batch=batches)
    def give_back(self, which: bytes, batch: bytes) -> None:
        self.release(which)
        self.ask(CROWD.requests(batch))

    @precondition(lambda self: not self.changes)
    @rule(which=picks, batch=batches)
    def settle(self, which: bytes, batch: bytes) -> None:
        for pick in which if self.open else ():
            open_ = self.open[-1 - pick // 10 % len(self.open)]
            self._settle(open_, ACTUAL[pick % 10])
        self.ask(CROWD.requests(batch))

    def _settle(self, open_: Open, actual: Cost) -> None:
        if isinstance(actual, int):
            actual *= self.scale
            if open_.charge.mapped:
                with pytest.raises(UsageError, match="the cost was a mapping of units"):
                    open_.decision.settle(actual)
                return
        else:
            actual = {unit: number * self.scale for unit, number in actual.items()}
        if self.promised(open_, {"requests": actual} if isinstance(actual, int) else actual):
            open_.decision.settle(actual)
            self.oracle.settle(open_.charge, open_.scope, actual, self.instant())

    def promised(self, of: Open, actual: dict[str, int]) -> bool:
        """Return True if the oracle knows the outcome: see ``test_settle_model``."""
        _, books = self.oracle.governing(of.scope) or ("", [])
        raised = [unit for unit, n in actual.items() if n > of.charge.costs.get(unit, (0, 0))[0]]
        return not any(
            self.high(book, book.key(of.charge.attributes))
            for book in books
            if book.limit.unit in raised
        )

    def high(self, book: Book, key: Key) -> bool:
        here = book.kept.get(key)
        return isinstance(book.rule, Tokens) and (
            here is None or 2 * book.rule.look(here, self.instant()).tokens > book.rule.burst
        )

    @precondition(lambda self: self.changes)
    @rule(several=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=2), batch=batches)
    def swap(self, several: list[tuple[int, int]], batch: bytes) -> None:
        published = self.published
        for kind, what in several:
            per = (("tenant",), ())[what & 1]
            of, unit = POOL[what // 2 % 4], UNITS[what // 12 % 4]
            edit = Edit(kind, kind // 10 % 6, of, per, what > 240, unit)
            published = edited(published, KINDS[kind % 10], edit)
        self.publish(published)
        self.ask(CROWD.requests(batch))

    @rule()
    def read_usage(self) -> None:
        self.compare_usage()


@each_engine
def test_engine_and_oracle_agree_about_units(make: MakeEngine) -> None:
    run(Units, make, settings())
