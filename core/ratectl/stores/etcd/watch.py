"""A watch that survives failures of servers and networks.

It resumes after the last revision that it delivered whole. Where that is impossible (compaction, a
wiped or exchanged store) it lists all keys again and yields a ``Resync``. Progress requests serve
as pings: they detect a server that is connected but does not answer, in every version of gRPC.
"""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Final, Protocol

import grpc

from ratectl.errors import StoreError, StoreUnauthenticated, StoreUnavailable, UsageError
from ratectl.stores.base import Change, Events, Interrupted, Item, Progress, Resync, Watch
from ratectl.stores.etcd import messages as m
from ratectl.stores.etcd.failures import explain, is_cancelled, names_stale_token
from ratectl.stores.etcd.keys import range_end
from ratectl.stores.etcd.rpc import Cancelled, Scope
from ratectl.stores.etcd.stream import StreamEnded, StreamSuspended, WatchStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl.stores.base import Snapshot, WatchEvent
    from ratectl.stores.etcd.client import Client
    from ratectl.stores.etcd.keys import Keys

__all__ = ["EtcdWatch", "Keyspace"]

PING_AFTER: Final = 3.0
"""Seconds of silence after which the watch pings the server."""

PING_TIMEOUT: Final = 4.0
"""Seconds to wait for the reply before the watch reconnects."""

MAX_PATIENCE: Final = 60.0
"""Longest wait for a reply, if a server accepts watches but then needs long to answer."""

_STEP: Final = 1.0
_FIRST_STEP: Final = 0.2  # until the first reply, which means that the watch is up to date
_BACKOFF: Final = (0.05, 1.0)
_BACKOFF_REFUSED: Final = (0.5, 10.0)  # each attempt makes etcd compute a slow password hash
_DELETE: Final = 1


class Keyspace(Protocol):
    """The part of a store that a watch uses."""

    client: Client
    keys: Keys
    timeout: float

    def snapshot(self, prefix: str, scope: Scope) -> Snapshot:
        """Return all items below ``prefix`` at one revision."""

    def newest(self, scope: Scope) -> int:
        """Return the cluster's newest revision."""


class _Relist(Exception):
    """Raised when the watch cannot continue at its revision."""


class _Reopen(Exception):
    """Raised when a new stream will work at once: there is no outage to report."""


