"""Each step of a rollout is one compare-and-swap of head and record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaky import Flaky
from fleet.reports import agent
from ratectl.errors import Conflict, NotFound, OutcomeUnknown, UsageError
from ratectl.fleet.membership import included
from ratectl.history.generations import lived, read_entry, read_live
from ratectl.publishing import _publish as publishing
from ratectl.publishing import head as publishing_head
from ratectl.publishing._publish import publish, rollback
from ratectl.publishing.saved_plan import Base
from ratectl.records import AGENTS, HEAD, Head, rollout_key
from ratectl.rollout import Terms, abort, advance, pause, promote, read_rollout, resume
from ratectl.rollout._start import start
from support import ME, publish_policies, simple

if TYPE_CHECKING:
    from ratectl.records import HistoryEntry
    from ratectl.stores.base import Store

TERMS = Terms.of([5.0])


def tried(store: Store, rate: str = "9/s") -> HistoryEntry:
    """Store with a candidate beside the live generation."""
    entry = start(store, simple(rate), ME, TERMS)
    assert entry is not None
    return entry


def head(store: Store) -> Head:
    found = read_live(store).head
    assert found is not None
    return found


def test_start_adds_a_candidate_beside_the_live_generation(store: Store):
    publish_policies(store, simple("5/s"))
    entry = tried(store)
    assert (entry.generation, entry.action) == (2, "canary")
    live = read_live(store)
    assert (live.generation, live.next) == (1, 3)
    candidate = head(store).candidate
    assert candidate is not None
    assert (candidate.generation, candidate.bundle, candidate.percent) == (2, entry.bundle, 5.0)
    record = read_rollout(store).record
    assert (record.base, record.stages, record.state) == (1, [5.0, 25.0, 50.0, 100.0], "running")


@pytest.mark.parametrize("percent", [1.0, 34.0, 99.0])
def test_first_stage_has_some_agents_but_not_all(store: Store, percent: float):
    names = ["a", "b", "c"]
    publish_policies(store, simple("5/s"))
    for name in names:
        store.put(AGENTS + name, agent(name).encode())
    assert start(store, simple("9/s"), ME, Terms.of([percent, 100.0])) is not None
    id_ = read_rollout(store).record.id
    assert 1 <= sum(included(id_, name, percent) for name in names) <= 2


@pytest.mark.parametrize(("percent", "names"), [(1.0, ["a"]), (100.0, ["a", "b"])])
def test_first_stage_has_the_only_agent(store: Store, percent: float, names: list[str]):
    publish_policies(store, simple("5/s"))
    for name in names:
        store.put(AGENTS + name, agent(name).encode())
    assert start(store, simple("9/s"), ME, Terms.of([percent])) is not None
    id_ = read_rollout(store).record.id
    assert all(included(id_, name, percent) for name in names)


def test_comparison_is_remembered_in_later_stages(store: Store):
    publish_policies(store, simple("5/s"))
    tried(store)
    seen = []
    for compared in (False, True, False):
        advance(store, read_rollout(store), compared=compared)
        seen.append(read_rollout(store).record.compared)
    assert seen == [False, True, True]


def test_first_stage_of_a_huge_fleet_is_left_to_chance(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ratectl.rollout._start._HASHES", 1)
    publish_policies(store, simple("5/s"))
    for name in ("a", "b"):
        store.put(AGENTS + name, agent(name).encode())
    assert start(store, simple("9/s"), ME, TERMS) is not None


def test_stages_grow_until_it_is_promoted(store: Store):
    publish_policies(store, simple("5/s"))
    entry = tried(store)
    percents = []
    for _ in range(3):
        advance(store, read_rollout(store))
        candidate = head(store).candidate
        assert candidate is not None
        percents.append(candidate.percent)
    assert percents == [25.0, 50.0, 100.0]
    promote(store, read_rollout(store), "Ada")
    now = head(store)
    assert (now.generation, now.bundle, now.candidate) == (2, entry.bundle, None)
    assert now.sequence == 6
    assert read_rollout(store).record.state == "promoted"
    assert [each.generation for each in lived(store)] == [2, 1]


def test_number_of_an_aborted_candidate_is_not_reused(store: Store):
    publish_policies(store, simple("5/s"))
    tried(store)
    abort(store, read_rollout(store), "Ada", "it refuses too much")
    record = read_rollout(store).record
    assert (record.state, record.by, record.reason) == ("aborted", "Ada", "it refuses too much")
    assert head(store).candidate is None
    assert publish_policies(store, simple("6/s")).generation == 3
    assert read_entry(store, 2).action == "canary", "the history keeps the candidate"
    assert [each.generation for each in lived(store)] == [3, 1]
    assert rollback(store, 1, ME) is not None


def test_publishing_is_refused_during_a_rollout(store: Store):
    publish_policies(store, simple("5/s"))
    publish_policies(store, simple("6/s"))
    tried(store)
    for attempt in (
        lambda: publish(store, simple("7/s"), ME),
        lambda: rollback(store, 1, ME),
        lambda: start(store, simple("7/s"), ME, TERMS),
    ):
        with pytest.raises(Conflict, match="generation 3 is being tried beside generation 2"):
            attempt()
    assert read_live(store).next == 4


def test_publisher_with_a_base_before_the_candidate_gets_a_conflict(store: Store):
    publish_policies(store, simple("5/s"))
    base = read_live(store)
    tried(store)
    with pytest.raises(Conflict, match="a rollout was started or ended meanwhile"):
        publish(store, simple("7/s"), ME, base=base)


def test_candidate_equal_to_the_live_generation_is_not_published(store: Store):
    publish_policies(store, simple("5/s"))
    assert start(store, simple("5/s"), ME, TERMS) is None
    assert read_live(store).next == 2


def test_start_needs_a_live_generation(store: Store):
    with pytest.raises(UsageError, match="needs a live generation"):
        start(store, simple("5/s"), ME, TERMS)
    with pytest.raises(NotFound, match="there has been no rollout"):
        read_rollout(store)


def test_second_of_two_concurrent_steps_gets_a_conflict(store: Store):
    publish_policies(store, simple("5/s"))
    tried(store)
    one, two = read_rollout(store), read_rollout(store)
    abort(store, one, "Ada", "")
    for late in (
        lambda: advance(store, two),
        lambda: promote(store, two, "Bob"),
        lambda: pause(store, two, "Bob", ""),
    ):
        with pytest.raises(Conflict, match="was changed meanwhile"):
            late()
    for over in (lambda: abort(store, read_rollout(store), "Bob", ""),):
        with pytest.raises(Conflict, match="is over"):
            over()
    assert read_rollout(store).record.by == "Ada"


def test_a_paused_rollout_keeps_its_stage(store: Store):
    publish_policies(store, simple("5/s"))
    tried(store)
    before = head(store)
    pause(store, read_rollout(store), "Ada", "lunch")
    record = read_rollout(store).record
    assert (record.state, record.reason, record.stage) == ("paused", "lunch", 0)
    resume(store, read_rollout(store), "Ada")
    assert read_rollout(store).record.state == "running"
    assert head(store) == before


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("step", ["start", "advance", "abort", "promote"])
def test_step_with_a_lost_reply_is_settled_by_reading(
    store: Store, step: str, applied: bool, monkeypatch: pytest.MonkeyPatch
):
    publish_policies(store, simple("5/s"))
    if step != "start":
        tried(store)
    flaky: Store = Flaky(store, applied=applied)  # type: ignore[assignment]
    steps = {
        "start": lambda: start(flaky, simple("9/s"), ME, TERMS),
        "advance": lambda: advance(flaky, read_rollout(store)),
        "abort": lambda: abort(flaky, read_rollout(store), "Ada", ""),
        "promote": lambda: promote(flaky, read_rollout(store), "Ada"),
    }
    before = head(store)
    if not applied:
        # Another writer replaces the head: then our write can never succeed.
        other = Head(
            sequence=before.sequence + 1,
            generation=before.generation,
            bundle=before.bundle,
            candidate=before.candidate,
            latest=before.latest,
        )
        flaky.between.append(lambda: store.put(HEAD, other.encode()))  # type: ignore[attr-defined]
        with pytest.raises(Conflict):
            steps[step]()
        assert head(store) == other
        return
    steps[step]()
    assert head(store).sequence == before.sequence + 1


def test_finished_rollout_does_not_make_a_saved_plan_stale(store: Store):
    publish_policies(store, simple("5/s"))
    base = Base.of(read_live(store))
    tried(store)
    abort(store, read_rollout(store), "Ada", "")
    assert Base.of(read_live(store)) == base


@pytest.mark.parametrize(
    ("stages", "others", "said"),
    [
        ([], {}, "a stage is a share"),
        ([0.0], {}, "a stage is a share"),
        ([101.0], {}, "a stage is a share"),
        ([float("nan")], {}, "a stage is a share"),
        ([5.0, 5.0], {}, "larger than the one before"),
        ([5.0, 1.0], {}, "larger than the one before"),
        ([5.0], {"bake_seconds": -1}, "0 seconds or more"),
        ([5.0], {"bake_seconds": float("inf")}, "0 seconds or more"),
        ([5.0], {"bake_seconds": float("nan")}, "0 seconds or more"),
        ([5.0], {"min_requests": -1}, "0 requests or more"),
        ([5.0], {"band": 0}, "percentage points"),
        ([5.0], {"band": float("nan")}, "percentage points"),
    ],
)
def test_invalid_terms_are_refused(stages: list[float], others: dict[str, float], said: str):
    with pytest.raises(UsageError, match=said):
        Terms.of(stages, **others)


def test_single_stage_is_followed_by_the_default_ones():
    assert Terms.of([1.0]).stages == (1.0, 25.0, 50.0, 100.0)
    assert Terms.of([50.0]).stages == (50.0, 100.0)
    assert Terms.of([1.0, 10.0]).stages == (1.0, 10.0)


@given(st.text(), st.text(), st.floats(0.01, 100), st.floats(0.01, 100))
def test_agent_takes_part_at_every_larger_percentage(
    rollout: str, agent: str, one: float, other: float
):
    small, large = sorted((one, other))
    assert not included(rollout, agent, small) or included(rollout, agent, large)
    assert included(rollout, agent, 100)


def test_percentages_match_the_number_of_agents():
    agents = [f"agent-{number}" for number in range(20_000)]
    for percent in (0.5, 2, 5, 50):
        took_part = sum(included("some-rollout", each, percent) for each in agents)
        assert took_part == pytest.approx(len(agents) * percent / 100, rel=0.15)
    first = {each for each in agents if included("some-rollout", each, 5)}
    second = {each for each in agents if included("another", each, 5)}
    assert len(first & second) < len(first) / 5, "another rollout tries other agents first"


@pytest.mark.parametrize("record", [None, b"\xff"])
def test_rollout_with_a_lost_record_can_be_ended(store: Store, record: bytes | None):
    publish_policies(store, simple("5/s"))
    tried(store)
    key = rollout_key(2)
    if record is None:
        store.delete(key)
    else:
        store.put(key, record)
    with pytest.raises(Conflict, match="terms"):
        advance(store, read_rollout(store))
    abort(store, read_rollout(store), "Ada", "")
    assert publish_policies(store, simple("6/s")).generation == 3


def test_written_step_is_recognised_after_the_head_moved_on(store: Store):
    publish_policies(store, simple("5/s"))
    tried(store)
    flaky: Store = Flaky(store, applied=True)  # type: ignore[assignment]
    flaky.between.append(lambda: publish_policies(store, simple("7/s")))  # type: ignore[attr-defined]
    promote(flaky, read_rollout(store), "Ada")
    assert read_rollout(store, 2).record.state == "promoted"
    assert read_live(store).generation == 3


def test_step_that_may_have_been_written_is_reported_as_unknown(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(publishing_head, "_READ_BACK_SECONDS", 0.2)
    publish_policies(store, simple("5/s"))
    tried(store)
    flaky: Store = Flaky(store, applied=False)  # type: ignore[assignment]
    with pytest.raises(OutcomeUnknown):
        abort(flaky, read_rollout(store), "Ada", "")
    abort(store, read_rollout(store), "Ada", "")


def test_concurrent_pause_causes_a_conflict(store: Store):
    publish_policies(store, simple("5/s"))
    tried(store)
    seen = read_rollout(store)
    pause(store, read_rollout(store), "Ada", "")
    with pytest.raises(Conflict, match="was changed meanwhile"):
        promote(store, seen, "Bob")


def test_rollout_records_are_deleted_with_their_generations(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(publishing, "KEPT", 2)
    publish_policies(store, simple("5/s"))
    tried(store)
    abort(store, read_rollout(store), "Ada", "")
    for rate in ("6/s", "7/s"):
        publish_policies(store, simple(rate))
    assert store.get(rollout_key(2)) is None
