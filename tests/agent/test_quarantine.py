"""A generation that a process died with is left alone for a while."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl.agent.quarantine import PROBATION_SECONDS, Quarantine
from ratectl.rollout import Controlling, Terms, read_rollout, start
from ratectl.usage import read_agents
from support import ME, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import ratectl
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

BUNDLE = "b" * 64


class Machine:
    """A folder and two clocks; each ``start`` is a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0

    def start(self) -> Quarantine:
        return Quarantine(self.folder, lambda: self.now, lambda: self.now)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def died(machine: Machine, *, candidate: bool = False, times: int = 1) -> Quarantine:
    """The process that starts after others have died with ``BUNDLE``."""
    for _ in range(times):
        machine.start().begin(7, BUNDLE, candidate=candidate)
    return machine.start()


def served(machine: Machine) -> None:
    process = machine.start()
    process.begin(7, BUNDLE, candidate=False)
    process.in_force()
    machine.now += PROBATION_SECONDS
    process.tend()


def test_a_candidate_that_a_process_died_with_is_refused_for_five_minutes(machine: Machine):
    refusal = died(machine, candidate=True).refusal(BUNDLE)
    assert refusal is not None
    assert "process died with generation 7 (once)" in refusal
    machine.now += 299
    assert machine.start().refusal(BUNDLE) is not None
    assert machine.start().refusal("c" * 64) is None
    machine.now += 2
    assert machine.start().refusal(BUNDLE) is None


def test_what_is_live_gets_a_second_chance(machine: Machine):
    """A deployment may end a process at any moment."""
    assert died(machine).refusal(BUNDLE) is None
    refusal = died(machine).refusal(BUNDLE)
    assert refusal is not None
    assert "(2 times)" in refusal


def test_what_had_served_gets_a_third(machine: Machine):
    served(machine)
    refusals = [died(machine).refusal(BUNDLE) is not None for _ in range(3)]
    assert refusals == [False, False, True]


def test_each_further_death_doubles_that_up_to_a_day(machine: Machine):
    lasted = []
    for _ in range(12):
        again = died(machine, candidate=True)
        begun = machine.now
        while again.refusal(BUNDLE):
            machine.now += 60
        lasted.append(machine.now - begun)
    assert lasted[:4] == [300, 600, 1200, 2400]
    assert lasted[-1] == 86_400


def test_a_process_that_ends_in_good_order_died_of_nothing(machine: Machine):
    process = machine.start()
    process.begin(7, BUNDLE, candidate=True)
    process.end()
    assert machine.start().refusal(BUNDLE) is None


def test_one_that_lives_on_for_a_while_died_of_nothing(machine: Machine):
    for _ in range(3):
        served(machine)
    assert machine.start().refusal(BUNDLE) is None
    assert not (machine.folder / "trying").exists()


def test_its_time_begins_when_it_is_in_force(machine: Machine):
    """To compile a large one takes long, and the process may die of it afterwards."""
    process = machine.start()
    process.begin(7, BUNDLE, candidate=False)
    machine.now += PROBATION_SECONDS
    process.tend()
    assert (machine.folder / "trying").exists()
    process.in_force()
    process.tend()
    assert (machine.folder / "trying").exists()


def test_a_candidate_is_on_probation_for_as_long_as_it_is_one(machine: Machine):
    process = machine.start()
    process.begin(7, BUNDLE, candidate=True)
    process.in_force()
    machine.now += 3600
    process.tend()
    assert machine.start().refusal(BUNDLE) is not None


def test_one_that_was_promoted_in_time_has_served(machine: Machine):
    process = machine.start()
    process.begin(7, BUNDLE, candidate=True)
    process.in_force()
    process.promoted()
    machine.now += PROBATION_SECONDS
    process.tend()
    assert not (machine.folder / "trying").exists()


def test_a_clock_that_was_set_back_does_not_make_it_last(machine: Machine):
    machine.now += 100 * 86_400
    process = died(machine, candidate=True)
    machine.now -= 10 * 86_400
    refusal = process.refusal(BUNDLE)
    assert refusal is not None, "not before a day has gone by"
    machine.now += 10 * 86_400 + 301
    assert process.refusal(BUNDLE) is None


