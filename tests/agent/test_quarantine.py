"""Quarantine of generations after deaths of processes, and deaths that do not count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ratectl.agent.quarantine import PROBATION_SECONDS, Quarantine
from ratectl.agent.trial_note import Trial
from ratectl.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUNDLE = "b" * 64
LIVE = Trial(7, BUNDLE, candidate=False)
CANDIDATE = Trial(7, BUNDLE, candidate=True)
OTHER = Trial(8, "c" * 64, candidate=False)
SEGFAULT = b"11\n"


class Machine:
    """A folder and two clocks; each ``start`` simulates a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.note = folder / "trying"
        self.now = 1000.0
        self._started: list[Quarantine] = []

    def start(self) -> Quarantine:
        started = Quarantine(self.folder, lambda: self.now, lambda: self.now)
        self._started.append(started)
        return started

    def close(self) -> None:
        """Close the files of simulated processes that died."""
        for each in self._started:
            each.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.close()


def died(machine: Machine, trial: Trial = LIVE, *, times: int = 1) -> Quarantine:
    """Return the process that starts after others were killed."""
    for _ in range(times):
        machine.start().begin(trial)
    return machine.start()


def crashed(machine: Machine, trial: Trial = LIVE, *, times: int = 1) -> Quarantine:
    """Return the process that starts after others had recorded crashes."""
    for _ in range(times):
        machine.start().begin(trial)
        crash_now(machine)
    return machine.start()


def crash_now(machine: Machine) -> None:
    """Append the line that the handler of a fatal signal writes."""
    with machine.note.open("ab") as note:
        note.write(SEGFAULT)


def served(machine: Machine, trial: Trial = LIVE) -> None:
    process = machine.start()
    process.begin(trial)
    process.in_force()
    machine.now += PROBATION_SECONDS
    assert process.end_probation_if_due()


# Evidence ---------------------------------------------------------------------------------------


def test_candidate_is_refused_for_five_minutes_after_a_death(machine: Machine):
    refusal = died(machine, CANDIDATE).refusal(CANDIDATE)
    assert refusal is not None
    assert "process died with generation 7, once" in refusal
    machine.now += 299
    assert machine.start().refusal(CANDIDATE) is not None
    assert machine.start().refusal(OTHER) is None
    machine.now += 2
    assert machine.start().refusal(CANDIDATE) is None


def test_deaths_without_a_recorded_crash_do_not_count_for_a_live_generation(machine: Machine):
    assert died(machine, times=20).refusal(LIVE) is None
    served(machine)
    assert died(machine, times=20).refusal(LIVE) is None


def test_deaths_as_a_candidate_do_not_count_once_it_is_live(machine: Machine):
    process = died(machine, CANDIDATE, times=5)
    assert process.refusal(CANDIDATE) is not None
    assert process.refusal(LIVE) is None


def test_deaths_while_live_do_not_count_for_a_candidate(machine: Machine):
    assert died(machine, times=5).refusal(CANDIDATE) is None


def test_second_crash_quarantines_a_live_generation(machine: Machine):
    assert crashed(machine).refusal(LIVE) is None
    died(machine, times=3)
    refusal = crashed(machine).refusal(LIVE)
    assert refusal is not None
    assert "process crashed (SIGSEGV) with generation 7, 2 times" in refusal


def test_third_crash_quarantines_a_served_generation(machine: Machine):
    served(machine)
    refusals = [crashed(machine).refusal(LIVE) is not None for _ in range(3)]
    assert refusals == [False, False, True]


def test_a_crash_as_a_candidate_counts_when_it_is_live(machine: Machine):
    crashed(machine, CANDIDATE)
    assert crashed(machine).refusal(LIVE) is not None


def test_generation_that_crashed_while_live_is_refused_as_a_candidate(machine: Machine):
    assert crashed(machine, times=2).refusal(CANDIDATE) is not None


def test_each_further_death_doubles_the_time_up_to_a_day(machine: Machine):
    lasted = []
    for _ in range(12):
        again = died(machine, CANDIDATE)
        begun = machine.now
        while again.refusal(CANDIDATE):
            machine.now += 60
        lasted.append(machine.now - begun)
    assert lasted[:4] == [300, 600, 1200, 2400]
    assert lasted[-1] == 86_400


def test_clock_set_back_does_not_prolong_quarantine(machine: Machine):
    machine.now += 100 * 86_400
    process = died(machine, CANDIDATE)
    machine.now -= 10 * 86_400
    assert process.refusal(CANDIDATE) is not None
    machine.now += 10 * 86_400 + 301
    assert process.refusal(CANDIDATE) is None


