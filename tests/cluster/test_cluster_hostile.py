"""Links against peers that are silent, slow, greedy or send garbage: the others are served."""

from __future__ import annotations

import errno
import random
import socket
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from link_support import PATIENT, Raw, address_of, converse, grants, poll, unix, until

from ratectl.cluster.protocol.messages import Open
from ratectl.cluster.transport.bounds import Bounds
from ratectl.cluster.transport.codec import encode
from ratectl.cluster.transport.frames import MOST_BYTES, framed
from ratectl.cluster.transport.hello import VERSION, Hello, Refusal
from ratectl.cluster.transport.links import Links
from ratectl.cluster.transport.listening import most_connections

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from ratectl.cluster.transport.codec import Message


def _links(folder: Path, **bounds: float) -> Links:
    return Links("owner", "env", unix(folder), bounds=Bounds(**bounds))  # type: ignore[arg-type]


# Silence ------------------------------------------------------------------------------------------


def test_a_peer_that_says_nothing_is_refused(tmp_path: Path, member: Links) -> None:
    with _links(tmp_path, handshake=0.1, silence=1_000) as owner:
        converse(member, owner)
        with Raw(address_of(owner)) as peer:
            told = peer.hear_end(owner)
        assert told == [Hello(VERSION, "env", "owner"), Refusal("no hello within 0.1 seconds")]
        assert owner.counters.refused == 1
        converse(member, owner, 2)
        assert owner.counters.connected == 1


def test_a_hello_that_never_ends_is_refused(tmp_path: Path) -> None:
    with _links(tmp_path, handshake=0.1, silence=1_000) as owner, Raw(address_of(owner)) as peer:
        hello = framed(encode(Hello(VERSION, "env", "member")))
        for at in range(len(hello) - 1):
            peer.socket.sendall(hello[at : at + 1])
            owner.poll(0)
        assert Refusal("no hello within 0.1 seconds") in peer.hear_end(owner)


def test_a_half_open_connection_is_closed(tmp_path: Path, member: Links) -> None:
    with _links(tmp_path, handshake=1_000, silence=0.3) as owner:
        with Raw(address_of(owner)).hello() as peer:
            until(lambda: owner.counters.connected, owner)
            assert peer.hear_end(owner, member) == [Hello(VERSION, "env", "owner")]
        assert owner.counters.lost == 1
        assert not owner.reply("member", grants(1))
        converse(member, owner)
        assert owner.counters.connected == 2


def test_a_member_leaves_an_owner_that_is_silent(tmp_path: Path) -> None:
    bounds = Bounds(handshake=0.1, silence=0.1)
    with socket.socket(socket.AF_UNIX) as listener, Links("member", "env", bounds=bounds) as member:
        listener.bind(f"{tmp_path}/owner.sock")
        listener.listen()
        for hello, why in (
            (b"", "no hello within 0.1 seconds"),
            (framed(encode(Hello(VERSION, "env", "owner"))), "nothing arrived for 0.1 seconds"),
        ):
            until(lambda: member.send(unix(tmp_path), poll()), member)
            link, _ = listener.accept()
            with link:
                link.sendall(hello)
                until(lambda: member.problem(unix(tmp_path)) == why, member)  # noqa: B023


# Greed --------------------------------------------------------------------------------------------


def test_a_peer_that_never_reads_loses_its_messages(owner: Links, member: Links) -> None:
    message = grants(1_000)
    size = len(encode(message))
    with Raw(address_of(owner)).hello("greedy") as peer:
        until(lambda: owner.counters.connected, owner)
        sent = 0
        while owner.reply("greedy", grants(1_000, member="greedy")):
            sent += 1
            assert sent * size < 20_000_000
        queued = len(owner._members["greedy"]._out)
        assert owner.bounds.queued - 2 * size < queued <= owner.bounds.queued
        for _ in range(100):
            assert not owner.reply("greedy", message)
        assert len(owner._members["greedy"]._out) == queued
        assert owner.counters.dropped == 101
        converse(member, owner)
        heard = until_heard(peer, owner, sent)
        assert heard == [grants(1_000, member="greedy")] * sent
        assert owner.counters.dropped == 101


def until_heard(peer: Raw, owner: Links, count: int) -> list[object]:
    heard: list[object] = []

    def has_all() -> bool:
        heard.extend(peer.hear())
        return len(heard) > count

    until(has_all, owner)
    return heard[1:]


def test_messages_that_were_not_sent_when_a_connection_ends_are_counted(owner: Links) -> None:
    with Raw(address_of(owner)).hello():
        until(lambda: owner.counters.connected, owner)
        accepted = 0
        while owner.reply("member", grants(1_000)):
            accepted += 1
    until(lambda: owner.counters.lost, owner)
    assert owner.counters.sent + owner.counters.dropped == accepted + 1
    assert owner.counters.dropped > 1


def test_one_large_message_may_always_wait(owner: Links, member: Links) -> None:
    converse(member, owner)
    large = grants(20_000)
    assert len(encode(large)) > 2 * owner.bounds.queued
    assert owner.reply("member", large)
    assert until(lambda: member.counters.received == 2, owner, member) == [("owner", large)]
    assert not owner.reply("member", grants(50_000))  # larger than a frame
    assert "a message of this member was dropped: a message of" in owner.refusals[-1]


