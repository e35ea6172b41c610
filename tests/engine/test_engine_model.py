"""Engine and oracle side by side: every field of every decision, to the nanosecond.

``HYPOTHESIS_PROFILE=thorough`` runs 1,000 examples of 100 steps for each machine and engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from engine.clocks import HOUR, batches, edges, leaps, picks, scales, spans, walls
from engine.drawn import PERS, UNITS, WALL, Crowd, Edit, edited, edits, limits
from engine.engines import each_engine
from engine.machine import Machine, run
from engine.model import Limit
from engine.rules import SECOND, Quota, Slots, Tokens, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.engines import MakeEngine
    from engine.rules import Rule

MIXED = ("rule", "rule", "shadow", "rule", "drop", "add", "rule", "budget", "budget")
LINEAGE = ("declare", "rule", "per", "declare", "budget", "remove", "per", "rule", "add", "shadow")
ANYBODY = Crowd()
FEW = Crowd(tenants=("x", "y"), routes=("x",))


class Comparison(Machine):
    """Random publications, of one of three kinds.

    ``mixed``: buckets go on as those of any other algorithm. ``lineage``: scopes are declared, and
    keys change. ``back``: as mixed, and clocks step back.
    """

    @initialize(
        first=st.lists(limits, min_size=3, max_size=4),
        wall=walls,
        way=st.sampled_from(("mixed", "lineage", "back")),
        scale=scales,
    )
    def begin(
        self, first: list[tuple[Rule, tuple[str, ...], bool]], wall: int, way: str, scale: int
    ) -> None:  # fmt: skip
        back = way == "back"
        self.kinds = LINEAGE if way == "lineage" else MIXED
        self.back = back
        self.crowd = FEW if back else ANYBODY
        self.start(10**15 if back else 0, wall, max_buckets=72, scale=scale)
        places = (("/", "l"), ("/a", "l"), ("/a", "m"), ("/", "m"))
        published: dict[str, tuple[Limit, ...]] = {}
        for (scope, name), (of, per, shadow) in zip(places, first, strict=False):
            published[scope] = (*published.get(scope, ()), Limit(scope, name, of, per, shadow))
        self.publish(published)

    @rule(batch=batches, span=spans)
    def check(self, batch: bytes, span: int) -> None:
        self.ask(self.crowd.requests(batch))
        self.pass_time(span)

    @rule(edge=edges, batch=batches)
    def check_at_an_edge(self, edge: int, batch: bytes) -> None:
        self.pass_to_edge(edge)
        self.ask(self.crowd.requests(batch))

    @rule(span=leaps)
    def leap(self, span: int) -> None:
        self.pass_time(span)

    @rule(several=st.lists(edits(limits), max_size=3), batch=batches)
    def swap(self, several: list[Edit], batch: bytes) -> None:
        published = self.published
        for edit in several:
            kind = self.kinds[edit.kind % len(self.kinds)]
            published = edited(published, kind, edit)
        self.publish(published)
        self.ask(self.crowd.requests(batch))

    @rule(which=picks, batch=batches)
    def give_back(self, which: bytes, batch: bytes) -> None:
        self.release(which)
        self.ask(self.crowd.requests(batch))

    @precondition(lambda self: self.back)
    @rule(span=st.sampled_from((1, 2, 1_000_000, SECOND, 7 * SECOND, 60 * SECOND, HOUR)))
    def step_back(self, span: int) -> None:
        self.pass_time(-span)

    @precondition(lambda self: self.back)
    @rule(span=st.sampled_from((1, SECOND, 60 * SECOND, HOUR, 5 * HOUR)), back=st.booleans())
    def wall_steps(self, span: int, back: bool) -> None:
        self.move_wall(-span if back else span)

    @rule()
    def read_usage(self) -> None:
        self.compare_usage()


SLOW: Sequence[Rule] = [
    *(Tokens(count, span * SECOND, burst)
      for count, span in ((1, 10), (7, 60), (1, 3_600), (2, 11), (0, 1)) for burst in (3, 6, 12)),
    *(Window(most, length) for length in (60 * SECOND, HOUR) for most in (3, 6, 12)),
]  # fmt: skip
POOLS: dict[str, Sequence[Rule]] = {
    "rates": SLOW,
    "any": [*SLOW, *(Quota(most, unit, WALL, at) for unit, at in UNITS for most in (3, 6, 12))],
    "slots": [
        Slots(most, hold) for hold in (10 * SECOND, 60 * SECOND, HOUR) for most in (3, 6, 12)
    ],
}
POOLS["slots and rates"] = [*POOLS["slots"], *SLOW[:6]]
LINE = ("declare", "declare", "declare", "remove", "rule", "rule", "per")
COSTS = (1, 2, 1, 3, 1, 0, 4)
CIRCLE = Crowd(("/a/b", "/", "/a", "/a/b/c"), COSTS, ("x", "y"), ("x", "y"))


class Lineage(Machine):
    """One slow limit with changing scopes and keys: nearly all requests bring something along."""

    pools: ClassVar[Sequence[str]] = ("rates", "any", "slots")

    @initialize(
        of=st.integers(0, 5),
        first=st.integers(0, 100),
        per=st.sampled_from(PERS),
        wall=walls,
        back=st.booleans(),
        scale=scales,
    )
    def begin(
        self, of: int, first: int, per: tuple[str, ...], wall: int, back: bool, scale: int
    ) -> None:
        self.back = back
        self.pool = POOLS[self.pools[of % len(self.pools)]]
        self.start(10**15 if back else 0, wall, max_buckets=12, scale=scale)
        self.publish({"/": (Limit("/", "l", self.pick(first), per),)})

    def pick(self, number: int) -> Rule:
        return self.pool[number % len(self.pool)]

    @rule(
        batch=batches,
        span=st.sampled_from((0, 0, 1, SECOND, 10 * SECOND, 60 * SECOND, 600 * SECOND)),
    )
    def check(self, batch: bytes, span: int) -> None:
        self.ask(CIRCLE.requests(batch))
        self.pass_time(span)

    @rule(edge=edges, batch=batches)
    def check_at_an_edge(self, edge: int, batch: bytes) -> None:
        self.pass_to_edge(edge)
        self.ask(CIRCLE.requests(batch))

    @rule(
        several=st.lists(
            st.tuples(st.integers(0, 20), st.integers(0, 255)), min_size=1, max_size=2
        ),
        batch=batches,
    )
    def swap(self, several: list[tuple[int, int]], batch: bytes) -> None:
        published = self.published
        for kind, what in several:
            of, per = self.pick(what // 8), PERS[what % 4]
            parent = published.get("/", ())
            if parent and what & 4:
                of = parent[0].rule
            edit = Edit(kind, (0, 4, 2)[kind % 3], of, per, False)  # "l" at each of the scopes
            published = edited(published, LINE[kind // 3], edit)
        self.publish(published)
        self.ask(CIRCLE.requests(batch))

    @rule(which=picks, batch=batches)
    def give_back(self, which: bytes, batch: bytes) -> None:
        self.release(which)
        self.ask(CIRCLE.requests(batch))

    @precondition(lambda self: self.back)
    @rule(span=st.sampled_from((1, SECOND, 7 * SECOND, 60 * SECOND, HOUR)), batch=batches)
    def step_back(self, span: int, batch: bytes) -> None:
        self.pass_time(-span)
        self.ask(CIRCLE.requests(batch))

    @rule()
    def read_usage(self) -> None:
        self.compare_usage()


class LineageOfSlots(Lineage):
    """Nearly all requests bring slots along; these are released later, or become tokens."""

    pools = ("slots", "slots and rates")

    @rule(batch=batches)
    def give_all_back(self, batch: bytes) -> None:
        self.release(range(len(self.open)))
        self.ask(CIRCLE.requests(batch))


@each_engine
@pytest.mark.parametrize("machine", [Comparison, Lineage, LineageOfSlots])
def test_engine_and_oracle_agree(machine: type[Machine], make: MakeEngine) -> None:
    run(machine, make, settings())
