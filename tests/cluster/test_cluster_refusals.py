"""Peers that links refuse, and why: another cluster, another name, another user."""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from typing import TYPE_CHECKING, cast

import pytest
from link_support import PATIENT, Raw, address_of, grants, poll, unix, until

from other_user import NOBODY, as_user, open_folder, require_root
from ratectl.cluster.protocol.messages import Closed, Open, OwnerId, Unknown, Welcome
from ratectl.cluster.transport.codec import encode
from ratectl.cluster.transport.frames import framed
from ratectl.cluster.transport.hello import VERSION, Hello, Refusal
from ratectl.cluster.transport.identity import why_wrong_user
from ratectl.cluster.transport.links import Links

if TYPE_CHECKING:
    from pathlib import Path

    from ratectl.cluster.transport.codec import Message

HELLO = Hello(VERSION, "env", "member")


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (
            [Hello(VERSION + 2, "env", "m")],
            r"member 'm' has version 3 of .* this member has version 1",
        ),
        (
            [Hello(VERSION, "other\x1b", "m")],
            r"'m' belongs to environment 'other\\x1b', .* to 'env'",
        ),
        ([Hello(VERSION, "env", "")], "a name of a member has 1 to 256 characters"),
        ([Hello(VERSION, "env", "m" * 257)], "a name of a member has 1 to 256 characters"),
        ([Hello(VERSION, "env", "m" * 8_000)], "a frame of 8020 bytes: 1 to 4096 are possible"),
        ([poll()], "the first message is Poll, not Hello"),
        ([HELLO, HELLO], "sent the message Hello, which is no message to an owner"),
        ([HELLO, poll(member="other")], "sent the message Poll of member 'other'"),
        ([HELLO, Open("other", 1, "o")], "sent the message Open of member 'other'"),
        (
            [HELLO, grants(1)],
            "sent the message Reply, which is no message to an owner",
        ),
    ],
)
def test_peers_that_are_refused_are_told_why(
    owner: Links, messages: list[Message], reason: str
) -> None:
    with Raw(address_of(owner)).say(*messages) as peer:
        told = peer.hear_end(owner)
    assert isinstance(told[-1], Refusal)
    assert told[0] == Hello(VERSION, "env", "owner")
    assert owner.counters.refused == 1
    assert re.search(reason, told[-1].reason)
    assert list(owner.refusals) == [told[-1].reason]
    assert not owner.reply("member", grants(1))


def test_the_next_version_is_accepted(owner: Links) -> None:
    body = encode(Hello(VERSION + 1, "env", "member"))[:-1] + b',"new"]'
    with Raw(address_of(owner)) as peer:
        peer.socket.sendall(framed(body) + framed(encode(poll())))
        assert until(lambda: owner.counters.received, owner) == [("member", poll())]


def test_both_sides_know_why_they_do_not_talk(tmp_path: Path) -> None:
    with (
        Links("owner", "env", unix(tmp_path)) as owner,
        Links("member", "other", bounds=PATIENT) as member,
    ):
        address = address_of(owner)
        member.send(address, poll())
        until(lambda: owner.counters.refused, owner)
        member.send(address, poll())  # the connection is broken by now
        until(lambda: member.problem(address), member)
        problem = member.problem(address)
        assert problem is not None
        assert "belongs to environment" in problem
        assert owner.counters.connected == member.counters.connected == 0


def _as_owner(listener: socket.socket, member: Links, *messages: Message) -> None:
    """Accept a member, and send it messages."""
    member.send(unix(listener.getsockname().rpartition("/")[0]), poll())
    link, _ = listener.accept()
    with link:
        hello = Hello(VERSION, "env", "owner")
        link.sendall(b"".join(framed(encode(each)) for each in (hello, *messages)))
        until(lambda: member.counters.lost + member.counters.refused, member)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            Welcome("member", 1, OwnerId("other", 1), 1),
            "sent the message Welcome of owner 'other'",
        ),
        (
            Closed("member", 1, OwnerId("other", 1), {}),
            "sent the message Closed of owner 'other'",
        ),
        (grants(1, member="other"), "sent the message Reply for member 'other' to this member"),
        (
            poll(member="owner"),
            "sent the message Poll, which is no message from an owner",
        ),
        (Refusal("go\naway"), r"the peer refuses this member: go\\naway"),
    ],
)
def test_owners_that_are_refused(
    member: Links, tmp_path: Path, message: Message, reason: str
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/owner.sock")
        listener.listen()
        known = Unknown("member", 1, OwnerId("other", 1))
        _as_owner(listener, member, known, message)
    assert re.search(reason, member.problem(unix(tmp_path)) or "")
    assert member.counters.refused == (not isinstance(message, Refusal))


def test_another_user_is_refused() -> None:
    require_root()
    with open_folder() as folder, Links("owner", "env", unix(folder / "f")) as owner:
        (folder / "f").chmod(0o755)
        (folder / "f" / "owner.sock").chmod(0o666)

        def connect() -> int:
            return Raw(address_of(owner)).hello().socket.fileno()

        assert as_user(NOBODY, connect)
        until(lambda: owner.counters.refused, owner)
        assert list(owner.refusals) == [
            f"the peer runs as user {NOBODY}, and this member as user 0"
        ]
        assert owner.counters.connected == owner.counters.bytes_sent == 0


def test_an_owner_of_another_user_is_refused(member: Links) -> None:
    require_root()
    with open_folder() as folder:
        (folder / "f").mkdir(mode=0o777)
        (folder / "f").chmod(0o777)
        ours, theirs = socket.socketpair()

        def listen() -> None:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"{folder}/f/owner.sock")
            listener.listen()
            socket.send_fds(theirs, [b"x"], [listener.fileno()])

        as_user(NOBODY, listen)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        assert not member.send(unix(folder / "f"), poll())
        problem = member.problem(unix(folder / "f"))
        assert problem is not None
        assert f"the peer runs as user {NOBODY}" in problem
        assert member.counters.bytes_sent == 0
        ours.close()
        theirs.close()
        os.close(descriptors[0])


@pytest.mark.parametrize(
    ("version", "user", "why"),
    [
        (0, 0, None),
        (0, os.geteuid(), None),
        (0, NOBODY, f"the peer runs as user {NOBODY}, and this member as user"),
        (1, 0, "the user of the peer is not known: the kernel answers in version 1"),
        (None, 0, "the user of the peer is not known: not connected"),
    ],
)
def test_users_of_peers_on_macos(
    monkeypatch: pytest.MonkeyPatch, version: int | None, user: int, why: str | None
) -> None:
    class Connection:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert (level, option, size) == (0, 1, 76)
            if version is None:
                raise OSError(errno.ENOTCONN, "not connected")
            return struct.pack("=IIhxx16I", version, user, 1, *range(16))

    monkeypatch.delattr(socket, "SO_PEERCRED")
    told = why_wrong_user(cast("socket.socket", Connection()))
    assert told == why or (why and (told or "").startswith(why))
