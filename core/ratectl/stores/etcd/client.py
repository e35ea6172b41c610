"""Calls to etcd with a deadline and a token. Errors are ratectl's."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from ratectl.errors import StoreUnavailable, UsageError
from ratectl.stores.etcd import messages as m
from ratectl.stores.etcd.failures import (
    connection_failed,
    is_lost,
    is_stale_token,
    is_timeout,
    text,
    translate,
)
from ratectl.stores.etcd.fork import GATE
from ratectl.stores.etcd.rpc import AUTHENTICATE, ChannelClosed, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ratectl.errors import RatectlError
    from ratectl.stores.etcd.rpc import Call, Channel, Metadata, Method

__all__ = ["Client", "Connection"]

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)

_ATTEMPTS: Final = 3
_TOKEN_SPREADS: Final = 0.05  # seconds until every member knows a new token


class Connection(Protocol):
    """A source of channels."""

    def channel(self, scope: Scope) -> Channel:
        """Return the channel to call on."""

    def lost(self, since: float) -> None:
        """Note that a call begun at ``since`` (monotonic) reached no member."""

    def close(self) -> None:
        """Close the channels that this object opened."""


class Client:
    """A client of one etcd cluster. Thread-safe; a forked child cannot use it.

    ``members`` is the number of members to try. ``password`` is called for each authentication.
    ``token`` is used where no password is known.
    """

    def __init__(
        self,
        connection: Connection,
        address: str,
        *,
        user: str | None = None,
        password: Callable[[], str | None] | None = None,
        token: str = "",
        members: int = 1,
    ) -> None:
        self.address = address
        self.cluster_id = 0
        self._connection = connection
        self._user = user
        self._password = password
        self._token: str | None = None if user else token
        self._token_lock = threading.Lock()
        self._members = members
        self._pid = os.getpid()
        self._closed = False

    def call(self, method: Method[Q, R], request: Q, scope: Scope, *, write: bool = False) -> R:
        """Send one request and return its reply, within ``scope``.

        A write is sent once. It is repeated only if etcd refused its token, and so did not apply
        it. A read without a reply is repeated; with several members, an attempt takes at most half
        of the time, so that a silent member does not use up all of it.

        :raises StoreError: the error that ``failures.translate`` returns.
        :raises Cancelled: the scope was cancelled.
        """
        seconds = limit = scope.remaining()
        if self._members > 1 and not write:
            limit = seconds / 2
        for attempt in range(1, _ATTEMPTS + 1):
            token, began = self.token(scope), time.monotonic()
            try:
                return self._send(method, request, scope, token, min(limit, scope.remaining()))
            except grpc.RpcError as error:
                stale = is_stale_token(error)
                another = self.forget(token) if stale or is_timeout(error) else False
                if stale and another and scope.expired():
                    raise self._not_authenticated(scope) from error
                again = another if stale else not write and is_lost(error)
                if not again or scope.expired() or attempt == _ATTEMPTS:
                    raise self.translate(error, seconds, began, write=write) from error
                if stale and attempt > 1:
                    time.sleep(_TOKEN_SPREADS)
        raise AssertionError

    def stream(
        self, method: Method[Q, R], requests: Iterable[Q], scope: Scope
    ) -> tuple[Call, Iterator[R], str]:
        """Open a stream. Return its handle, its replies, and the token that it was opened with.

        :raises StoreError: there is no connection, or no token.
        """
        token = self.token(scope)
        try:
            return *self._channel(scope).stream(method, requests, _metadata(token, method)), token
        except ChannelClosed as error:
            raise self._channel_closed() from error

    def token(self, scope: Scope) -> str:
        """Return the token to send; authenticate if there is none. Empty where none is needed."""
        token = self._token
        if token is not None:
            return token
        if not scope.acquire(self._token_lock):
            raise self._not_authenticated(scope)
        try:
            if self._token is None:
                self._token = self._authenticate(scope)
            return self._token
        finally:
            self._token_lock.release()

    def forget(self, token: str) -> bool:
        """Drop a token that etcd refused, or did not answer. Return False if there is no other.

        A restored etcd does not refuse tokens that it gave out before: it waits until its log is as
        long as it was then, and does not answer meanwhile.
        """
        if self._user is None:
            return False
        if self._token == token:  # no lock: a race costs one authentication more
            self._token = None
        return True

    def translate(
        self, error: grpc.RpcError, seconds: float, began: float, *, write: bool = False
    ) -> RatectlError:
        """Return the error to raise for a gRPC error of a call that began at ``began``.

        ``seconds`` is the time that the call had; ``began`` is by the monotonic clock.
        """
        if connection_failed(error):
            self.lost(began)
        return translate(error, self.address, seconds, write=write)

    def lost(self, since: float) -> None:
        """Open another connection for later calls: that used at ``since`` (monotonic) is silent."""
        self._connection.lost(since)

    @property
    def inherited(self) -> bool:
        """True in a forked child of the process that opened the connection."""
        return self._pid != os.getpid()

    def check_usable(self) -> None:
        """:raises UsageError: closed, or inherited by a forked child."""
        if self.inherited:
            raise UsageError("this store was opened before a fork: open a new one in the child")
        if self._closed:
            raise UsageError("the store is closed")

    def close(self) -> None:
        """End calls under way and release the connection. Safe to call twice."""
        self._closed = True
        if not self.inherited:
            self._connection.close()

    def _send(
        self, method: Method[Q, R], request: Q, scope: Scope, token: str, seconds: float
    ) -> R:
        try:
            with GATE.passing():
                reply = self._channel(scope).call(
                    method, request, _metadata(token, method), scope, seconds
                )
        except ChannelClosed as error:
            raise self._channel_closed() from error
        if reply is None:
            raise StoreUnavailable(self.address, "the stream ended without a reply")
        header: m.ResponseHeader | None = getattr(reply, "header", None)
        if header is not None and header.cluster_id:
            self.cluster_id = header.cluster_id
        return reply

    def _authenticate(self, scope: Scope) -> str:
        password = None if self._password is None else self._password()
        request = m.AuthenticateRequest(name=self._user or "", password=password or "")
        seconds, began = scope.remaining(), time.monotonic()
        try:
            return self._send(AUTHENTICATE, request, scope, "", seconds).token
        except grpc.RpcError as error:
            if "authentication is not enabled" in text(error):
                return ""
            raise self.translate(error, seconds, began) from error

    def _channel(self, scope: Scope) -> Channel:
        self.check_usable()
        scope.check()
        return self._connection.channel(scope)

    def _not_authenticated(self, scope: Scope) -> StoreUnavailable:
        return StoreUnavailable(self.address, f"not authenticated within {scope.seconds:g} s")

    def _channel_closed(self) -> RatectlError:
        if self._closed:
            return UsageError("the store is closed")
        return StoreUnavailable(self.address, "the connection is being replaced")


def _metadata(token: str, method: Method[Q, R]) -> Metadata:
    # The token is call metadata: gRPC refuses to send call credentials without TLS.
    pairs = (("token", token),) if token else ()
    # With it, a member cut off from the others refuses ("no leader") instead of reading old data.
    return (*pairs, ("hasleader", "true")) if method.needs_leader else pairs
