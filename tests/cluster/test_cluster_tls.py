"""Links over real TLS on loopback: both sides have certificates, and certificates name members."""

from __future__ import annotations

import ssl
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, cast

import pytest
import trustme
from link_support import Raw, address_of, contexts, converse, grants, poll, until

from ratectl.cluster.transport.bounds import Bounds
from ratectl.cluster.transport.hello import VERSION, Hello, Refusal
from ratectl.cluster.transport.identity import TlsContexts, certificate_names
from ratectl.cluster.transport.links import Links
from ratectl.errors import UsageError
from ratectl.runtime.address import Address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.cluster.transport.links import Received

ANY_PORT = Address("127.0.0.1", 0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def owner(authority: trustme.CA) -> Iterator[Links]:
    with Links("owner", "env", ANY_PORT, tls=contexts(authority, "owner")) as owner:
        yield owner


@pytest.fixture
def member(authority: trustme.CA) -> Iterator[Links]:
    with Links("member", "env", tls=contexts(authority, "member")) as member:
        yield member


def test_messages_go_both_ways(owner: Links, member: Links) -> None:
    converse(member, owner)
    for number in range(2, 30):
        converse(member, owner, number)
    assert owner.counters.connected == member.counters.connected == 1
    assert owner.counters.dropped == member.counters.dropped == 0


def test_large_messages_in_both_directions(owner: Links, member: Links) -> None:
    converse(member, owner)
    large = grants(20_000)
    assert owner.reply("member", large)
    for number in range(1_000):
        assert member.send(address_of(owner), poll(number))
    received: list[Received] = []

    def has_all() -> bool:
        received.extend(owner.poll(0.001) + member.poll(0.001))
        return len(received) == 1_001

    until(has_all)
    assert ("owner", large) in received
    numbers = [each.message.number for each in received if each.peer == "member"]  # type: ignore[union-attr]
    assert numbers == list(range(1_000))


def test_bytes_that_tls_has_decrypted_already_are_read(
    owner: Links, member: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    converse(member, owner)
    monkeypatch.setattr("ratectl.cluster.transport.connection._CHUNK", 100)  # less than a record
    message = grants(100)
    assert owner.reply("member", message)
    until(lambda: owner.counters.sent == 2, owner)
    monkeypatch.setattr("ratectl.cluster.transport.connection._CHUNK", 20_000)
    whole = grants(300)
    assert owner.reply("member", whole)  # one record
    monkeypatch.setattr("ratectl.cluster.transport.connection._CHUNK", 100)
    assert [each.message for each in until(lambda: member.counters.received == 3, member)] == [
        message,
        whole,
    ]


def test_a_host_name_of_the_certificate_can_be_checked(authority: trustme.CA, owner: Links) -> None:
    tls = contexts(authority, "member")
    tls.client.check_hostname = True
    with Links("member", "env", tls=tls) as member:
        member.send(address_of(owner), poll())
        until(lambda: member.problem(address_of(owner)), member, owner)
        assert "IP address mismatch" in (member.problem(address_of(owner)) or "")
        both = contexts(authority, "other", "127.0.0.1")
        with Links("other", "env", ANY_PORT, tls=both) as other:
            converse(member, other)


def test_a_common_name_counts_if_there_is_no_other(authority: trustme.CA, owner: Links) -> None:
    with Links("member", "env", tls=contexts(authority, common_name="member")) as member:
        converse(member, owner)
    named = contexts(authority, "someone", common_name="member")
    with Links("member", "env", tls=named) as member:
        member.send(address_of(owner), poll())
        until(lambda: owner.counters.refused, member, owner)
        assert owner.refusals[-1].endswith("its certificate names 'someone'")


@pytest.mark.parametrize(
    ("certificate", "names"),
    [
        ({}, set()),
        (None, set()),
        ({"subjectAltName": (("DNS", "a"), ("URI", "spiffe://x/b"), ("IP Address", "1.2.3.4"))},
         {"a", "spiffe://x/b"}),
        ({"subject": ((("commonName", "c"),),), "subjectAltName": (("IP Address", "::1"),)}, {"c"}),
        ({"subject": ((("commonName", "c"),),), "subjectAltName": (("DNS", "a"),)}, {"a"}),
        ({"subject": ((("countryName", "d"), ("commonName", "c")),)}, {"c"}),
    ],
)  # fmt: skip
def test_names_in_a_certificate(certificate: Any, names: set[str]) -> None:
    class Connection:
        def getpeercert(self) -> Any:
            return certificate

    assert certificate_names(cast("ssl.SSLSocket", Connection())) == names


# Refusals -----------------------------------------------------------------------------------------


def test_a_member_with_another_name_than_its_certificate_is_refused(
    authority: trustme.CA, owner: Links
) -> None:
    with Links("member", "env", tls=contexts(authority, "mallory")) as member:
        member.send(address_of(owner), poll())
        until(lambda: member.problem(address_of(owner)), member, owner)
        reason = "the peer says that it is 'member', and its certificate names 'mallory'"
        assert list(owner.refusals) == [reason]
        assert member.problem(address_of(owner)) == f"the peer refuses this member: {reason}"
        assert owner.counters.connected == owner.counters.received == 0


def test_an_owner_with_another_name_than_its_certificate_is_refused(
    authority: trustme.CA, member: Links
) -> None:
    with Links("owner", "env", ANY_PORT, tls=contexts(authority, "mallory")) as owner:
        member.send(address_of(owner), poll())
        until(lambda: member.counters.refused, member, owner)
        assert member.counters.connected == 0


@pytest.mark.parametrize("wrong", ["server", "client"])
def test_certificates_of_another_authority_are_refused(authority: trustme.CA, wrong: str) -> None:
    known, other = contexts(authority, "owner"), contexts(trustme.CA(), "member")
    tls = (other, known) if wrong == "server" else (known, other)
    with (
        Links("owner", "env", ANY_PORT, tls=tls[0]) as owner,
        Links("member", "env", tls=tls[1]) as member,
    ):
        member.send(address_of(owner), poll())
        until(lambda: member.problem(address_of(owner)), member, owner)
        until(lambda: owner.counters.lost, member, owner)
        assert "self-signed certificate" in (member.problem(address_of(owner)) or "")
        assert owner.counters.connected == owner.counters.received == 0


def test_a_member_without_a_certificate_is_refused(authority: trustme.CA, owner: Links) -> None:
    known = contexts(authority, "member")
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    authority.configure_trust(bare)
    with Links("member", "env", tls=TlsContexts(known.server, bare)) as member:
        member.send(address_of(owner), poll())
        until(lambda: member.problem(address_of(owner)), member, owner)
        until(lambda: owner.counters.lost, member, owner)
        assert "CERTIFICATE_REQUIRED" in (member.problem(address_of(owner)) or "")
        assert owner.counters.connected == owner.counters.received == 0


@pytest.mark.parametrize("sent", [b"", b"\xff" * 50, b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\2[]"])
def test_peers_without_tls(authority: trustme.CA, sent: bytes) -> None:
    tls = contexts(authority, "owner")
    with Links("owner", "env", ANY_PORT, tls=tls, bounds=Bounds(handshake=0.2)) as owner:
        with Raw(address_of(owner)) as peer:
            peer.socket.sendall(sent)
            peer_hears: list[bytes] = []
            until(lambda: owner.counters.lost + owner.counters.refused, owner)
            with suppress(ConnectionError):
                while chunk := peer.socket.recv(4_096):
                    peer_hears.append(chunk)
        assert b"owner" not in b"".join(peer_hears)
        assert b"env" not in b"".join(peer_hears)


def test_messages_of_another_member_over_tls(authority: trustme.CA, owner: Links) -> None:
    with Raw(address_of(owner), contexts(authority, "member").client) as peer:
        thread = threading.Thread(target=peer.shake_hands)
        thread.start()
        until(lambda: not thread.is_alive(), owner)
        thread.join()
        peer.hello().say(poll(member="other"))
        told = peer.hear_end(owner)
    reason = "member 'member' sent the message Poll of member 'other'"
    assert told == [Hello(VERSION, "env", "owner"), Refusal(reason)]


# Settings -----------------------------------------------------------------------------------------


def test_tcp_needs_tls() -> None:
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:0 needs TLS"):
        Links("owner", "env", ANY_PORT)
    with Links("member", "env") as member:
        assert not member.send(Address("127.0.0.1", 9), poll())
        assert member.problem(Address("127.0.0.1", 9)) == "TCP needs TLS"


@pytest.mark.parametrize("side", ["server", "client"])
def test_contexts_that_accept_peers_without_certificate(authority: trustme.CA, side: str) -> None:
    for mode in (ssl.CERT_NONE, ssl.CERT_OPTIONAL):
        tls = contexts(authority, "owner")
        getattr(tls, side).verify_mode = mode
        with pytest.raises(UsageError, match=f"the {side} side accepts peers without a certif"):
            Links("owner", "env", ANY_PORT, tls=tls)
    tls = contexts(authority, "owner")
    with pytest.raises(UsageError, match=r"is made by ssl\.SSLContext\(ssl\.PROTOCOL_TLS_"):
        Links("owner", "env", ANY_PORT, tls=tls._replace(**{side: tls[side == "server"]}))
    with pytest.raises(UsageError, match=r"is made by ssl\.SSLContext"):
        Links("owner", "env", ANY_PORT, tls=tls._replace(**cast("Any", {side: None})))


def test_host_names_are_not_looked_up(member: Links) -> None:
    assert not member.send(Address("localhost", 9), poll())
    assert "Name or service not known" in (member.problem(Address("localhost", 9)) or "")


def test_a_port_where_nobody_listens(member: Links, owner: Links) -> None:
    address = address_of(owner)
    owner.close()
    member.send(address, poll())
    until(lambda: member.problem(address), member)
    assert "Connection refused" in (member.problem(address) or "")
    assert member.counters.dropped == 1


def test_many_members_over_tls(authority: trustme.CA, owner: Links) -> None:
    tls = contexts(authority, *(f"m{n}" for n in range(20)))
    with ExitStack() as stack:
        members = [stack.enter_context(Links(f"m{n}", "env", tls=tls)) for n in range(20)]
        for each in members:
            converse(each, owner)
        assert owner.counters.connected == 20
        for each in members:
            assert owner.reply(each.name, grants(1, member=each.name))
        until(lambda: all(each.counters.received >= 2 for each in members), owner, *members)