class EtcdWatch(Watch):
    """See :class:`~ratectl.stores.base.Watch`. Iterate from one thread at a time.

    While nothing changes, it yields ``Progress`` about every ``PING_AFTER`` seconds, which shows
    that the store answers.
    """

    def __init__(
        self, space: Keyspace, prefix: str, from_revision: int, on_close: Callable[[Watch], None]
    ) -> None:
        self._space = space
        self._client = space.client
        self._prefix = prefix
        self._key = space.keys.below(prefix)
        self._next = from_revision
        self._reason = ""  # of a resync that is due; empty: continue at _next
        self._cluster_id = space.client.cluster_id
        self._patience = PING_TIMEOUT
        self._reported = ""
        self._failures = 0
        self._opened = 0.0
        self._on_close = on_close
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._stream: WatchStream | None = None
        self._scope: Scope | None = None

    def close(self) -> None:
        """See :meth:`Watch.close`."""
        self._closed.set()
        if self._client.inherited:  # its threads are not here, and its locks may be held for ever
            return
        with self._lock:
            stream, scope = self._stream, self._scope
        if scope is not None:
            scope.cancel()
        if stream is not None:
            stream.close()
        self._on_close(self)

    def __iter__(self) -> Iterator[WatchEvent]:
        while not self._closed.is_set():
            outage: StoreError | None = None
            try:
                if self._reason:
                    yield from self._relist()
                yield from self._follow()
            except _Relist as reason:
                self._reason = str(reason)
            except (_Reopen, StreamSuspended):
                self._pause(_BACKOFF)
            except (Cancelled, StreamEnded, StoreError, grpc.RpcError) as error:
                if is_cancelled(error):  # another call replaced a dead channel
                    self._pause(_BACKOFF)
                else:
                    outage = self._describe(error)
            except UsageError:
                if self._closed.is_set():  # the store was closed under the watch
                    return
                raise
            if outage is not None and not self._closed.is_set():
                yield from self._interrupted(outage)

    # -- failures --------------------------------------------------------------------------------

    def _describe(self, error: Exception) -> StoreError:
        if isinstance(error, StoreError):
            return error
        if isinstance(error, grpc.RpcError):
            translated = self._client.translate(error, self._space.timeout, self._opened)
            if isinstance(translated, StoreError):
                return translated
        return StoreUnavailable(self._client.address, "the server ended the watch")

    def _interrupted(self, outage: StoreError) -> Iterator[Interrupted]:
        """Report an outage once, and again if its cause changes; then wait a little."""
        text = f"{type(outage).__name__}: {outage}"
        if text != self._reported:
            self._reported = text
            yield Interrupted(outage)
        refused = isinstance(outage, StoreUnauthenticated)
        self._pause(_BACKOFF_REFUSED if refused else _BACKOFF)

    def _pause(self, backoff: tuple[float, float]) -> None:
        first, cap = backoff
        delay = min(cap, first * 2 ** min(self._failures, 10))
        self._failures += 1
        self._closed.wait(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnects

    def _healthy(self) -> None:
        self._failures = 0
        self._reported = ""

    def _relist(self) -> Iterator[Resync]:
        with self._calls() as scope:
            snapshot = self._space.snapshot(self._prefix, scope)
        self._cluster_id = self._client.cluster_id
        yield Resync(snapshot, self._reason)
        self._reason = ""
        self._next = snapshot.revision + 1

    # -- one stream ------------------------------------------------------------------------------

    def _follow(self) -> Iterator[WatchEvent]:
        """Deliver events of one stream until it fails."""
        with self._open() as stream:
            pending: list[m.Event] = []
            for reply in self._replies(stream):
                self._refuse(reply, stream.token)
                if reply.created:
                    self._check_continuity(reply.header)
                    stream.ask_progress()
                    continue
                self._healthy()
                pending.extend(reply.events)
                yield from self._deliver(pending, whole=not reply.fragment)
                if not pending and not reply.events and not reply.fragment:
                    self._next = max(self._next, reply.header.revision + 1)
                    yield Progress(reply.header.revision)

    @contextmanager
    def _open(self) -> Iterator[WatchStream]:
        create = m.WatchCreateRequest(
            key=self._key,
            range_end=range_end(self._key),
            start_revision=self._next,
            progress_notify=True,
            fragment=True,  # else a large backlog exceeds gRPC's limit at every attempt
        )
        with self._calls() as scope:
            stream = WatchStream(self._client, create, scope)
        self._opened = stream.opened
        with self._lock:
            self._stream = stream
        try:
            if self._closed.is_set():
                raise Cancelled
            yield stream
        finally:
            with self._lock:
                self._stream = None
            stream.close()

    @contextmanager
    def _calls(self) -> Iterator[Scope]:
        """Return a scope for calls that ``close`` can end."""
        scope = Scope(self._space.timeout, cancellable=True)
        with self._lock:
            self._scope = scope
        try:
            if self._closed.is_set():
                raise Cancelled
            yield scope
        finally:
            with self._lock:
                self._scope = None

    def _deliver(self, pending: list[m.Event], *, whole: bool) -> Iterator[Events]:
        """Yield every complete revision, and remove it from ``pending``.

        ``whole``: the last revision in ``pending`` is complete as well.
        """
        groups = [list(group) for _, group in groupby(pending, key=_revision)]
        pending[:] = [] if whole or not groups else groups.pop()
        for group in groups:
            revision = _revision(group[0])
            yield Events(revision, tuple(map(self._change, group)))
            # After the yield: an abandoned event is delivered again.
            self._next = revision + 1

    def _change(self, event: m.Event) -> Change:
        key = self._space.keys.decode(event.kv.key)
        if event.kind == _DELETE:
            return Change(key, None)
        return Change(key, Item(key, event.kv.value, event.kv.mod_revision))

    def _replies(self, stream: WatchStream) -> Iterator[m.WatchResponse]:
        """Yield replies as they come, and ping the server in between.

        :raises StoreUnavailable: it did not reply in time.
        """
        reply = stream.receive(self._space.timeout)
        if reply is None:
            raise self._silent(stream, self._space.timeout)
        yield reply
        alive, quiet = False, 0.0  # seconds of silence, without the time that the consumer takes
        while True:
            step = _STEP if alive else _FIRST_STEP
            reply = stream.receive(step)
            if reply is not None:
                alive, quiet, self._patience = True, 0.0, PING_TIMEOUT
                yield reply
                continue
            quiet += step
            if quiet >= PING_AFTER + self._patience:
                if not alive:
                    # etcd sends nothing while it brings a watcher up to date, which may take long.
                    # Wait longer the next time, or the watch would never get past this point.
                    self._patience = min(MAX_PATIENCE, self._patience * 2)
                raise self._silent(stream, quiet)
            if quiet >= PING_AFTER or not alive:
                stream.ask_progress()

    def _silent(self, stream: WatchStream, seconds: float) -> StoreUnavailable:
        self._client.lost(stream.opened)
        self._client.forget(stream.token)
        return StoreUnavailable(self._client.address, f"silent for {seconds:g} s")

    def _refuse(self, reply: m.WatchResponse, token: str) -> None:
        """Raise an error if a reply ends the watch."""
        if reply.compact_revision:
            raise _Relist(f"revision {self._next} was compacted (at {reply.compact_revision})")
        if not reply.canceled:
            return
        reason = reply.cancel_reason or "no reason given"
        if names_stale_token(reason) and self._client.forget(token):
            raise _Reopen
        if names_stale_token(reason) or "permission denied" in reason:
            raise StoreUnauthenticated(
                f"store {self._client.address} refuses the watch: {explain(reason)}"
            )
        raise StoreUnavailable(self._client.address, f"the server cancelled the watch: {reason}")

    def _check_continuity(self, header: m.ResponseHeader) -> None:
        """Check that the store still has the history that the watch has seen.

        :raises _Relist: it has another.
        """
        if self._cluster_id and header.cluster_id != self._cluster_id:
            raise _Relist("the address now leads to another cluster")
        self._cluster_id = header.cluster_id
        seen = self._next - 1
        if header.revision < seen:
            # A member that lags behind looks the same: ask the whole cluster.
            with self._calls() as scope:
                newest = self._space.newest(scope)
            if newest < seen:
                raise _Relist(f"the store went back from revision {seen} to {newest}")


def _revision(event: m.Event) -> int:
    return event.kv.mod_revision