@pytest.mark.parametrize("kind", ["as a candidate", "live"])
def test_deaths_dated_in_the_future_count_from_the_next_start(machine: Machine, kind: str):
    machine.now += 1000 * 86_400
    if kind == "live":
        crashed(machine, LIVE, times=2)
    else:
        died(machine, CANDIDATE)
    machine.now -= 990 * 86_400
    tried = LIVE if kind == "live" else CANDIDATE
    assert machine.start().refusal(tried) is not None
    machine.now += 299
    assert machine.start().refusal(tried) is not None, "a start does not restart the time"
    machine.now += 2
    assert machine.start().refusal(tried) is None


def test_served_generation_is_remembered(machine: Machine):
    assert not died(machine).has_served(BUNDLE)
    served(machine)
    assert crashed(machine, times=5).has_served(BUNDLE)


def test_only_the_newest_hundred_generations_are_remembered(machine: Machine):
    died(machine, CANDIDATE)
    for number in range(99):
        machine.start().begin(Trial(number, f"{number:064d}", candidate=True))
    assert machine.start().refusal(CANDIDATE) is not None
    machine.start().begin(Trial(200, "d" * 64, candidate=True))
    assert machine.start().refusal(CANDIDATE) is None, "a hundred others came later"


# Probation --------------------------------------------------------------------------------------


def test_normal_end_of_a_process_is_no_death(machine: Machine):
    process = machine.start()
    process.begin(CANDIDATE)
    process.close()
    assert machine.start().refusal(CANDIDATE) is None


def test_nothing_is_noted_after_close(machine: Machine):
    """A thread that outlives ``close`` may still apply a generation."""
    process = machine.start()
    process.close()
    process.begin(CANDIDATE)
    assert machine.start().refusal(CANDIDATE) is None


def test_death_after_probation_does_not_count(machine: Machine):
    for _ in range(3):
        served(machine)
    assert machine.start().refusal(LIVE) is None
    assert not machine.note.exists()


def test_probation_begins_when_the_generation_is_in_force(machine: Machine):
    """Compiling a large generation takes long, and the process may die afterwards."""
    process = machine.start()
    process.begin(LIVE)
    machine.now += PROBATION_SECONDS
    assert not process.end_probation_if_due()
    process.in_force()
    assert not process.end_probation_if_due()
    assert machine.note.exists()


def test_probation_of_a_candidate_does_not_end(machine: Machine):
    process = machine.start()
    process.begin(CANDIDATE)
    process.in_force()
    machine.now += 3600
    assert not process.end_probation_if_due()
    assert machine.start().refusal(CANDIDATE) is not None


def test_promoted_candidate_counts_as_live(machine: Machine):
    """A death without a recorded crash does not count after the promotion."""
    process = machine.start()
    process.begin(CANDIDATE)
    process.in_force()
    process.promoted()
    assert machine.start().refusal(CANDIDATE) is None


def test_promoted_candidate_has_served_after_probation(machine: Machine):
    process = machine.start()
    process.begin(CANDIDATE)
    process.in_force()
    process.promoted()
    machine.now += PROBATION_SECONDS
    process.end_probation_if_due()
    assert not machine.note.exists()
    assert process.has_served(BUNDLE)


def test_generation_in_force_stays_on_probation_while_another_is_applied(machine: Machine):
    process = machine.start()
    process.begin(LIVE)
    process.in_force()
    process.begin(OTHER)
    process.end()
    machine.now += PROBATION_SECONDS
    assert process.end_probation_if_due()
    assert process.has_served(BUNDLE)
    assert not process.has_served(OTHER.bundle)


def test_newer_of_two_generations_is_blamed(machine: Machine):
    """Otherwise a generation that crashes at each start would quarantine the one in force."""
    for _ in range(2):
        process = machine.start()
        process.begin(LIVE)
        process.in_force()
        process.begin(OTHER)
        crash_now(machine)
    assert machine.start().refusal(OTHER) is not None
    assert machine.start().refusal(LIVE) is None


def test_generation_in_force_is_blamed_again_after_the_newer_one_failed(machine: Machine):
    for _ in range(2):
        process = machine.start()
        process.begin(LIVE)
        process.in_force()
        process.begin(OTHER)
        process.end()
        crash_now(machine)
    assert machine.start().refusal(LIVE) is not None


def test_live_generation_is_on_probation_beside_a_shadow_candidate(machine: Machine):
    process = machine.start()
    process.begin(LIVE)
    process.in_force()
    shadow = Trial(8, OTHER.bundle, candidate=True)
    process.begin(shadow, shadow=True)
    machine.now += PROBATION_SECONDS
    assert process.end_probation_if_due()
    assert process.has_served(BUNDLE)
    again = machine.start()
    assert again.refusal(shadow) is not None
    assert again.refusal(Trial(7, BUNDLE, candidate=True)) is None


def test_candidate_whose_evaluation_ended_is_not_blamed(machine: Machine):
    process = machine.start()
    process.begin(CANDIDATE, shadow=True)
    process.end(shadow=True)
    assert machine.start().refusal(CANDIDATE) is None


