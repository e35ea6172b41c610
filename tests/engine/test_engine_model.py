"""Engine and oracle side by side: every field of every decision, to the nanosecond."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from engine.model import Limit, Oracle
from engine.plans import plan_set, verdict
from engine.rules import SECOND, Tokens, Window
from ratectl.engine.pure import PureEngine

if TYPE_CHECKING:
    from engine.model import Published
    from engine.rules import Rule

SCOPES = ("/", "/a", "/a/b")
NAMES = ("l", "m")
SPANS = (1, 7, SECOND, 11 * SECOND, 60 * SECOND, 3_600 * SECOND)

tokens = st.builds(
    Tokens,
    st.sampled_from((0, 1, 1, 2, 3, 10, 1_000)),
    st.sampled_from(SPANS),
    st.integers(0, 12),
)
windows = st.builds(
    lambda most, length: Window(most, length, blocked=not most),
    st.integers(0, 12),
    st.sampled_from((1, 14, 15, 16, SECOND, 10 * SECOND, 60 * SECOND, 61 * SECOND)),
)
rules = tokens | windows
pers = st.sampled_from(((), ("tenant",), ("route",), ("tenant", "route")))
limits = st.tuples(rules, pers, st.integers(0, 4).map(lambda n: n == 0))
values = st.sampled_from((None, "", "x", "y"))
requests = st.tuples(
    st.sampled_from(("/", "/a", "/a", "/a/b", "/a/b", "/a/b/c", "/z")),
    values,
    values,
    st.sampled_from((0, 1, 1, 1, 1, 2, 3, 5, 12, 13)),
)
kinds = ("rule", "rule", "rule", "shadow", "per", "drop", "add", "declare", "remove")


def edits(of: tuple[str, ...]) -> st.SearchStrategy:
    return st.tuples(st.sampled_from(of), st.integers(0, 5), limits)


def edited(published: Published, kind: str, pick: int, of: tuple) -> Published:
    """``published`` with one thing different; ``pick`` chooses where."""
    fresh, per, shadow = of
    scope, name = SCOPES[pick % len(SCOPES)], NAMES[pick % len(NAMES)]
    here = {limit.name: limit for limit in published.get(scope, ())}
    if kind == "remove":
        return {at: those for at, those in published.items() if at != scope}
    if kind == "declare" or name not in here:
        if scope not in published and kind != "declare":
            return published
        here[name] = Limit(scope, name, fresh, per, shadow)
    elif kind == "drop":
        del here[name]
    elif kind == "rule":
        here[name] = replace(here[name], rule=fresh)
    elif kind == "per":
        here[name] = replace(here[name], per=per)
    elif kind == "shadow":
        here[name] = replace(here[name], shadow=not here[name].shadow)
    return {**published, scope: tuple(here.values())}


class Comparison(RuleBasedStateMachine):
    """Time goes on; buckets are evicted; anything may be published."""

    first_instant: ClassVar[int] = 0
    max_buckets: ClassVar[int] = 60
    kinds: ClassVar[tuple[str, ...]] = kinds

    def __init__(self) -> None:
        super().__init__()
        self.now = self.first_instant
        self.engine = PureEngine(lambda: self.now, max_buckets=self.max_buckets)
        self.oracle = Oracle()
        self.published: Published = {}
        self.edges = [0]

    def publish(self, published: Published) -> None:
        self.published = published
        generation = self.oracle.generation + 1
        self.engine.swap(plan_set(generation, published))
        self.oracle.swap(generation, published, self.now)

    @initialize(first=st.lists(limits, min_size=3, max_size=4))
    def begin(self, first: list[tuple[Rule, tuple[str, ...], bool]]) -> None:
        places = (("/", "l"), ("/a", "l"), ("/a", "m"), ("/", "m"))
        published: Published = {}
        for (scope, name), (of, per, shadow) in zip(places, first, strict=False):
            published[scope] = (*published.get(scope, ()), Limit(scope, name, of, per, shadow))
        self.publish(published)

    @rule(batch=st.lists(requests, min_size=1, max_size=6))
    def check(self, batch: list[tuple[str, str | None, str | None, int]]) -> None:
        self.ask(batch)

    def ask(self, batch: list[tuple[str, str | None, str | None, int]]) -> None:
        for scope, tenant, route, cost in batch:
            attributes = {"tenant": tenant, "route": route}
            given = {name: value for name, value in attributes.items() if value is not None}
            got = verdict(self.engine.check(scope, given, cost))
            assert got == self.oracle.check(scope, attributes, cost, self.now)
            self.edges = [*self.edges[-7:], got.retry_after_ns or 0, got.reset_after_ns or 0]

    @rule(span=st.sampled_from((0, 1, 2, 1_000_000, SECOND, 7 * SECOND, 60 * SECOND, 10**20)))
    def pass_time(self, span: int) -> None:
        self.now += span

    @rule(pick=st.integers(0, 8), off=st.sampled_from((-1, 0, 0, 1)))
    def pass_to_an_edge(self, pick: int, off: int) -> None:
        """To when something was said to be admitted or full, or 1 ns beside it."""
        self.now += max(0, self.edges[pick % len(self.edges)] + off)

    @rule(data=st.data(), count=st.integers(0, 3))
    def swap(self, data: st.DataObject, count: int) -> None:
        published = self.published
        for _ in range(count):
            published = edited(published, *data.draw(edits(self.kinds)))
        self.publish(published)

    @rule()
    def read_usage(self) -> None:
        usage = self.engine.usage()
        assert usage.generation == self.oracle.generation
        assert usage.no_policy == self.oracle.no_policy
        assert usage.overflowed == 0
        assert usage.buckets == sum(of.keys for of in usage.limits) <= self.max_buckets
        told = {(of.scope, of.limit): of for of in usage.limits}
        assert told.keys() <= self.oracle.tallies.keys()
        for identity, tally in self.oracle.tallies.items():
            book = self.oracle.books[identity]
            counts = (tally.allowed, tally.refused, tally.never, tally.shadow_refused, tally.lowest)
            of = told.get(identity)
            if of is None:
                assert counts == (0, 0, 0, 0, None)
                continue
            assert (of.allowed, of.refused, of.never, of.shadow_refused, of.lowest) == counts
            assert (of.shadow, of.most) == (book.limit.shadow, book.rule.most)
            tally.lowest = None

    def teardown(self) -> None:
        self.read_usage()


slow_rules = st.builds(
    Tokens,
    st.sampled_from((0, 1, 1, 2, 7)),
    st.sampled_from((10 * SECOND, 11 * SECOND, 60 * SECOND, 3_600 * SECOND)),
    st.integers(2, 12),
) | st.builds(Window, st.integers(2, 12), st.sampled_from((60 * SECOND, 3_600 * SECOND)))
lineage_edits = st.tuples(
    st.sampled_from(("declare", "declare", "declare", "remove", "rule", "rule", "per")),
    st.sampled_from((0, 4, 2)),  # "l" at each of the scopes
    st.tuples(slow_rules, pers, st.just(False)),
    st.booleans(),
)


class Lineage(Comparison):
    """One limit, slow to refill, whose scopes and keys come and go: nearly all starts are seeds."""

    @initialize(of=slow_rules, per=pers)
    def begin(self, of: Rule, per: tuple[str, ...]) -> None:
        self.publish({"/": (Limit("/", "l", of, per),)})

    @rule(span=st.sampled_from((0, 1, SECOND, 10 * SECOND, 60 * SECOND, 600 * SECOND)))
    def pass_time(self, span: int) -> None:
        self.now += span

    @rule(batch=st.lists(requests, min_size=3, max_size=10))
    def check(self, batch: list[tuple[str, str | None, str | None, int]]) -> None:
        # Few keys, so that debts are met again.
        same = {None: "x", "": "x", "x": "x", "y": "y"}
        self.ask([(at, same[tenant], same[route], cost) for at, tenant, route, cost in batch])

    @rule(several=st.lists(lineage_edits, min_size=1, max_size=2))
    def swap(self, several: list[tuple]) -> None:
        published = self.published
        for kind, pick, (fresh, per, _), alike in several:
            parent = published.get("/", ())
            of = parent[0].rule if alike and parent else fresh
            published = edited(published, kind, pick, (of, per, False))
        self.publish(published)


class SteppingBack(Comparison):
    """The clock steps back as well: each bucket then goes on from its own time.

    An evicted bucket's own time is forgotten, which a clock that steps back can notice; so nothing
    is evicted here, and no limit starts from another's buckets.
    """

    first_instant = 10**12
    kinds = ("rule", "rule", "rule", "shadow", "drop")

    def __init__(self) -> None:
        super().__init__()
        self.engine._table._sweep = lambda *_: None

    @rule(span=st.sampled_from((1, 2, 1_000_000, SECOND, 7 * SECOND, 60 * SECOND)))
    def step_back(self, span: int) -> None:
        self.now = max(0, self.now - span)


TestComparison = Comparison.TestCase
TestLineage = Lineage.TestCase
TestSteppingBack = SteppingBack.TestCase
TestComparison.settings = settings()
TestLineage.settings = settings()
TestSteppingBack.settings = settings()
