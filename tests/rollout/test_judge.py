"""Judgement of the agents in a rollout, by their reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fleet.reports import GENERATION, agent, beat, rollout
from ratectl.fleet.membership import included
from ratectl.rollout.judge import Judge, Verdict

if TYPE_CHECKING:
    from ratectl.records import AgentRecord, Beat


class Stage:
    """A judge, with one agent that takes part and one that does not; both keep counting."""

    def __init__(self, **terms: Any) -> None:
        self.judge = Judge(rollout(**terms))
        self.now = 0.0

    def look(self, agents: list[AgentRecord], reports: list[Beat], after: float = 1) -> Verdict:
        self.now += after
        return self.judge.look(self.now, 100, agents, reports)

    def counted(self, candidate: tuple[int, int], other: tuple[int, int]) -> Verdict:
        agents = [agent("new", joined=True), agent("old")]
        self.look(agents, [beat("new", 0, 590, 90, joined=True), beat("old", 0)])
        return self.look(
            agents,
            [
                beat("new", 1, 590 + sum(candidate), 90 + candidate[1], joined=True),
                beat("old", 1, sum(other), other[1]),
            ],
        )


def test_only_decisions_since_joining_count():
    verdict = Stage().counted((95, 5), (93, 7))
    assert verdict.candidates == (1, 100, 5)
    assert verdict.others == (1, 100, 7)
    assert verdict.trouble is None


@pytest.mark.parametrize(
    ("candidate", "other", "trouble"),
    [
        ((900, 100), (950, 50), False),
        ((890, 110), (950, 50), True),
        ((1000, 0), (940, 60), True),
        ((0, 99), (1000, 0), False),
        ((0, 100), (99, 0), False),
    ],
    ids=["within", "refuses more", "refuses less", "too few of its own", "too few of others"],
)
def test_large_difference_of_refusals_aborts(
    candidate: tuple[int, int], other: tuple[int, int], trouble: bool
):
    verdict = Stage().counted(candidate, other)
    assert (verdict.trouble is not None) == trouble
    if trouble:
        assert "more than 5 points apart" in str(verdict.trouble)


def test_without_a_band_no_difference_aborts():
    assert Stage(band=None).counted((0, 1000), (1000, 0)).trouble is None


def test_new_stage_resets_the_counts():
    stage = Stage()
    stage.counted((95, 5), (93, 7))
    stage.judge.begin_stage()
    agents = [agent("new", joined=True), agent("old")]
    reports = [beat("new", 2, 800, 100, joined=True), beat("old", 2, 109, 9)]
    assert stage.look(agents, reports).candidates == (1, 0, 0)


def test_each_stage_is_compared_separately():
    stage = Stage()
    stage.counted((99, 0), (100, 0))
    assert not stage.judge.compared, "too few"
    stage = Stage()
    stage.counted((100, 0), (100, 0))
    assert stage.judge.compared
    stage.judge.begin_stage()
    assert not stage.judge.compared


def test_rejection_aborts():
    verdict = Stage().look(
        [agent("old"), agent("new", rejected=GENERATION, error="spike has no rate")], []
    )
    assert verdict.trouble == "new rejects it: spike has no rate"


def test_rejection_of_another_generation_does_not_abort():
    assert Stage().look([agent("old", rejected=5)], []).trouble is None


def silent(stage: Stage, agents: list[AgentRecord], seconds: float) -> Verdict:
    """Return the verdict after some seconds without reports; the judge looks every second."""
    verdict = stage.look(agents, [beat("new", 0, joined=True)])
    for _ in range(int(seconds)):
        verdict = stage.look(agents, [beat("new", 0, joined=True)])
    return verdict


def test_silent_joined_agent_aborts_within_ten_seconds():
    verdict = silent(Stage(), [agent("new", joined=True)], 9)
    assert verdict.trouble == "new took the candidate, and has not reported for 9 s"


def test_agent_with_a_longer_interval_gets_more_time():
    patient = agent("new", joined=True, interval=10.0)
    assert silent(Stage(), [patient], 24).trouble is None
    assert silent(Stage(), [patient], 25).trouble is not None


def test_silent_agent_that_has_not_joined_does_not_abort():
    assert silent(Stage(), [agent("new")], 60).trouble is None


def test_agent_that_signs_off_is_not_dead():
    stage = Stage()
    stage.look([agent("new", joined=True)], [beat("new", 0, joined=True)])
    assert stage.look([], []).trouble is None
    assert stage.look([], []).trouble is None


def test_agent_with_an_expired_lease_is_dead():
    stage = Stage()
    slow = agent("new", joined=True, interval=2.0)
    silent(stage, [slow], 7)
    verdict = stage.look([], [], after=2)
    assert verdict.trouble == "new took the candidate, and has not reported for 9 s, and is gone"


def test_silence_during_a_gap_between_looks_does_not_count():
    stage = Stage()
    stage.look([agent("new", joined=True)], [beat("new", 0, joined=True)])
    assert stage.look([agent("new", joined=True)], [], after=60).trouble is None
    assert stage.look([agent("new", joined=True)], []).trouble is None


def test_restarted_agent_counts_from_its_start():
    stage = Stage()
    stage.counted((95, 5), (93, 7))
    restarted = [beat("new", 9, 4, 1, joined=True, since="later")]
    agents = [agent("new", joined=True)]
    assert stage.look(agents, restarted).candidates == (1, 0, 0)
    more = [beat("new", 10, 15, 2, joined=True, since="later")]
    assert stage.look(agents, more).candidates == (1, 11, 1)


def test_report_of_the_previous_generation_does_not_count():
    stage = Stage()
    agents = [agent("new", joined=True)]
    stage.look(agents, [beat("new", 0, 900, 400)])
    stage.look(agents, [beat("new", 1, 1100, 500)])
    assert stage.look(agents, []).candidates == (1, 0, 0)


def test_expected_agent_that_has_not_joined_is_missing():
    judge = Judge(rollout())
    names = [f"agent-{number}" for number in range(20)]
    expected = [name for name in names if included("r1", name, 50)]
    agents = [agent(name, joined=name == expected[0]) for name in names]
    verdict = judge.look(0, 50, agents, [])
    assert list(verdict.expected) == expected
    assert verdict.missing == sorted(expected[1:])


def test_a_new_stage_does_not_forget_silence():
    stage = Stage()
    agents = [agent("new", joined=True)]
    stage.look(agents, [beat("new", 0, joined=True)])
    for number in range(8):
        verdict = stage.look(agents, [beat("new", 0, joined=True)])
        if number % 3 == 2:
            stage.judge.begin_stage()
    assert verdict.trouble is None
    assert stage.look(agents, [beat("new", 0, joined=True)]).trouble is not None


def test_agent_with_a_long_interval_may_sign_off_late():
    stage = Stage()
    rare = agent("new", joined=True, interval=30.0)
    silent(stage, [rare], 21)
    assert stage.look([], []).trouble is None


def test_death_is_remembered_until_it_can_be_handled():
    stage = Stage()
    silent(stage, [agent("new", joined=True)], 9)
    assert stage.look([], []).trouble is not None
    assert stage.look([agent("other")], []).trouble is not None


def test_silence_of_a_joining_agent_counts_from_its_joining():
    stage = Stage()
    for _ in range(7):
        stage.look([agent("new")], [beat("new", 0)])
    verdict = silent(stage, [agent("new", joined=True)], 6)
    assert verdict.trouble is None


def test_decisions_before_joining_do_not_count():
    stage = Stage()
    stage.look([agent("new")], [beat("new", 0, 100, 50)])
    stage.look([agent("new")], [beat("new", 1, 300, 200)])
    assert stage.look([agent("new", joined=True)], [beat("new", 1, 300, 200)]).candidates[1:] == (
        0,
        0,
    )
    report = [beat("new", 2, 400, 210, joined=True)]
    assert stage.look([agent("new", joined=True)], report).candidates[1:] == (0, 0)
    report = [beat("new", 3, 440, 215, joined=True)]
    assert stage.look([agent("new", joined=True)], report).candidates[1:] == (40, 5)


@pytest.mark.parametrize(("requests", "trouble"), [(300, False), (30_000, True)])
def test_difference_within_chance_does_not_abort(requests: int, trouble: bool):
    """56% and 50% of 300 requests each can happen by chance, with enough looks."""
    half, more = requests // 2, round(requests * 0.56)
    verdict = Stage().counted((requests - more, more), (requests - half, half))
    assert (verdict.trouble is not None) == trouble


def test_few_requests_are_not_compared():
    assert Stage(min_requests=0).counted((0, 49), (49, 0)).trouble is None


def test_first_seen_report_is_no_sign_of_life():
    """Its record may be as old as its lease."""
    stage = Stage()
    stage.look([], [])
    late = [agent("new", joined=True)]
    assert stage.look(late, [beat("new", 0, joined=True)]).unheard == ["new"]
    assert stage.look(late, [beat("new", 0, joined=True)]).unheard == ["new"]
    assert stage.look(late, [beat("new", 1, joined=True)]).unheard == []
