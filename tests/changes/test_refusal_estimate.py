"""Refusal estimates: their bounds hold on real engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from given_counts import GivenMeter
from ratectl.changes.compare import compare
from ratectl.changes.refusal_estimate import Refusals, refusals
from ratectl.compiler.activation import activate_tree
from ratectl.engine import open_engine
from support import policies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.engine.api import Engine
    from ratectl.policy.language.model import PolicyTree
    from ratectl.records import UsageRecord

MINUTE = 60 * 10**9
START = MINUTE // 2
"""Start of the traffic: its minute lies in two minutes of the calendar."""
Call = tuple[int, str]
"""Time in nanoseconds, and tenant."""


def run(tree: PolicyTree, calls: Sequence[Call], below: Sequence[Call] = ()) -> tuple[Engine, int]:
    """Return an engine that has decided all requests, and the number of refusals."""
    engine = open_engine(lambda: START)
    engine.swap(activate_tree(tree, 1, now_ns=START), START)
    all_calls = [("/a", *call) for call in calls] + [("/a/b", *call) for call in below]
    asked = [
        engine.check(scope, {"tenant": tenant}, 1, START + at)
        for scope, at, tenant in sorted(all_calls, key=lambda call: call[1])
    ]
    return engine, sum(not decision.allowed for decision in asked)


def report(tree: PolicyTree, calls: Sequence[Call], agent: str = "edge") -> UsageRecord:
    """Return the report of an agent that started a minute ago and decided this traffic."""
    engine, _ = run(tree, calls)
    return GivenMeter(agent).record_of(60.0, engine.usage())


def foretold(old: PolicyTree, new: PolicyTree, *traffic: Sequence[Call]) -> Refusals:
    """Return the estimate of the change from ``old`` to ``new``; each agent has its own traffic."""
    records = [report(old, calls, f"edge-{number}") for number, calls in enumerate(traffic)]
    changes = compare(old, new)
    return refusals(old, new, changes, records)[changes[0].named]


def limit(**fields: Any) -> PolicyTree:
    return policies(**{"/a": {"limits": {"l": fields}}})


def steady(per_second: int, tenants: str = "x") -> list[Call]:
    """A minute of evenly spread traffic."""
    step = 10**9 // per_second
    return [
        (at, tenants[number % len(tenants)]) for number, at in enumerate(range(0, MINUTE, step))
    ]


# -- laws


@st.composite
def limits(draw: st.DrawFn) -> dict[str, Any]:
    algorithm = draw(st.sampled_from(["token-bucket", "sliding-window", "quota", "concurrency"]))
    fields: dict[str, Any] = {"algorithm": algorithm, "mode": draw(modes)}
    if draw(st.booleans()):
        fields["per"] = "tenant"
    if algorithm == "concurrency":
        return {**fields, "max": draw(some), "hold": draw(st.sampled_from(["1s", "9s"]))}
    unit = "min" if algorithm == "quota" else draw(st.sampled_from(["s", "2s", "20s"]))
    fields["rate"] = f"{draw(st.integers(0, 6))}/{unit}"
    if algorithm == "token-bucket":
        fields["burst"] = draw(some)
    return fields


some = st.integers(1, 6)
modes = st.sampled_from(["enforce", "enforce", "shadow"])


@st.composite
def changes_of_a_limit(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw two limits that mostly differ in one field only, so that they are comparable."""
    old, new = draw(limits()), draw(limits())
    if draw(st.integers(0, 3)):
        name = draw(st.sampled_from(sorted(set(old) - {"per", "algorithm", "mode"})))
        new = {**old, name: new.get(name, old[name]), "mode": "enforce"}
        if old["algorithm"] == "quota":
            new["rate"] = f"{draw(some)}/min"
    return old, new


@st.composite
def rushes(draw: st.DrawFn) -> list[Call]:
    """Draw traffic in bursts, each of one tenant."""
    found: list[Call] = []
    for _ in range(draw(st.integers(1, 8))):
        begin, gap = draw(st.integers(0, 50)), draw(st.sampled_from([0, 50, 300, 450]))
        tenant, count = draw(st.sampled_from("xxy")), draw(st.integers(1, 12))
        found += [(begin * 10**9 + gap * 10**6 * number, tenant) for number in range(count)]
    return sorted(found)


