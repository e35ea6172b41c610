"""Checks of what a peer says: the right hello, then messages in its own name only."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ratectl.cluster.protocol.messages import Close, Closed, Open, Poll, Reply, Unknown, Welcome
from ratectl.cluster.transport.codec import decode
from ratectl.cluster.transport.connection import Lost, Unwelcome
from ratectl.cluster.transport.frames import FrameError
from ratectl.cluster.transport.hello import VERSION, Hello, Refusal
from ratectl.cluster.transport.identity import certificate_names
from ratectl.records import owner_member
from ratectl.runtime.wording import printable

if TYPE_CHECKING:
    from ratectl.cluster.protocol.messages import ToMember, ToOwner
    from ratectl.cluster.transport.codec import Message
    from ratectl.cluster.transport.connection import Connection

__all__ = ["LONGEST_NAME", "check_hello", "check_message", "last_words"]

LONGEST_NAME: Final = 256
_MOST_LAST_FRAMES: Final = 64
_SHOWN: Final = 80
_SHOWN_REASON: Final = 500


def check_hello(connection: Connection, message: Message, environment: str) -> str:
    """Check the first message of a peer; return the name of the peer.

    :raises Unwelcome: it is no hello, the peer cannot be talked to, or it has another name.
    :raises Lost: the peer refuses this member.
    """
    if isinstance(message, Refusal):
        raise Lost(_refused_by_peer(message))
    if not isinstance(message, Hello):
        raise Unwelcome(f"the first message is {type(message).__name__}, not Hello")
    name = shown_name(message.member)
    if abs(message.version - VERSION) > 1:
        raise Unwelcome(
            f"member {name} has version {message.version} of the cluster's messages, and this "
            f"member has version {VERSION}: they may differ by 1"
        )
    if message.environment != environment:
        raise Unwelcome(
            f"member {name} belongs to environment {shown_name(message.environment)}, and this "
            f"member to {shown_name(environment)}"
        )
    if not 0 < len(message.member) <= LONGEST_NAME:
        raise Unwelcome(f"a name of a member has 1 to {LONGEST_NAME} characters")
    if isinstance(connection.socket, ssl.SSLSocket):
        names = certificate_names(connection.socket)
        # Several members may have one certificate: ``worker.1a2b3c4d@NAME``.
        if message.member.rpartition("@")[2] not in names:
            shown = ", ".join(sorted(map(shown_name, names))[:5]) or "nobody"
            raise Unwelcome(f"the peer says that it is {name}, and its certificate names {shown}")
    return message.member


def check_message(connection: Connection, message: Message, name: str) -> ToOwner | ToMember:
    """Return a message of a peer that has said hello.

    :param name: name of this member.
    :raises Unwelcome: the peer may not say this.
    :raises Lost: the peer refuses this member.
    """
    peer = shown_name(connection.peer)
    sent = f"member {peer} sent the message {type(message).__name__}"
    match message:
        case Open() | Poll() | Close() if connection.address is None:
            if message.member != connection.peer:
                claimed = shown_name(message.member)
                raise Unwelcome(f"{sent} of member {claimed}")
            return message
        case Welcome() | Reply() | Closed() | Unknown() if connection.address is not None:
            if message.member != name:
                meant = shown_name(message.member)
                raise Unwelcome(f"{sent} for member {meant} to this member")
            # An owner that does not know a session repeats the owner that the member named.
            is_owner = owner_member(message.owner.name) == connection.peer
            if not isinstance(message, Unknown) and not is_owner:
                claimed = shown_name(message.owner.name)
                raise Unwelcome(f"{sent} of owner {claimed}")
            return message
        case Refusal():
            raise Lost(_refused_by_peer(message))
        case _:
            side = "to" if connection.address is None else "from"
            raise Unwelcome(f"{sent}, which is no message {side} an owner")


def last_words(connection: Connection) -> str | None:
    """Return why the peer closed a connection that broke, if it said so and it has arrived."""
    with suppress(Lost, FrameError):
        for _ in range(_MOST_LAST_FRAMES):
            body = connection.frames.take()
            if body is None:
                if not connection.fill(connection.heard_at):
                    return None
            elif isinstance(message := decode(body), Refusal):
                return _refused_by_peer(message)
    return None


def _refused_by_peer(refusal: Refusal) -> str:
    return f"the peer refuses this member: {printable(refusal.reason[:_SHOWN_REASON])}"


def shown_name(name: str) -> str:
    """Return a name for messages: short, and without characters that deceive."""
    return f"'{printable(name if len(name) <= _SHOWN else f'{name[:_SHOWN]}…')}'"
