"""Links of one member to its peers: it connects to owners, and other members connect to it."""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.cluster.transport.bounds import Bounds
from ratectl.cluster.transport.codec import decode, encode
from ratectl.cluster.transport.connection import Connection, Lost, Stage, Unwelcome, connect
from ratectl.cluster.transport.counters import Counters
from ratectl.cluster.transport.frames import MOST_BYTES, FrameError, framed
from ratectl.cluster.transport.hello import VERSION, Hello, Refusal
from ratectl.cluster.transport.identity import check_tls
from ratectl.cluster.transport.listening import Listener, most_connections
from ratectl.cluster.transport.manners import LONGEST_NAME, check_hello, check_message, last_words
from ratectl.cluster.transport.routes import Routes
from ratectl.errors import UsageError
from ratectl.runtime.closing import Closing

if TYPE_CHECKING:
    from ratectl.cluster.protocol.messages import ToMember, ToOwner
    from ratectl.cluster.transport.codec import Message
    from ratectl.cluster.transport.identity import Tls
    from ratectl.runtime.address import Address

__all__ = ["Bounds", "Links", "Received"]

_SHARE: Final = 16
"""Most frames of one connection in one turn."""
_READS: Final = 4
"""Most reads from one connection in one turn."""
_PAUSE: Final = 0.25
"""Seconds without new connections, if there is no descriptor left for one."""


class Received(NamedTuple):
    """A message that has arrived."""

    peer: str
    """Name of the member that sent it."""
    message: ToOwner | ToMember


def _check_names(name: object, environment: object) -> None:
    for what, text in (("name of a member", name), ("identity of a cluster", environment)):
        if not isinstance(text, str) or not 0 < len(text) <= LONGEST_NAME:
            raise UsageError(f"the {what} is a text of 1 to {LONGEST_NAME} characters")