def test_who_cannot_be_noted_is_not_taken_for_the_one_before(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    process = machine.start()
    process.begin(7, BUNDLE, candidate=True)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    process.begin(8, "c" * 64, candidate=True)
    monkeypatch.undo()
    assert machine.start().refusal(BUNDLE) is None


def test_the_newest_are_remembered(machine: Machine):
    died(machine, candidate=True)
    for number in range(99):
        machine.start().begin(number, f"{number:064d}", candidate=True)
    assert machine.start().refusal(BUNDLE) is not None
    machine.start().begin(200, "d" * 64, candidate=True)
    assert machine.start().refusal(BUNDLE) is None, "a hundred others came since"


@pytest.mark.parametrize("name", ["trying", "quarantine"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"bundle": 1}',
        b'{"x": 1}',
        b"[" * 100_000,
        b'{"%s": {"generation": 1, "deaths": null, "served": false, "until": 0}}' % BUNDLE.encode(),
        b'{"%s": {"generation": 1e999, "deaths": 1, "served": false}}' % BUNDLE.encode(),
    ],
)
def test_damaged_notes_are_no_notes(machine: Machine, name: str, content: bytes):
    (machine.folder / name).write_bytes(content)
    assert machine.start().refusal(BUNDLE) is None


def test_without_a_folder_nothing_is_remembered():
    process = Quarantine(None)
    process.begin(7, BUNDLE, candidate=True)
    process.in_force()
    process.tend()
    process.end()
    assert process.refusal(BUNDLE) is None


VICTIM = """
import sys, time, ratectl
agent = ratectl.Agent(sys.argv[1], id="victim", state_dir=sys.argv[2], report_interval=0.1)
print(agent.generation, agent.status.source, flush=True)
agent.wait_for_generation(int(sys.argv[3]), 30)
print("took", agent.generation, flush=True)
time.sleep(60)
"""


@contextmanager
def victim(url: str, state: Path, until: int) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", VICTIM, url, str(state), str(until)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_an_agent_that_dies_twice_of_a_generation_starts_with_the_one_before(
    store: Store, store_url: str, tmp_path: Path
):
    publish_policies(store, simple("5/s"))
    with victim(store_url, tmp_path, 2) as first:
        assert said(first) == "1 store"
        publish_policies(store, simple("6/s"))
        assert said(first) == "took 2"
        wait_for(lambda: list(tmp_path.rglob("last-good.before")), "generation 2 is on disk")
        os.kill(first.pid, signal.SIGSEGV)
    with victim(store_url, tmp_path, 2) as second:
        assert said(second).startswith("2 "), "it may have been chance"
        assert said(second) == "took 2"
        os.kill(second.pid, signal.SIGSEGV)
    with victim(store_url, tmp_path, 3) as third:
        assert said(third) == "1 last-good"
        (record,) = wait_for(
            lambda: (found := [each for each in read_agents(store) if each.rejected]) and found,
            "the refusal is reported",
        )
        assert (record.generation, record.state, record.rejected) == (1, "rejected", 2)
        assert "process died with generation 2 (2 times)" in str(record.error)
        publish_policies(store, simple("7/s"))
        assert said(third) == "took 3", "another generation is another matter"


def test_an_agent_that_dies_of_a_candidate_rejects_it_when_it_starts_again(
    store: Store, store_url: str, tmp_path: Path
):
    publish_policies(store, simple("5/s"))
    with victim(store_url, tmp_path, 2) as first:
        assert said(first) == "1 store"
        assert start(store, simple("6/s"), ME, Terms.of([100.0], min_requests=0)) is not None
        watching = threading.Thread(
            target=Controlling(store, read_rollout(store).record).run, args=(60,)
        )
        watching.start()
        assert said(first) == "took 2"
        os.kill(first.pid, signal.SIGKILL)
    with victim(store_url, tmp_path, 9) as second:
        assert said(second).startswith("1 ")
        watching.join(20)
        record = read_rollout(store).record
        assert record.state == "aborted"
        assert "died with generation 2 (once)" in record.reason
        assert second.poll() is None


def test_closing_an_agent_leaves_no_suspicion(store: Store, store_url: str, make_agent: Make):
    publish_policies(store, simple("5/s"))
    make_agent(store_url, id="me").close()
    started = time.monotonic()
    again = make_agent(store_url, id="me")
    assert again.generation == 1
    assert again.status.rejected is None
    assert time.monotonic() - started < PROBATION_SECONDS
