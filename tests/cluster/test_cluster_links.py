"""Links over real Unix sockets: what members and owners exchange, and who may take part."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
from link_support import OWNER, PATIENT, Raw, address_of, converse, grants, poll, unix, until

from other_user import NOBODY, require_root
from ratectl.cluster.protocol.messages import Open, OwnerId, Welcome
from ratectl.cluster.transport.bounds import Bounds
from ratectl.cluster.transport.links import Links, Received
from ratectl.errors import UsageError

# Exchange -----------------------------------------------------------------------------------------


def test_messages_go_both_ways(owner: Links, member: Links) -> None:
    large = grants(10_000, "key" * 10)
    assert member.send(address_of(owner), poll(1))
    assert member.send(address_of(owner), poll(2))
    received: list[Received] = []

    def has_both() -> bool:
        received.extend(owner.poll(0.001))
        return len(received) == 2

    until(has_both)
    assert received == [("member", poll(1)), ("member", poll(2))]
    assert owner.reply("member", large)
    assert until(lambda: member.counters.received == 1, owner, member) == [("owner", large)]
    assert (member.counters.connected, owner.counters.connected) == (1, 1)
    assert member.counters.bytes_received == owner.counters.bytes_sent > 400_000
    assert member.counters.bytes_sent == owner.counters.bytes_received
    assert member.problem(address_of(owner)) is None


def test_a_reply_to_a_member_that_is_not_connected_is_dropped(owner: Links) -> None:
    assert not owner.reply("member", grants(1))
    assert owner.counters.dropped == 1


def test_twenty_links_exchange_ten_thousand_messages(tmp_path: Path) -> None:
    with ExitStack() as stack:
        links = [
            stack.enter_context(Links(f"m{n}", "env", unix(tmp_path, f"m{n}"))) for n in range(20)
        ]
        asked: set[tuple[str, str, int]] = set()
        answered: set[tuple[str, str, int]] = set()
        for number in range(250):
            for at, link in enumerate(links):
                peer = links[(at + 1 + number % 19) % 20]
                assert link.send(address_of(peer), Open(link.name, number, "o"))
            for link in links:
                _answer(link, asked, answered)
        end = time.monotonic() + 60
        while len(answered) < 5_000:
            assert time.monotonic() < end
            for link in links:
                _answer(link, asked, answered)
        assert len(asked) == 5_000
        assert sum(link.counters.received for link in links) == 10_000
        assert [link.counters.dropped for link in links] == [0] * 20
        assert [link.counters.connected for link in links] == [38] * 20


def _answer(
    link: Links, asked: set[tuple[str, str, int]], answered: set[tuple[str, str, int]]
) -> None:
    for peer, message in link.poll(0):
        if isinstance(message, Open):
            asked.add((peer, link.name, message.session))
            answer = Welcome(peer, message.session, OwnerId(f"0.{link.name}", 1), 1)
            assert link.reply(peer, answer)
        else:
            assert isinstance(message, Welcome)
            answered.add((link.name, peer, message.session))


def test_wake_ends_the_wait_of_a_poll(member: Links, tmp_path: Path) -> None:
    with Links("owner", "env", unix(tmp_path), bounds=PATIENT) as owner:
        thread = threading.Thread(target=owner.wake)
        begun = time.monotonic()
        thread.start()
        assert owner.poll(60) == []
        thread.join()
        for _ in range(100_000):  # more than the descriptor holds
            owner.wake()
        assert owner.poll(60) == []
        assert time.monotonic() - begun < 30
    owner.wake()
    assert owner.poll(60) == []


def test_the_newest_connection_of_a_member_gets_the_replies(owner: Links) -> None:
    with Raw(address_of(owner)).hello() as first, Raw(address_of(owner)) as second:
        until(lambda: owner.counters.connected == 1, owner)
        second.hello()
        until(lambda: owner.counters.connected == 2, owner)
        assert owner.reply("member", grants(1))
        assert grants(1) in second.hear()
        first.close()
        until(lambda: owner.counters.lost == 1, owner)
        assert owner.reply("member", grants(2))
        assert grants(2) in second.hear()


# Connecting ---------------------------------------------------------------------------------------


def test_a_member_connects_again_after_the_owner_was_away(member: Links, tmp_path: Path) -> None:
    assert not member.send(unix(tmp_path), poll())
    problem = member.problem(unix(tmp_path))
    assert problem is not None
    assert "No such file" in problem
    assert not member.send(unix(tmp_path), poll())  # too early to try again
    assert member.counters.dropped == 2
    for _ in range(3):
        with Links("owner", "env", unix(tmp_path)) as owner:
            converse(member, owner)
        until(lambda: member.problem(unix(tmp_path)) is not None, member)
        assert member.problem(unix(tmp_path)) == "the peer has closed the connection"
        route = member._routes.find(unix(tmp_path))
        assert route is not None
        assert route.retry_at < time.monotonic() + 0.05
        assert route._delay == 0.1  # of the next attempt


def test_attempts_become_rarer(
    member: Links, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, attempts = 1_000.0, []
    monkeypatch.setattr("ratectl.cluster.transport.links.time.monotonic", lambda: now)
    for _ in range(20_000):
        before = member.problem(unix(tmp_path))
        route = member._routes.find(unix(tmp_path))
        due = route is None or now >= route.retry_at
        member.send(unix(tmp_path), poll())
        if due:
            attempts.append(now)
        assert before is None or not due or member.problem(unix(tmp_path))
        now += 0.001
    waits = [after - before for before, after in pairwise(attempts)]
    assert 0.025 <= waits[0] <= 0.052
    assert all(1.0 <= wait <= 2.01 for wait in waits[6:])
    assert len({round(wait, 2) for wait in waits[6:]}) > 3  # members do not come back at once


@pytest.mark.parametrize("path", ["x" * 200, "a\0b", ""])
def test_addresses_that_cannot_be_connected_to(member: Links, path: str, tmp_path: Path) -> None:
    address = unix(tmp_path, path)
    assert not member.send(address, poll())
    assert member.problem(address)


def test_too_many_addresses_are_dropped(tmp_path: Path) -> None:
    with Links("member", "env", bounds=Bounds(connections=10)) as member:
        for number in range(100):
            assert not member.send(unix(tmp_path, str(number)), poll())
        assert len(member._routes._routes) == 10
        assert member.counters.dropped == 100


# Listening ----------------------------------------------------------------------------------------


def test_the_folder_and_the_socket_are_private(tmp_path: Path) -> None:
    with Links("owner", "env", unix(tmp_path / "new" / "folder")):
        assert (tmp_path / "new" / "folder").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "new" / "folder" / "owner.sock").stat().st_mode & 0o777 == 0o600
    assert list((tmp_path / "new" / "folder").iterdir()) == []


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o777, 0o500])
def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f").chmod(mode)
    with pytest.raises(UsageError, match=rf"must belong to user \d+ alone: .* mode {mode:04o}"):
        Links("owner", "env", unix(tmp_path / "f"))


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    require_root()
    (tmp_path / "f").mkdir(mode=0o700)
    os.chown(tmp_path / "f", NOBODY, NOBODY)
    with pytest.raises(UsageError, match=f"it has the owner {NOBODY}"):
        Links("owner", "env", unix(tmp_path / "f"))


def test_a_link_to_a_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "f")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(UsageError, match="cannot be used"):
            Links("owner", "env", unix(tmp_path / name))


def test_the_socket_of_an_ended_process_is_replaced(tmp_path: Path, member: Links) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{tmp_path}/owner.sock")
    with Links("owner", "env", unix(tmp_path)) as owner:
        converse(member, owner)
        with pytest.raises(UsageError, match="another process listens there"):
            Links("owner", "env", unix(tmp_path))
        converse(member, owner)


def test_a_socket_that_is_another_members_by_now_stays(tmp_path: Path) -> None:
    owner = Links("owner", "env", unix(tmp_path))
    (tmp_path / "owner.sock").unlink()
    with Links("owner", "env", unix(tmp_path)):
        owner.close()
        assert (tmp_path / "owner.sock").is_socket()


@pytest.mark.parametrize(
    ("name", "environment"), [("", "e"), ("m", ""), ("m" * 257, "e"), ("m", 7)]
)
def test_names_that_are_refused(name: str, environment: str) -> None:
    with pytest.raises(UsageError, match="is a text of 1 to 256 characters"):
        Links(name, environment)


# Ends ---------------------------------------------------------------------------------------------


def test_nothing_happens_after_the_end(owner: Links, member: Links) -> None:
    converse(member, owner)
    address = address_of(owner)
    for _ in range(2):
        owner.close()
        member.close()
        assert not member.send(address, poll())
        assert not owner.reply("member", grants(1))
        assert owner.poll(10) == member.poll(None) == []
        owner.after_fork()


def test_a_child_process_leaves_the_connections_to_its_parent(
    owner: Links, member: Links, tmp_path: Path
) -> None:
    converse(member, owner)
    before = owner.counters.bytes_received, member.counters.bytes_received
    child = os.fork()
    if not child:
        outcome = 1
        try:
            held = len(list(Path("/dev/fd").iterdir()))
            for links in (owner, member):
                links.after_fork()
                links.close()
                assert links.poll(10) == []
            # Each had a selector, a pair for waking and a connection; one had a listener.
            outcome = 0 if held - len(list(Path("/dev/fd").iterdir())) == 9 else 2
        finally:
            os._exit(outcome)
    assert os.waitpid(child, 0)[1] == 0
    for _ in range(20):
        assert owner.poll(0) == member.poll(0) == []
    assert (owner.counters.bytes_received, member.counters.bytes_received) == before
    assert owner.counters.lost == member.counters.lost == 0
    assert (tmp_path / "owner.sock").is_socket()
    converse(member, owner, 2)
    assert owner.counters.connected == 1


def test_a_child_process_does_not_keep_a_closed_connection_open(
    member: Links, tmp_path: Path
) -> None:
    owner = Links("owner", "env", unix(tmp_path), bounds=PATIENT)
    converse(member, owner)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.read(reading, 1)  # until the parent has seen the end
        os._exit(0)
    try:
        member.close()
        until(lambda: owner.counters.lost, owner)
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)
        owner.close()


def test_polls_of_members_in_any_order_arrive_in_that_order(owner: Links) -> None:
    messages = [poll(number) for number in range(200)]
    random.Random(1).shuffle(messages)
    messages += messages[:50]  # repeated
    with Raw(address_of(owner)).hello().say(*messages):
        received = until(lambda: owner.counters.received == 250, owner)
    assert [each.message for each in received] == messages
    assert all(each.message.owner == OWNER for each in received)  # type: ignore[union-attr]