def _pipe() -> tuple[socket.socket, socket.socket]:
    """Return the ends of a stream inside this process. Neither waits."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return ends


class Links(Closing):
    """Connections of one member. One thread uses it; only :meth:`wake` may be called by others.

    Nothing waits but :meth:`poll`. A message that cannot be sent is dropped and counted.

    :param name: name of this member.
    :param environment: identity of the cluster; peers of another one are refused.
    :param listen: address for peers. None: nobody connects to this member.
    :param tls: what TCP needs. Unix sockets do without: the kernel names their users.
    :raises UsageError: the address cannot be used, or a context accepts peers without certificate.
    """

    def __init__(
        self,
        name: str,
        environment: str,
        listen: Address | None = None,
        *,
        tls: Tls | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        _check_names(name, environment)
        if tls is not None:
            check_tls(tls)
        self.name = name
        self.environment = environment
        self.bounds = bounds or Bounds()
        self.counters = Counters()
        self.refusals: deque[str] = deque(maxlen=16)
        """Why this member refused peers or could not send a message, the newest last."""
        self._tls = tls
        self._hello = framed(encode(Hello(VERSION, environment, name)))
        self._connections: dict[Connection, None] = {}
        self._strangers: dict[Connection, None] = {}
        """Peers that have connected, and have not said hello yet: the oldest first."""
        self._members: dict[str, Connection] = {}
        """The newest connection of each member that has connected."""
        self._most = most_connections(self.bounds.connections)
        self._routes = Routes(self._most)
        self._ready: dict[Connection, None] = {}
        """Connections that may have frames to read: the one that waits longest first."""
        self._closed = False
        self._sweep_every = max(min(self.bounds.handshake, self.bounds.silence) / 4, 0.01)
        self._sweep_at = time.monotonic() + self._sweep_every
        self._accept_at: float | None = None
        """When connections are accepted again. None: they are."""
        self._listener = None if listen is None else Listener(listen, tls)
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = _pipe()
        self._selector.register(self._woken, selectors.EVENT_READ)
        if self._listener is not None:
            self._selector.register(self._listener.socket, selectors.EVENT_READ)

    @property
    def address(self) -> Address | None:
        """Address for peers, with the port that was free."""
        return None if self._listener is None else self._listener.address

    def problem(self, address: Address) -> str | None:
        """Return why there is no connection to an address; None if there is no reason."""
        route = self._routes.find(address)
        return None if route is None else route.problem

    # Sending ------------------------------------------------------------------------------------

    def send(self, address: Address, message: ToOwner) -> bool:
        """Send a message to an owner; connect to its address if there is no connection.

        :return: False if it was dropped. True does not mean that it will arrive.
        """
        connection = None if self._closed else self._connection_to(address)
        return self._push(connection, message)

    def reply(self, member: str, message: ToMember) -> bool:
        """Send a message to a member that has connected.

        :return: as for :meth:`send`.
        """
        return self._push(self._members.get(member), message)

    def _push(self, connection: Connection | None, message: ToOwner | ToMember) -> bool:
        try:
            if connection is not None and connection.push(framed(encode(message))):
                self._watch(connection)
                return True
        except FrameError as error:
            self.refusals.append(f"a message of this member was dropped: {error}")
        except Lost as error:
            assert connection is not None
            self._lose(connection, str(error))
            return False  # it was counted there
        self.counters.dropped += 1
        return False

    def _connection_to(self, address: Address) -> Connection | None:
        route = self._routes.make(address)
        if route is None or route.connection is not None:
            return None if route is None else route.connection
        now = time.monotonic()
        if now < route.retry_at:
            return None
        if not address.path and self._tls is None:
            route.failed("TCP needs TLS", now)
            return None
        try:
            link = connect(address)
        except (OSError, ValueError) as error:
            route.failed(f"no connection: {getattr(error, 'strerror', None) or error}", now)
            return None
        connection = route.connection = self._add(link, address, now)
        self._step(connection)
        return route.connection  # None if it has ended already

    # Receiving ----------------------------------------------------------------------------------

    def poll(self, timeout: float | None) -> list[Received]:
        """Wait until something arrives or can be sent, and return the messages that have arrived.

        The result may be empty before the time is over.

        :param timeout: seconds. None: as long as it takes until there is something to do.
        """
        if self._closed:
            return []
        wait = max(0.0, self._sweep_at - time.monotonic())
        if timeout is not None:
            wait = min(wait, max(0.0, timeout))
        for key, _ in self._selector.select(0 if self._ready else wait):
            if key.data is not None:
                self._step(key.data)
            elif key.fileobj is self._woken:
                with suppress(OSError):
                    self._woken.recv(4_096)
            else:
                self._accept()
        received: list[Received] = []
        self._read(received)
        self.counters.received += len(received)
        if time.monotonic() >= self._sweep_at:
            self._sweep()
        return received

    def wake(self) -> None:
        """End the wait of :meth:`poll`, now or next time. Any thread or signal handler may call."""
        with suppress(OSError):  # it is closed, or was woken very often already
            self._waker.send(b"\0")

    # Connections --------------------------------------------------------------------------------

    def _accept(self) -> None:
        assert self._listener is not None
        now = time.monotonic()
        try:
            for link in self._listener.accept():
                if len(self._connections) >= self._most and not self._make_room():
                    link.close()
                    self._note_refusal("there are too many connections")
                    continue
                connection = self._add(link, None, now)
                self._strangers[connection] = None
                self._step(connection)
        except OSError as error:
            self._note_refusal(f"no connection can be accepted: {error.strerror}")
            self._selector.unregister(self._listener.socket)
            self._accept_at = now + _PAUSE
            self._sweep_at = min(self._sweep_at, self._accept_at)

    def _make_room(self) -> bool:
        """Close the connection that has not said hello for the longest time, if there is one."""
        oldest = next(iter(self._strangers), None)
        if oldest is None:
            return False
        self._refuse(oldest, "there are too many connections")
        return True

    def _add(self, link: socket.socket, address: Address | None, now: float) -> Connection:
        tls = None
        if self._tls is not None:
            tls = self._tls.server if address is None else self._tls.client
        most = self.bounds.queued
        connection = Connection(
            link, address, tls, self._hello, self.counters, most_queued=most, now=now
        )
        connection.watched = connection.wanted
        self._selector.register(connection.descriptor, connection.watched, connection)
        self._connections[connection] = None
        return connection

    def _step(self, connection: Connection) -> None:
        """Do what a connection is ready for. Its frames are read later in the round."""
        if connection not in self._connections:
            return  # it was closed in this round
        try:
            if connection.stage is Stage.OPEN or connection.advance():
                connection.flush()
                self._ready[connection] = None
            self._watch(connection)
        except Lost as error:
            self._lose(connection, str(error))
        except Unwelcome as error:
            self._refuse(connection, str(error))

    def _watch(self, connection: Connection) -> None:
        wanted = connection.wanted
        if wanted != connection.watched:
            connection.watched = wanted
            self._selector.modify(connection.descriptor, wanted, connection)

    def _read(self, received: list[Received]) -> None:
        """Read frames of the connections in turn, until there is nothing or the round is full."""
        unfinished = []
        for connection in list(self._ready):
            left = self.bounds.frames - len(received)
            if left <= 0:
                break
            del self._ready[connection]
            try:
                if self._read_some(connection, min(left, _SHARE), received):
                    unfinished.append(connection)
            except Lost as error:
                self._lose(connection, str(error))
            except (FrameError, Unwelcome) as error:
                self._refuse(connection, str(error))
        self._ready.update(dict.fromkeys(unfinished))

    def _read_some(self, connection: Connection, most: int, received: list[Received]) -> bool:
        """Take a turn of a connection. Return True if there may be more."""
        reads = 0
        while most > 0:
            body = connection.frames.take()
            if body is not None:
                most -= 1
                self._take(connection, decode(body), received)
            elif reads and not connection.holds_more:
                return False
            elif reads == _READS:
                return True
            else:
                reads += 1
                if not connection.fill(time.monotonic()):
                    return False
        return True

    def _take(self, connection: Connection, message: Message, received: list[Received]) -> None:
        if connection.stage is Stage.OPEN:
            message = check_message(connection, message, self.name)
            received.append(Received(connection.peer, message))
            return
        connection.greeted(check_hello(connection, message, self.environment), MOST_BYTES)
        self.counters.connected += 1
        if connection.address is None:
            del self._strangers[connection]
            self._members[connection.peer] = connection
        elif (route := self._routes.find(connection.address)) is not None:
            route.works()

    # Ends ---------------------------------------------------------------------------------------

    def _note_refusal(self, reason: str) -> None:
        self.counters.refused += 1
        self.refusals.append(reason)

    def _refuse(self, connection: Connection, reason: str) -> None:
        """Close a connection, and tell the peer why."""
        self._note_refusal(reason)
        connection.say_farewell(framed(encode(Refusal(reason))))
        self._end(connection, f"this member refuses the peer: {reason}")

    def _lose(self, connection: Connection, problem: str) -> None:
        """Close a connection that is of no use any more."""
        self.counters.lost += 1
        self._end(connection, last_words(connection) or problem)

    def _end(self, connection: Connection, problem: str) -> None:
        del self._connections[connection]
        self._strangers.pop(connection, None)
        self._ready.pop(connection, None)
        if self._members.get(connection.peer) is connection:
            del self._members[connection.peer]
        self._selector.unregister(connection.descriptor)
        self.counters.dropped += connection.close()
        if connection.address is not None:
            route = self._routes.find(connection.address)
            if route is not None and route.connection is connection:
                route.failed(problem, time.monotonic())

    def _sweep(self) -> None:
        """Close connections that are late or silent."""
        now = time.monotonic()
        self._sweep_at = now + self._sweep_every
        for connection in list(self._connections):
            if connection in self._ready:
                continue  # what has arrived is not read yet
            if connection.stage is Stage.OPEN:
                if now - connection.heard_at > self.bounds.silence:
                    self._lose(connection, f"nothing arrived for {self.bounds.silence:g} seconds")
            elif now - connection.since > self.bounds.handshake:
                end = self._refuse if connection.address is None else self._lose
                end(connection, f"no hello within {self.bounds.handshake:g} seconds")
        self._routes.forget_unused(now)
        if self._accept_at is not None and self._listener is not None and now >= self._accept_at:
            self._accept_at = None
            self._selector.register(self._listener.socket, selectors.EVENT_READ)

    def close(self) -> None:
        """Close all connections and stop listening. What waits for peers is dropped."""
        if self._closed:
            return
        for connection in self._connections:
            self.counters.dropped += connection.close()
        if self._listener is not None:
            self._listener.close()
        self._discard()

    def after_fork(self) -> None:
        """Close all descriptors in a child process. The parent's connections stay as they are."""
        if self._closed:
            return
        with suppress(OSError):
            self._selector.close()  # before the others: the parent uses it as well
        for connection in self._connections:
            connection.abandon()
        if self._listener is not None:
            self._listener.after_fork()
        self._discard()

    def _discard(self) -> None:
        self._closed = True
        self._selector.close()
        self._woken.close()
        self._waker.close()
        for connections in (self._connections, self._strangers, self._members, self._ready):
            connections.clear()
