"""Processes that have ended without leaving: what proves it, and what becomes of their shares."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from machine import Machine

from etcd_server import wait_for
from ratectl.cluster.entries import Entry, RosterState, read_roster
from ratectl.cluster.keeper import _settled
from ratectl.cluster.peers import UnixPeers
from ratectl.cluster.protocol.timing import SECOND, Timing
from ratectl.cluster.roster import Roster
from ratectl.cluster.sockets import SocketPlace, has_ended
from ratectl.records import WHOLE_SHARE, MemberRecord
from ratectl.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLDER = """
import os, sys, time
from ratectl.cluster.sockets import SocketPlace
place = SocketPlace()
child = os.fork() if "fork" in sys.argv else None
if child == 0:
    time.sleep(600)
print(place.path, child, flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        monkeypatch.setenv("TMPDIR", name)
        yield Path(name)


@contextmanager
def held(*options: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Start a process that holds a lock; yield it, its address, and the id of its child."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLDER, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stdout is not None
            path, child = process.stdout.readline().split()
            yield process, f"unix:{path}", child
        finally:
            process.kill()


# The proof ----------------------------------------------------------------------------------------


def test_a_process_that_was_killed_has_ended(folder: Path) -> None:
    with held() as (process, address, _):
        assert not has_ended(address)
        process.send_signal(signal.SIGSTOP)
        assert not has_ended(address), "it may go on"
        process.kill()
        process.wait()
        assert has_ended(address)
        assert has_ended(address), "looking changes nothing"


def test_a_forked_child_does_not_keep_its_parent_alive(folder: Path) -> None:
    with held("fork") as (process, address, child):
        try:
            assert not has_ended(address)
            process.kill()
            process.wait()
            wait_for(lambda: has_ended(address), "the end of the parent")
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_this_process_has_not_ended(folder: Path) -> None:
    place = SocketPlace()
    address = f"unix:{place.path}"
    assert not has_ended(address)
    place.close(is_unused=False)
    assert not has_ended(address), "its share may be used"
    place.close()
    assert not has_ended(address), "there is no proof"
    assert list(folder.glob("*/*")) == []
    place.close()


@pytest.mark.parametrize("is_unused", [False, True])
def test_links_keep_the_lock_while_the_share_may_be_used(folder: Path, is_unused: bool) -> None:
    with UnixPeers().links("a.1", "env", lambda: is_unused) as (_, address):
        lock = Path(f"{address.removeprefix('unix:')}.lock")
    assert lock.exists() is not is_unused
    assert not has_ended(address)


@pytest.mark.parametrize("address", ["", "10.0.0.5:7946", "unix:/nowhere/a.sock", "unix:", "/tmp"])
def test_nothing_is_known_of_other_addresses(address: str) -> None:
    assert not has_ended(address)


def test_a_pipe_in_place_of_a_lock_keeps_nobody_waiting(folder: Path) -> None:
    os.mkfifo(folder / "a.sock.lock")
    has_ended(f"unix:{folder}/a.sock")


# The roster ---------------------------------------------------------------------------------------


def test_an_ended_member_is_overdue_when_nobody_counts_on_its_share(folder: Path) -> None:
    store, timing = MemoryStore("memory://ended"), Timing()
    with held() as (process, address, _):
        Roster(store, "a", 900 * SECOND, timing).join(address, 0)
        seen = Roster(store, "b", 900 * SECOND, timing)
        seen.join("unix:/b", 0)
        assert seen.read(100 * SECOND).overdue == ()
        process.kill()
        process.wait()
        wait = timing.stretched(timing.resume_after)
        for now in (100 * SECOND, 101 * SECOND, 101 * SECOND + wait):
            assert seen.read(now).overdue == ()
        (overdue,) = seen.read(101 * SECOND + wait + 1).overdue
        assert seen.remove(overdue.member, overdue.revision)
        assert read_roster(store).shares() == {"b": WHOLE_SHARE}


def test_only_heirs_get_the_share_of_a_member_that_leaves() -> None:
    store = MemoryStore("memory://heirs")
    rosters = [Roster(store, name, 900 * SECOND, Timing()) for name in "abc"]
    for roster in rosters:
        roster.join(f"unix:/{roster.member}", 0)
    rosters[0].give("c", 400_000)
    rosters[0].leave(0, lambda member: member == "c")  # b has less
    assert read_roster(store).shares() == {"b": 0, "c": WHOLE_SHARE}
    rosters[2].leave(0, lambda _: False)
    state = read_roster(store)
    assert (state.shares(), state.unowned) == ({"b": 0}, WHOLE_SHARE)


def test_members_that_leave_give_nothing_to_one_that_was_killed() -> None:
    """Of four, one is killed; the others leave in order. Their shares are for those that come."""
    machine = Machine(lasts=300 * SECOND, one=(200, 100))
    killed, *others = machine.start(4)
    machine.run(10 * SECOND)
    share = read_roster(machine.store).share_of(killed.links.name)
    assert 0 < share < WHOLE_SHARE
    killed.frozen = True
    machine.run(3 * SECOND)
    for member in others:
        member.keeper.hand_over()
        member.keeper.leave(machine.now)
    state = read_roster(machine.store)
    assert state.share_of(killed.links.name) == share
    assert state.unowned == WHOLE_SHARE - share


def test_an_owner_that_was_reached_long_ago_may_have_ended() -> None:
    machine = Machine(one=(200, 100))
    (member,) = machine.start()
    keeper = member.keeper
    keeper.reached = ["gone"] * len(keeper.reached)
    for ago, runs in ((SECOND, True), (3 * SECOND, False)):
        keeper.reached_at = [machine.now - ago] * len(keeper.reached)
        assert keeper._runs("gone") is runs


# Gifts --------------------------------------------------------------------------------------------


def roster_of(**shares: int) -> RosterState:
    entries: dict[str, Any] = {}
    for name, share in shares.items():
        member = name.replace("_", ".")
        entries[member] = Entry(member, MemberRecord(share=share, renewed=1, address=""), 1)
    return RosterState(entries, {}, 0, 1, 1)


def test_an_agent_that_restarts_often_takes_one_part_along() -> None:
    found = _settled(roster_of(a_1=500, b_1=500, b_2=0, b_3=0, c_1=0))
    assert found == {"a.1": 500, "b.1": 500, "c.1": 0}


def test_members_without_the_name_of_an_agent_are_others() -> None:
    assert _settled(roster_of(a=500, b=0)) == {"a": 500, "b": 0}


# What is told -------------------------------------------------------------------------------------


def test_an_owner_tells_that_most_shares_are_not_lent() -> None:
    """A process that starts again under another id finds its old entry, which has the share."""
    machine = Machine(lasts=30 * SECOND, one=(200, 100))
    (killed,) = machine.start()
    machine.run(2 * SECOND)
    killed.frozen = True
    (started,) = machine.start()
    machine.run(4 * SECOND)
    assert started.node.unlent() is None, "shares may be on the way"
    machine.run(4 * SECOND)
    told = started.node.unlent()
    assert told is not None
    assert told.startswith("only 0% of the limits is in use")
    machine.run(30 * SECOND)
    assert started.node.unlent() is None