def test_a_flood_does_not_keep_others_waiting(tmp_path: Path) -> None:
    with _links(tmp_path, frames=20) as owner, ExitStack() as stack:
        for name in ("flood1", "flood2", "flood3"):
            flood = stack.enter_context(Raw(address_of(owner))).hello(name)
            flood.say(*[poll(number, name) for number in range(400)])
        until(lambda: owner.counters.connected == 3, owner)
        with Raw(address_of(owner)).hello("calm").say(poll(1, "calm")):
            rounds = [owner.poll(0.01)]
            while not any(each.peer == "calm" for each in rounds[-1]):
                rounds.append(owner.poll(0.01))
                assert len(rounds) < 8
        assert max(map(len, rounds)) == 20
        for received in rounds:
            peers = [each.peer for each in received]
            assert max(map(peers.count, peers)) <= 16
        until(lambda: owner.counters.received == 1_201, owner)


# Crowds -------------------------------------------------------------------------------------------


def test_a_peer_that_connects_five_thousand_times(owner: Links, member: Links) -> None:
    converse(member, owner)
    for number in range(5_000):
        with Raw(address_of(owner)) as peer:
            if number % 3 == 1:
                peer.hello("crowd")
            elif number % 3 == 2:
                peer.socket.sendall(b"\xff" * 10)
        if number % 50 == 0:
            owner.poll(0)
    until(lambda: owner.counters.lost + owner.counters.refused == 5_000, owner)
    assert len(owner._connections) == 1
    assert len(owner._selector.get_map()) == 3  # and the listener, and the descriptor for waking
    converse(member, owner, 2)
    assert owner.counters.connected <= 1 + 5_000
    assert member.counters.lost == 0


def test_strangers_make_room_for_members(tmp_path: Path, member: Links) -> None:
    bounds = Bounds(connections=8, handshake=1_000, silence=1_000)
    with Links("owner", "env", unix(tmp_path), bounds=bounds) as owner, ExitStack() as stack:
        strangers = [stack.enter_context(Raw(address_of(owner))) for _ in range(40)]
        until(lambda: owner.counters.refused == 32, owner)
        converse(member, owner)
        assert len(owner._connections) == 8
        full = Refusal("there are too many connections")
        assert [full in stranger.hear() for stranger in strangers] == [True] * 33 + [False] * 7


def test_members_do_not_make_room_for_strangers(tmp_path: Path) -> None:
    bounds = Bounds(connections=4, handshake=1_000, silence=1_000)
    with Links("owner", "env", unix(tmp_path), bounds=bounds) as owner, ExitStack() as stack:
        for number in range(4):
            stack.enter_context(Raw(address_of(owner))).hello(f"m{number}")
        until(lambda: owner.counters.connected == 4, owner)
        with Raw(address_of(owner)).hello("late") as late:
            until(lambda: late.hear() or late.closed, owner)
        assert owner.counters.refused == 1
        assert all(owner.reply(f"m{number}", grants(1)) for number in range(4))


def test_half_of_the_descriptors_stay_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 1_024))
    assert most_connections(2_048) == 128
    assert most_connections(100) == 100
    monkeypatch.setattr("resource.getrlimit", lambda _: (-1, -1))
    assert most_connections(2_048) == 2_048


def test_no_descriptor_is_left(
    owner: Links, member: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert owner._listener is not None
    real, calls = owner._listener.accept, []

    def accept() -> Iterator[socket.socket]:
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return real()

    monkeypatch.setattr(owner._listener, "accept", accept)
    converse(member, owner)
    assert owner.refusals[0] == "no connection can be accepted: Too many open files"
    assert calls[1] - calls[0] > 0.2  # it does not ask again and again


# Garbage ------------------------------------------------------------------------------------------


def _garbage(dice: random.Random, stream: bytes) -> bytes:
    """Return a stream of a member that is damaged in one way."""
    hello, rest = stream[: (end := 4 + int.from_bytes(stream[:4], "big"))], stream[end:]
    at = dice.randrange(len(rest))
    return dice.choice(
        [
            dice.randbytes(dice.randrange(1, 200)),
            hello + dice.randbytes(dice.randrange(1, 200)),
            hello + rest[:at] + dice.randbytes(4) + rest[at:],
            hello + rest[at:] + rest[:at],
            hello + rest[:at],
            hello + (MOST_BYTES + 1).to_bytes(4, "big"),
            hello + framed(b"[" * 100_000),
            hello + framed(b'["open","member",' + b"9" * 100_000 + b"]"),
            hello + rest + hello,
            rest + hello,
            rest,
            stream[at:],
            b"",
        ]
    )


def test_garbage_hurts_only_its_sender(tmp_path: Path, member: Links) -> None:
    dice = random.Random(17)
    messages: list[Message] = [
        Hello(VERSION, "env", "bad"),
        *(poll(n, "bad") for n in range(5)),
        Open("bad", 3, "o"),
    ]
    stream = b"".join(framed(encode(each)) for each in messages)
    with Links("owner", "env", unix(tmp_path), bounds=PATIENT) as owner:
        converse(member, owner)
        for number in range(500):
            with Raw(address_of(owner)) as peer:
                garbage = _garbage(dice, stream)
                for part in range(0, len(garbage), 50_000):
                    with suppress(OSError):  # it was refused already
                        peer.socket.sendall(garbage[part : part + 50_000])
                    owner.poll(0)
            if number % 50 == 0:
                converse(member, owner, number)
        until(lambda: len(owner._connections) == 1, owner)
        assert owner.counters.refused > 200
        assert member.counters.lost == 0
        converse(member, owner, 1_000)