@pytest.mark.parametrize("error", [BundleError("no good"), KeyError("x"), KeyboardInterrupt()])
def test_exception_during_application_is_no_death(machine: Machine, error: BaseException):
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else BundleError
    with pytest.raises(expected), machine.start().trying(CANDIDATE):
        raise error
    assert machine.start().refusal(CANDIDATE) is None


# Files ------------------------------------------------------------------------------------------


def test_unwritable_note_does_not_blame_the_previous_generation(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    process = machine.start()
    process.begin(CANDIDATE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    process.begin(Trial(8, OTHER.bundle, candidate=True))
    monkeypatch.undo()
    assert machine.start().refusal(CANDIDATE) is None
    process.begin(Trial(9, "d" * 64, candidate=True))
    assert machine.start().refusal(Trial(9, "d" * 64, candidate=True)) is not None


def test_note_that_cannot_be_removed_does_not_count(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    """Otherwise the death would count again at each start."""
    machine.start().begin(CANDIDATE)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", refused)
    assert machine.start().refusal(CANDIDATE) is None


DAMAGED = [
    b"",
    b"\xff",
    b"[]",
    b"{}",
    b"7",
    b"[7]",
    b'{"bundle": 1}',
    b'{"x": 1}',
    b'[{"generation": 7, "bundle": "%s", "candidate": true}]' % BUNDLE.encode(),
    b'{"generation": 7, "bundle": "%s"}' % BUNDLE.encode(),
    b'{"generation": "7", "bundle": "%s", "candidate": true}' % BUNDLE.encode(),
    b'{"generation": 7, "bundle": ["x"], "candidate": true}',
    b'{"generation": 7, "bundle": "%s", "candidate": 1}' % BUNDLE.encode(),
    b'{"generation": 7, "bundle": "%s", "candi' % BUNDLE.encode(),
    b"[" * 100_000,
    b'{"%s": {"generation": 1, "deaths": null, "served": false, "until": 0}}' % BUNDLE.encode(),
    b'{"%s": {"generation": 1e999, "deaths": 1, "served": false}}' % BUNDLE.encode(),
    *(
        b'{"%s": {"generation": 7, "served": false, "as_candidate": {"times": 3, "last": %s}, '
        b'"crashes": {"times": 3, "last": %s}, "signal": "SIGSEGV"}}'
        % (BUNDLE.encode(), last, last)
        for last in (b"NaN", b"Infinity", b"-Infinity")
    ),
    b'{"%s": {"generation": 7, "served": 0, "crashes": 5, "as_candidate": 5, "signal": 0}}'
    % BUNDLE.encode(),
]


@pytest.mark.parametrize("name", ["trying", "quarantine"])
@pytest.mark.parametrize("crash", [b"", b"\n" + SEGFAULT], ids=["", "crash"])
@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_notes_are_ignored(machine: Machine, name: str, content: bytes, crash: bytes):
    (machine.folder / name).write_bytes(content + crash)
    for _ in range(3):
        process = machine.start()
        assert process.refusal(LIVE) is None
        assert process.refusal(CANDIDATE) is None


@pytest.mark.parametrize("name", ["trying", "quarantine"])
def test_huge_file_is_not_read_completely(machine: Machine, name: str):
    machine.start().begin(CANDIDATE)
    with (machine.folder / name).open("ab") as file:
        file.truncate(1 << 40)  # a sparse file: reading all of it would fill the memory
    process = machine.start()
    assert (process.refusal(CANDIDATE) is None) == (name == "trying")


@pytest.mark.parametrize(
    "lines", [b"1", b"11", b"9\n", b"x\n", b"11 x\n", b"11\n\n", b"\xff\n", b"11\n00\n", b"00\n"]
)
def test_line_of_another_form_is_no_crash(machine: Machine, lines: bytes):
    for _ in range(3):
        machine.start().begin(LIVE)
        with machine.note.open("ab") as note:
            note.write(lines)
    assert machine.start().refusal(LIVE) is None


def test_last_of_several_signals_is_reported(machine: Machine):
    for lines in (b"11\n00\n06\n", b"06\n07\n"):
        machine.start().begin(LIVE)
        with machine.note.open("ab") as note:
            note.write(lines)
    assert "crashed (SIGBUS)" in str(machine.start().refusal(LIVE))


def test_notes_leak_no_open_files(machine: Machine):
    """The 64 places for witnesses are not used up either."""
    process = machine.start()
    process.begin(LIVE)
    open_at_first = process._note._witness
    for _ in range(100):
        process.end()
        process.begin(LIVE)
    assert process._note._witness == open_at_first


def test_without_a_folder_nothing_is_remembered():
    process = Quarantine(None)
    process.begin(CANDIDATE)
    process.in_force()
    process.end_probation_if_due()
    process.close()
    assert process.refusal(CANDIDATE) is None
