"""Calls to etcd with a deadline, a token, and errors of ratectl's own."""

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
    text,
    translate,
)
from ratectl.stores.etcd.fork import GATE
from ratectl.stores.etcd.rpc import AUTHENTICATE, ChannelClosed, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ratectl.errors import RatectlError
    from ratectl.stores.etcd.rpc import Call, Channel, Metadata, Method

__all__ = ["Client", "Connection"]

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)

_ATTEMPTS: Final = 3
_TOKEN_SPREADS: Final = 0.05  # seconds until every member knows a new token


class Connection(Protocol):
    """Where channels come from."""

    def channel(self, scope: Scope) -> Channel:
        """The channel to call on."""

    def lost(self, since: float) -> None:
        """A call begun at ``since`` (monotonic) reached no member."""

    def close(self) -> None:
        """Release what is ours."""


class Client:
    """Calls to one etcd cluster; thread-safe, bound to the process that made it.

    ``members``: how many there are to try. ``token``: a fixed one, where no password is known.
    """

    def __init__(
        self,
        connection: Connection,
        address: str,
        *,
        user: str | None = None,
        password: str | None = None,
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
        """One request, one reply, within ``scope``.

        A write is sent once: it is repeated only after etcd refused its token, which applies
        nothing. A read that got lost is repeated; where there are several members, a silent
        one costs it only half of its time.

        :raises StoreError: as ``failures.translate`` says.
        :raises Cancelled: the scope was.
        """
        seconds = part = scope.remaining()
        if self._members > 1 and not write:
            part = seconds / 2
        for attempt in range(1, _ATTEMPTS + 1):
            token, began = self.token(scope), time.monotonic()
            try:
                return self._send(method, request, scope, token, min(part, scope.remaining()))
            except grpc.RpcError as error:
                again = (
                    self.forget(token) if is_stale_token(error) else not write and is_lost(error)
                )
                if not again or scope.expired() or attempt == _ATTEMPTS:
                    raise self.translate(error, seconds, began, write=write) from error
                if is_stale_token(error) and attempt > 1:
                    time.sleep(_TOKEN_SPREADS)
        raise AssertionError

    def stream(
        self, method: Method[Q, R], requests: Iterable[Q], scope: Scope
    ) -> tuple[Call, Iterator[R], str]:
        """Open a stream: its handle, its replies, and the token it was opened with.

        :raises StoreError: there is no connection or no token to be had.
        """
        token = self.token(scope)
        try:
            return *self._channel(scope).stream(method, requests, _metadata(token, method)), token
        except ChannelClosed as error:
            raise self._channel_closed() from error

    def token(self, scope: Scope) -> str:
        """The token to send, authenticating if there is none; empty where none is needed."""
        token = self._token
        if token is not None:
            return token
        if not scope.acquire(self._token_lock):
            raise StoreUnavailable(self.address, f"not authenticated within {scope.seconds:g} s")
        try:
            if self._token is None:
                self._token = self._authenticate(scope)
            return self._token
        finally:
            self._token_lock.release()

    def forget(self, token: str) -> bool:
        """Drop a token that etcd refused; False if no other can be had."""
        if self._user is None:
            return False
        if self._token == token:  # no lock: a race costs one more authentication at worst
            self._token = None
        return True

    def translate(
        self, error: grpc.RpcError, seconds: float, began: float, *, write: bool = False
    ) -> RatectlError:
        """The error to raise for gRPC's, for a call of ``seconds`` since ``began``."""
        if connection_failed(error):
            self.lost(began)
        return translate(error, self.address, seconds, write=write)

    def lost(self, since: float) -> None:
        """Nobody answers on the connection used at ``since`` (monotonic): take another one."""
        self._connection.lost(since)

    @property
    def inherited(self) -> bool:
        """Whether this process is a forked child of the one that opened the connection."""
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
        request = m.AuthenticateRequest(name=self._user or "", password=self._password or "")
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

    def _channel_closed(self) -> RatectlError:
        if self._closed:
            return UsageError("the store is closed")
        return StoreUnavailable(self.address, "the connection is being replaced")


def _metadata(token: str, method: Method[Q, R]) -> Metadata:
    # As call metadata: gRPC refuses to send call credentials over plaintext.
    pairs = (("token", token),) if token else ()
    # A member cut off from the others answers "no leader" instead of being silently stale.
    return (*pairs, ("hasleader", "true")) if method.needs_leader else pairs