@settings(max_examples=5 * settings.default.max_examples)  # most changes have exact answers
@given(change=changes_of_a_limit(), agents=st.lists(rushes(), min_size=1, max_size=2))
def test_estimate_holds_on_real_engines(
    change: tuple[dict[str, Any], dict[str, Any]], agents: list[list[Call]]
) -> None:
    """For agents that started with the minute, so that no earlier request counts."""
    old, new = (limit(**fields) for fields in change)
    if not compare(old, new):
        return
    told = foretold(old, new, *agents)
    was, now = (sum(run(tree, calls)[1] for calls in agents) for tree in (old, new))
    assert told.requests == sum(map(len, agents))
    assert told.refused == was
    assert told.least <= now <= told.most


# -- what is known


def told(old: dict[str, Any], new: dict[str, Any], *agents: Sequence[Call]) -> tuple[int, int, int]:
    """Return (refused, least, most) for a minute of traffic."""
    return foretold(limit(**old), limit(**new), *agents)[1:]


SLOW = {"rate": "10/s", "burst": 20}
EACH = {**SLOW, "per": "tenant"}
SHADOW = {**EACH, "mode": "shadow"}


def test_shadow_refusals_become_refusals_when_enforced() -> None:
    calls = steady(40, "xxxy")  # 30/s of one tenant, 10/s of the other
    _, refused = run(limit(**EACH), calls)
    assert refused > 1000
    assert told(SHADOW, EACH, calls) == (0, refused, refused)
    assert told(EACH, SHADOW, calls) == (refused, 0, 0)


def test_one_bucket_admits_at_most_its_burst_and_rate() -> None:
    """For an old limit that refused nothing and for one that refused some."""
    calls = steady(20)
    wide = {"rate": "25/s", "burst": 50}
    assert told(wide, SLOW, calls) == (0, 1200 - 620, 720)
    narrow = {"rate": "16/s", "burst": 16}
    refused = run(limit(**narrow), calls)[1]
    assert told(narrow, SLOW, calls)[:2] == (refused, 1200 - 620)


def test_each_agent_has_a_bucket_of_its_own() -> None:
    wide = {"rate": "25/s", "burst": 50}
    one = told(wide, SLOW, steady(20))
    assert told(wide, SLOW, steady(20), steady(5)) == (0, one[1], one[2] + 180)


def test_buckets_with_a_lower_peak_refuse_nothing() -> None:
    calls = steady(40, "xyz")
    assert told({**EACH, "rate": "20/s"}, {**EACH, "rate": "20/s", "burst": 5}, calls) == (0, 0, 0)


def test_lower_rate_keeps_its_share_over_many_buckets() -> None:
    """The number of buckets is unknown, so the lower bound is 0."""
    assert told({**EACH, "rate": "20/s"}, EACH, steady(40, "xyz")) == (0, 0, 1200)


def test_limits_that_refuse_all_and_limits_that_refuse_none() -> None:
    calls = steady(20)
    refused = run(limit(**SLOW), calls)[1]
    assert told(SLOW, {"rate": "0/s"}, calls) == (refused, 1200, 1200)
    assert told(SLOW, {"rate": "unlimited"}, calls) == (refused, 0, 0)
    old, new = limit(**SLOW), policies(**{"/a": {}})
    assert foretold(old, new, calls)[2:] == (0, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (EACH, {**EACH, "per": "client"}),
        (EACH, {**EACH, "algorithm": "concurrency", "rate": None, "burst": None, "max": 5}),
        ({**EACH, "rate": "20/min", "burst": 100}, {**EACH, "rate": "10/min", "burst": 30}),
    ],
    ids=["counted otherwise", "another algorithm", "slower than the minute"],
)
def test_unknown_effect_gives_the_widest_bounds(old: dict[str, Any], new: dict[str, Any]) -> None:
    new = {name: value for name, value in new.items() if value is not None}
    assert told(old, new, steady(40, "xy"))[1:] == (0, 2400)


def at(*seconds: float) -> list[Call]:
    return [(round(each * 10**9), "x") for each in seconds]


@pytest.mark.parametrize(
    ("old", "new", "calls"),
    [
        ({"rate": "2/s", "burst": 2}, {"rate": "1/s", "burst": 1}, at(0, 0, 0.5)),
        ({"rate": "10/s", "burst": 2}, {"rate": "9/s", "burst": 2}, at(0, 0, 0.1)),
        (
            {"algorithm": "concurrency", "max": 2, "hold": "1s"},
            {"algorithm": "concurrency", "max": 2, "hold": "9s"},
            at(0, 0, 5, 5),
        ),
        (
            {"algorithm": "sliding-window", "rate": "9/40s"},
            {"algorithm": "sliding-window", "rate": "2/40s"},
            at(0, 0, 0, 50, 50, 50),
        ),
    ],
    ids=["rounding of both", "rounding of the pace", "slots that leak later", "a window begun"],
)
def test_edges_of_known_effects(
    old: dict[str, Any], new: dict[str, Any], calls: list[Call]
) -> None:
    """The traffic is of one bucket, though the limits count by tenant."""
    old, new = ({**fields, "per": "tenant"} for fields in (old, new))
    for each in ({}, {"per": ()}):
        _, least, most = told({**old, **each}, {**new, **each}, calls)
        assert least <= run(limit(**new), calls)[1] <= most


