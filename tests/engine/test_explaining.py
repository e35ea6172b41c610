"""Law of explanations: they tell what a check at the same instant answers, and leave no trace.

Two engines of one kind get the same requests, publications, waivers, releases and settlements. The
first one also explains each request before it is checked, and others that are never checked. Both
must then answer and count alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.engines import each_engine
from engine.plans import verdict
from policy.trees import tree
from ratectl.compiler.plans import compile_tree
from ratectl.engine.algorithms.quota import WallOffset
from ratectl.errors import BundleError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.engines import MakeEngine
    from ratectl.engine.api import Engine, PlanSet
    from ratectl.engine.decision import Decision
    from ratectl.engine.explanation import Explanation

SECOND = 10**9
TOKENS = {"algorithm": "token-bucket"}
WINDOW = {"algorithm": "sliding-window"}
QUOTA = {"algorithm": "quota"}
SLOTS = {"algorithm": "concurrency"}
PARAMETERS: list[dict[str, Any]] = [
    {**TOKENS, "rate": "10/s", "burst": 4},
    {**TOKENS, "rate": "3/11s", "burst": 9},
    {**TOKENS, "rate": "0/s", "burst": 2},
    {**TOKENS, "rate": "1/1000000week", "burst": 900},
    {**WINDOW, "rate": "6/s"},
    {**WINDOW, "rate": "9/20s"},
    {**WINDOW, "rate": "70000/min"},
    {**WINDOW, "rate": "0/min"},
    {**QUOTA, "rate": "7/min"},
    {**QUOTA, "rate": "30/day", "resets": "00:30 Europe/Berlin"},
    {**SLOTS, "max": 3, "hold": "5s"},
    {**SLOTS, "max": 2, "hold": "90s"},
]
SCOPES = ("/", "/a", "/a/b")

limits = st.builds(
    lambda parameters, others: {**parameters, **others},
    st.sampled_from(PARAMETERS),
    st.fixed_dictionaries(
        {"per": st.sampled_from(([], ["tenant"], ["tenant", "route"]))},
        optional={
            "mode": st.sampled_from(("enforce", "enforce", "shadow", "off")),
            "unit": st.sampled_from(("requests", "tokens")),
        },
    ),
)
skipping = st.builds(
    lambda of, absent: {**of, "absent": absent}, limits, st.sampled_from(("skip", "share"))
)
overrides = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(("gold", "known")),
            "match": st.sampled_from(({"tier": "gold"}, {"route": {"exists": True}})),
            "limits": st.dictionaries(st.sampled_from("lm"), limits, min_size=1),
        }
    ),
    max_size=2,
    unique_by=lambda override: str(override["name"]),
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "limits": st.dictionaries(st.sampled_from("lm"), skipping, min_size=1),
        "budgets": st.dictionaries(st.sampled_from("lb"), limits, min_size=1),
        "overrides": overrides,
    },
)
roots = st.builds(
    lambda document, own: {**document, "limits": own},
    documents,
    st.dictionaries(st.sampled_from("lm"), skipping, min_size=1),
)
trees = st.builds(
    lambda root, others: {**others, "/": root},
    roots,
    st.dictionaries(st.sampled_from(SCOPES[1:]), documents),
)
requests = st.tuples(
    st.sampled_from(("/a/b", *SCOPES, "/a/b/c", "/z")),
    st.fixed_dictionaries(
        {},
        optional={
            "tenant": st.sampled_from(("x", "")),
            "route": st.just("/v1"),
            "tier": st.just("gold"),
        },
    ),
    st.sampled_from(
        (1, 1, 1, 2, 2, 3, 0, 1_000, {"tokens": 3}, {"tokens": 1}, {"tokens": 1, "requests": 0})
    ),
)
crowds = st.tuples(requests, st.integers(1, 6))
steps = st.lists(
    st.one_of(
        crowds,
        crowds,
        crowds,
        requests.map(lambda request: ("look", request)),
        st.sampled_from((0, 1, 10**8, SECOND, 20 * SECOND, -SECOND)),
        st.dictionaries(
            st.sampled_from((*SCOPES, "/a/b/c")), st.sampled_from(("open", "shadow")), max_size=1
        ).map(lambda waived: ("waive", waived)),
        trees.map(lambda written: ("publish", written)),
        st.tuples(st.just("settle"), st.sampled_from((None, 0, 3, {"tokens": 9}))),
    ),
    min_size=5,
    max_size=25,
)


class Twins:
    """An engine that is asked to explain, and one that is not."""

    def __init__(self, make: MakeEngine, max_buckets: int) -> None:
        self.now = 1_700_000_000 * SECOND
        self.offset = WallOffset()
        self.generation = 0
        self.engines: list[Any] = [make(lambda: self.now, max_buckets=max_buckets) for _ in "ab"]
        self.kept: list[list[Decision]] = []

    def publish(self, written: Mapping[str, Mapping[str, Any]]) -> None:
        try:
            plans: PlanSet = compile_tree(tree(written), self.generation + 1, self.offset)  # type: ignore[arg-type]
            for scope in SCOPES:  # some sets of overrides make no usable limit
                plan = plans.find(scope)
                for attributes in ({}, {"tier": "gold"}, {"route": "/v1"}):
                    if plan is not None:
                        plan.deciding(attributes)
        except BundleError:
            return
        self.generation += 1
        for engine in self.engines:
            engine.swap(plans, now=self.now)

    def check(self, request: Any) -> None:
        told: Explanation | None = self.engines[0].explain(*request)
        decisions = [engine.check(*request) for engine in self.engines]
        assert verdict(decisions[0]) == verdict(decisions[1])
        self.kept.append(decisions)
        assert told is not None
        assert_tells(told, decisions[0])
        again = decisions[0].explain()
        assert answer_of(again) == answer_of(decisions[0])
        assert again.scope == request[0]

    def settle(self, actual: Any) -> None:
        if not self.kept:
            return
        for decision in self.kept.pop(0):
            if actual is None:
                decision.release()
                continue
            try:
                decision.settle(actual)
            except UsageError:  # an integer after a mapping
                assert isinstance(actual, int)

    def take(self, step: Any) -> None:
        if isinstance(step, int):
            self.now += step
        elif step[0] == "look":
            self.engines[0].explain(*step[1])
        elif step[0] == "publish":
            self.publish(step[1])
        elif step[0] == "waive":
            for engine in self.engines:
                engine.waive(step[1])
        elif step[0] == "settle":
            self.settle(step[1])
        else:
            request, times = step
            for _ in range(times):
                self.check(request)


def answer_of(of: Explanation | Decision) -> tuple[object, ...]:
    scope = of.scope if not hasattr(of, "limit_scope") else of.limit_scope
    return (
        of.allowed, of.reason, of.limit, scope if of.limit else None, of.unit, of.capacity,
        of.remaining, of.retry_after, of.reset_after, of.generation,
    )  # fmt: skip


def assert_tells(told: Explanation, decision: Decision) -> None:
    """Check an explanation from just before a decision, also against itself."""
    assert answer_of(told) == answer_of(decision)
    assert [of.decides for of in told.limits].count(True) == (decision.limit is not None)
    for of in told.limits:
        assert of.refuses <= of.consulted
        assert of.never <= of.refuses
        assert 0 <= of.remaining <= max(of.capacity, of.remaining)
        if of.decides:
            assert (of.name, of.scope, of.unit) == (decision.limit, decision.scope, decision.unit)
            assert of.capacity == decision.capacity
            assert decision.allowed or of.remaining == decision.remaining
            assert decision.allowed or of.retry_after == decision.retry_after
    enforced = [of for of in told.limits if of.refuses and not of.shadow]
    assert told.allowed == (not enforced)
    assert (told.reason == "shadow") == (told.allowed and any(of.refuses for of in told.limits))
    str(told)


def usage_of(engine: Engine) -> dict[object, object]:
    usage = engine.usage()
    rows = {
        (of.scope, of.limit, of.overrides, of.budget, of.unit): (
            of.allowed, of.refused, of.never, of.shadow_refused, of.absent, of.lowest, of.keys,
            sorted(of.top_refused),
        )
        for of in usage.limits
    }  # fmt: skip
    return {**rows, None: (usage.no_policy, usage.buckets, usage.overflowed)}


@each_engine
@given(first=trees, taken=steps, max_buckets=st.sampled_from((60_000, 2)))
def test_explanations_tell_what_a_check_answers_and_leave_no_trace(
    make: MakeEngine, first: Any, taken: list[Any], max_buckets: int
) -> None:
    twins = Twins(make, max_buckets)
    twins.publish(first)
    if not twins.generation:
        twins.publish({"/": {"limits": {"l": {"rate": "1/s"}}}})
    for step in taken:
        twins.take(step)
    assert usage_of(twins.engines[0]) == usage_of(twins.engines[1])


@each_engine
def test_explaining_makes_no_group_and_does_not_advance_the_time(make: MakeEngine) -> None:
    engine = make(lambda: 0)
    engine.swap(compile_tree(tree({"/": {"limits": {"l": {"rate": "1/min", "burst": 1}}}}), 1))
    engine.explain("/x", {}, now=10**12)
    assert engine.usage().limits == ()
    assert engine.check("/x", {}, now=5).retry_after_ns == 0
    refused = engine.check("/x", {}, now=6)
    assert refused.retry_after_ns == 60 * SECOND - 1


@each_engine
@pytest.mark.parametrize("cost", [-1, "1", {"tokens": -2}])
def test_a_wrong_cost_is_a_usage_error(make: MakeEngine, cost: Any) -> None:
    engine = make(lambda: 0)
    with pytest.raises(UsageError):
        engine.explain("/", {}, cost)


class Told:
    """A mirror and a watcher that keep what they are told."""

    def __init__(self) -> None:
        self.of: list[str] = []

    def decided(self, *_: object) -> bool:
        return False

    def released(self, *_: object) -> None:
        self.of.append("released")

    def settled(self, *_: object) -> None:
        self.of.append("settled")

    def freed(self, places: Iterable[object]) -> None:
        self.of += ["freed" for _ in places]

    def changed(self) -> None:
        self.of.append("changed")


@each_engine
@pytest.mark.parametrize("watched", [False, True])
def test_a_refusal_remembers_its_request_and_has_nothing_to_release(
    make: MakeEngine, watched: bool
) -> None:
    engine, told = make(lambda: 0), Told()
    limits = {"slots": {**SLOTS, "max": 1}, "l": {"rate": "1/h", "burst": 5}}
    engine.swap(compile_tree(tree({"/": {"limits": limits}}), 1))
    if watched:
        engine.watch(told)
    holder = engine.check("/", {}, now=0)
    refused = [engine.check("/", {}, now=0), engine.check("/", {}, 9, now=0)]
    assert [of.reason for of in refused] == ["limited", "never"]
    for decision in (*refused, engine.check("/", {}, {"requests": 1, "tokens": 1}, now=0)):
        decision.release()
        decision.settle({"requests": 0})
        assert decision.explain().limit == decision.limit
        with decision:
            pass
    assert told.of == []
    assert [of.remaining for of in engine.explain("/", {}).limits] == [4, 0]  # type: ignore[union-attr]
    holder.release()
    assert told.of == ["freed", "freed"] * watched
    assert [of.remaining for of in engine.explain("/", {}).limits] == [4, 1]  # type: ignore[union-attr]
