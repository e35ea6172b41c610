"""Links on loopback, raw sockets that speak to them, and waiting for a condition."""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING, Self

from ratectl.cluster.protocol.messages import Granted, Open, OwnerId, Poll, PoolId, Reply, Welcome
from ratectl.cluster.transport.bounds import Bounds
from ratectl.cluster.transport.codec import decode, encode
from ratectl.cluster.transport.frames import Frames, framed
from ratectl.cluster.transport.hello import VERSION, Hello
from ratectl.cluster.transport.identity import Tls, TlsContexts
from ratectl.runtime.address import Address

if TYPE_CHECKING:
    from collections.abc import Callable

    import trustme

    from ratectl.cluster.transport.codec import Message
    from ratectl.cluster.transport.links import Links, Received

__all__ = [
    "OWNER", "PATIENT", "Raw", "address_of", "contexts", "converse", "grants", "poll", "unix",
    "until",
]  # fmt: skip

OWNER = OwnerId("0.owner", 1)

PATIENT = Bounds(handshake=1_000, silence=1_000)
"""Bounds that no test reaches."""


def unix(folder: object, name: str = "owner") -> Address:
    return Address("", 0, f"{folder}/{name}.sock")


def address_of(links: Links) -> Address:
    assert links.address is not None
    return links.address


def until(condition: Callable[[], object], *links: Links, seconds: float = 30) -> list[Received]:
    """Poll links until a condition is true; return what they received."""
    received: list[Received] = []
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, [(each.counters, [*each.refusals]) for each in links]
        for each in links:
            received += each.poll(0.002)
    return received


def poll(number: int = 1, member: str = "member") -> Poll:
    return Poll(member, 7, OWNER, number, 0, 50_000, None, {}, ())


def grants(count: int, key: str = "k", member: str = "member") -> Reply:
    entries = (
        Granted(PoolId("limit", f"{key}{n}"), 1, 2, None, False, 0, False) for n in range(count)
    )
    return Reply(member, 7, OWNER, 1, 1, 20_000_000, True, tuple(entries))


def converse(member: Links, owner: Links, number: int = 1) -> None:
    """Send a message to an owner and back; messages may be lost on the way."""
    answers: list[Received] = []
    asked = Open(member.name, number, "o")
    answer = Welcome(member.name, number, OwnerId(f"0.{owner.name}", 1), 5)
    begun, send_at = time.monotonic(), 0.0
    while not any(each.message == answer for each in answers):
        now = time.monotonic()
        assert now < begun + 30, (member.counters, owner.counters, [*member.refusals])
        if now >= send_at and member.send(address_of(owner), asked):
            send_at = now + 1  # it may be lost with its connection
        for each in owner.poll(0.005):
            if each == (member.name, asked):
                owner.reply(member.name, answer)
        answers += member.poll(0.005)


class Raw:
    """A client that sends any bytes."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        family = socket.AF_UNIX if address.path else socket.AF_INET
        self.socket: socket.socket = socket.socket(family)
        self.socket.settimeout(30)
        self.socket.connect(address.path or (address.host, address.port))
        self._tls = tls
        self._frames = Frames()
        self.closed = False

    def shake_hands(self) -> None:
        """Begin TLS. Another thread must poll the server."""
        assert self._tls is not None
        self.socket = self._tls.wrap_socket(self.socket)

    def say(self, *messages: Message) -> Raw:
        self.socket.sendall(b"".join(framed(encode(each)) for each in messages))
        return self

    def hello(
        self, member: str = "member", environment: str = "env", version: int = VERSION
    ) -> Raw:
        return self.say(Hello(version, environment, member))

    def hear(self) -> list[Message]:
        """Return the messages that have arrived, without waiting."""
        self.socket.setblocking(False)
        messages: list[Message] = []
        try:
            while chunk := self.socket.recv(65_536):
                self._frames.feed(chunk)
                while (body := self._frames.take()) is not None:
                    messages.append(decode(body))
            self.closed = True
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError:
            self.closed = True
        self.socket.settimeout(30)
        return messages

    def hear_end(self, *links: Links) -> list[Message]:
        """Return all messages until the peer closes the connection."""
        messages: list[Message] = []

        def is_over() -> bool:
            messages.extend(self.hear())
            return self.closed

        until(is_over, *links)
        return messages

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def contexts(authority: trustme.CA, *names: str, common_name: str | None = None) -> Tls:
    """Return contexts of a member with a certificate of an authority, which they trust."""
    certificate = authority.issue_cert(*names, common_name=common_name)
    server, client = (
        ssl.SSLContext(protocol) for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
    )
    client.check_hostname = False
    for context in (server, client):
        context.verify_mode = ssl.CERT_REQUIRED
        certificate.configure_cert(context)
        authority.configure_trust(context)
    return TlsContexts(server, client)