# -- what is not known


def test_no_estimate_without_reports() -> None:
    old, new = limit(**SHADOW), limit(**EACH)
    assert refusals(old, new, compare(old, new), []) == {}
    engine, _ = run(old, steady(5))
    meter = GivenMeter()
    assert refusals(old, new, compare(old, new), [meter.record_of(60.0, engine.usage())])
    idle = meter.record_of(130.0, engine.usage())
    assert [each.recent_allowed for each in idle.limits] == [0]
    assert refusals(old, new, compare(old, new), [idle]) == {}


@pytest.mark.parametrize("runs", [{**EACH, "burst": 9}, SHADOW], ids=["smaller", "in shadow"])
def test_agent_with_other_policies_gives_the_widest_bounds(runs: dict[str, Any]) -> None:
    old, new = limit(**EACH), limit(**{**EACH, "burst": 30})
    (known,) = refusals(old, new, compare(old, new), [report(limit(**runs), steady(40))]).values()
    assert (known.refused > 0) is (runs is not SHADOW)
    assert (known.least, known.most) == (0, 2400)


def test_contradicting_bounds_by_other_costs_give_the_widest_bounds() -> None:
    """A thousand requests that only peek, and one that charges."""
    old, new = limit(**SLOW), limit(**{**SLOW, "rate": "9/s"})
    engine, _ = run(old, at(0))
    for when, _ in steady(20):
        assert engine.check("/a", {}, 0, START + when).allowed
    record = GivenMeter().record_of(60.0, engine.usage())
    (known,) = refusals(old, new, compare(old, new), [record]).values()
    assert (known.least, known.most) == (0, 1201)


def trees(below: dict[str, Any], **changed: Any) -> tuple[PolicyTree, PolicyTree]:
    """Return two trees: ``/a`` becomes enforced, and something else changes too."""
    return (
        policies(**{"/a": {"limits": {"l": SHADOW}}, **below}),
        policies(**{"/a": {"limits": {"l": EACH}, **changed.pop("beside", {})}, **changed}),
    )


GOLD = [{"name": "gold", "match": {"tier": "gold"}, "limits": {"l": {"burst": 90}}}]


@pytest.mark.parametrize(
    "changed",
    [{"/a/b": {}}, {"beside": {"overrides": GOLD}}],
    ids=["a scope takes some", "an override takes some"],
)
def test_requests_that_move_to_other_buckets_give_the_widest_bounds(
    changed: dict[str, Any],
) -> None:
    old, new = trees({}, **changed)
    found = refusals(old, new, compare(old, new), [report(old, steady(40))])
    known = found["/a", "l", None]
    assert (known.requests, known.least, known.most) == (2400, 0, 2400)


def test_scopes_below_count_for_their_leading_change() -> None:
    below = {"/a/b": {"description": "has buckets of its own"}}
    old, new = trees(below, **below)
    engine, _ = run(old, steady(40), steady(20))
    record = GivenMeter().record_of(60.0, engine.usage())
    (known,) = refusals(old, new, compare(old, new), [record]).values()
    enforced = run(policies(**{"/a": {"limits": {"l": EACH}}}), steady(20))[1]
    assert known.requests == 2400 + 1200
    assert known.most == run(limit(**EACH), steady(40))[1] + enforced == known.least


def test_budgets_count_apart_from_limits_of_the_same_name() -> None:
    """Budgets count the whole subtree, whichever scopes are added below."""

    def budget(below: dict[str, Any], **fields: Any) -> PolicyTree:
        said = {"limits": {"l": {"rate": "unlimited"}}, "budgets": {"l": fields}}
        return policies(**{"/a": said}, **below)

    known = foretold(budget({}, **SLOW, mode="shadow"), budget({"/a/b": {}}, **SLOW), steady(20))
    assert known.least == known.most == run(limit(**SLOW), steady(20))[1] > 0
