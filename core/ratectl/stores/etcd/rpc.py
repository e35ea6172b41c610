"""etcd's remote calls, with types. Only this module and ``channel`` use gRPC's untyped API."""

from __future__ import annotations

import time
from dataclasses import dataclass
from operator import methodcaller
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message

from ratectl.stores.etcd import messages as m

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "AUTHENTICATE",
    "LEASE_GRANT",
    "LEASE_KEEP_ALIVE",
    "LEASE_REVOKE",
    "RANGE",
    "STATUS",
    "TXN",
    "WATCH",
    "Call",
    "Cancelled",
    "Channel",
    "ChannelClosed",
    "Metadata",
    "Method",
    "Scope",
]

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Method(Generic[Q, R]):
    """A remote procedure: its path and the class of its replies."""

    path: str
    reply: type[R]
    needs_leader: bool = True


RANGE: Final[Method[m.RangeRequest, m.RangeResponse]] = Method(
    "/etcdserverpb.KV/Range", m.RangeResponse
)
TXN: Final[Method[m.TxnRequest, m.TxnResponse]] = Method("/etcdserverpb.KV/Txn", m.TxnResponse)
WATCH: Final[Method[m.WatchRequest, m.WatchResponse]] = Method(
    "/etcdserverpb.Watch/Watch", m.WatchResponse
)
LEASE_GRANT: Final[Method[m.LeaseGrantRequest, m.LeaseGrantResponse]] = Method(
    "/etcdserverpb.Lease/LeaseGrant", m.LeaseGrantResponse
)
LEASE_REVOKE: Final[Method[m.LeaseRevokeRequest, m.LeaseRevokeResponse]] = Method(
    "/etcdserverpb.Lease/LeaseRevoke", m.LeaseRevokeResponse
)
LEASE_KEEP_ALIVE: Final[Method[m.LeaseKeepAliveRequest, m.LeaseKeepAliveResponse]] = Method(
    "/etcdserverpb.Lease/LeaseKeepAlive", m.LeaseKeepAliveResponse
)
AUTHENTICATE: Final[Method[m.AuthenticateRequest, m.AuthenticateResponse]] = Method(
    "/etcdserverpb.Auth/Authenticate", m.AuthenticateResponse
)
STATUS: Final[Method[m.StatusRequest, m.StatusResponse]] = Method(
    "/etcdserverpb.Maintenance/Status", m.StatusResponse, needs_leader=False
)


class Cancelled(Exception):
    """Raised when ``Scope.cancel`` ended a call."""


class ChannelClosed(Exception):
    """Raised when the channel was closed before the call began."""


class Call(Protocol):
    """A call under way."""

    def cancel(self) -> object:
        """End the call; a blocked receiver gets an error at once."""


class Scope:
    """Time limit of a group of calls; ``cancel`` ends them from another thread."""

    def __init__(self, seconds: float, *, cancellable: bool = False) -> None:
        self.seconds = seconds
        self.cancellable = cancellable
        self._end = time.monotonic() + seconds
        self._lock = Lock()
        self._call: Call | None = None
        self._cancelled = False

    def remaining(self) -> float:
        """Return the seconds left, always above zero: gRPC raises an error of its own for zero."""
        return max(0.001, self._end - time.monotonic())

    def expired(self) -> bool:
        """Return True if no time is left."""
        return time.monotonic() >= self._end

    def cancel(self) -> None:
        """End the call under way and refuse further ones."""
        with self._lock:
            self._cancelled = True
            call = self._call
        if call is not None:
            call.cancel()

    def acquire(self, lock: Lock) -> bool:
        """Take ``lock`` within the time left. Return False if that fails; ``cancel`` ends it."""
        while not lock.acquire(timeout=min(0.2, self.remaining())):
            self.check()
            if self.expired():
                return False
        return True

    def check(self) -> None:
        """:raises Cancelled: ``cancel`` was called."""
        if self._cancelled:
            raise Cancelled

    def attach(self, call: Call | None) -> None:
        """Set the call that ``cancel`` has to end."""
        with self._lock:
            self._call = call
            cancelled = self._cancelled
        if cancelled:
            if call is not None:
                call.cancel()
            raise Cancelled


class _Closed:
    """Stand-in for a closed channel."""

    def unary_unary(self, *_: Any, **__: Any) -> Any:
        """:raises ValueError: always, as gRPC does."""
        raise ValueError("closed")

    stream_stream = unary_unary

    def close(self) -> None:
        """Do nothing."""


class Channel:
    """A gRPC channel with typed calls.

    ``owned``: ``close`` closes the gRPC channel as well. ``patient``: calls wait for a connection
    instead of failing with the error of the last attempt.
    """

    def __init__(self, raw: Any, *, owned: bool = True) -> None:
        self.patient = False
        self._raw = raw
        self._owned = owned
        self._stubs: dict[str, Any] = {}
        self._lock = Lock()
        self._calls = 0
        self._retired = False

    def call(
        self, method: Method[Q, R], request: Q, metadata: Metadata, scope: Scope, seconds: float
    ) -> R | None:
        """Send one request and return its reply; None if the server ends a stream without one.

        A streaming procedure that answers each request once can be called like this as well: on
        the wire it is a stream of one message. It needs no thread, as gRPC's streams do.

        :raises grpc.RpcError: the call failed.
        :raises Cancelled: ``scope.cancel()`` was called.
        :raises ChannelClosed: nothing was sent.
        """
        with self._lock:
            self._calls += 1
        try:
            reply = self._unary(method, request, metadata, scope, seconds)
        finally:
            with self._lock:
                self._calls -= 1
                close = self._retired and not self._calls
            if close:
                self.close()
        self.patient = False
        return reply

    def _unary(
        self, method: Method[Q, R], request: Q, metadata: Metadata, scope: Scope, seconds: float
    ) -> R | None:
        options = {"timeout": seconds, "metadata": metadata, "wait_for_ready": self.patient}
        try:
            stub = self._stub(method, self._raw.unary_unary)
            if not scope.cancellable:
                return cast("R | None", stub(request, **options))
            future = stub.future(request, **options)
        except ValueError as error:  # gRPC's error for a closed channel
            raise ChannelClosed from error
        try:
            scope.attach(future)
            return cast("R | None", future.result())
        except grpc.FutureCancelledError as error:
            raise Cancelled from error
        finally:
            scope.attach(None)

    def stream(
        self,
        method: Method[Q, R],
        requests: Iterable[Q],
        metadata: Metadata,
        seconds: float | None = None,
    ) -> tuple[Call, Iterator[R]]:
        """Open a stream. Return the handle to cancel it, and its replies.

        :raises ChannelClosed: nothing was sent.
        """
        try:
            call = self._stub(method, self._raw.stream_stream)(
                iter(requests), timeout=seconds, metadata=metadata, wait_for_ready=self.patient
            )
        except ValueError as error:
            raise ChannelClosed from error
        return call, call

    def retire(self) -> None:
        """Close as soon as no call is under way (streams are not counted)."""
        with self._lock:
            self._retired = True
            close = not self._calls
        if close:
            self.close()

    def close(self) -> None:
        """Drop the channel, and close it if it is owned."""
        self._stubs.clear()
        if self._owned:
            raw, self._raw = self._raw, _Closed()
            raw.close()

    def _stub(self, method: Method[Q, R], factory: Any) -> Any:
        stub = self._stubs.get(method.path)
        if stub is None:
            stub = self._stubs[method.path] = factory(
                method.path,
                request_serializer=methodcaller("SerializeToString"),
                response_deserializer=cast("Any", method.reply).FromString,
            )
        return stub
