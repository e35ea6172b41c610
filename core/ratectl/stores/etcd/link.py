"""The channel in use, and its replacement when it fails."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from ratectl.errors import StoreUnavailable, UsageError
from ratectl.stores.etcd.channel import open_channel, silent_members, target
from ratectl.stores.etcd.fork import GATE
from ratectl.stores.etcd.rpc import ChannelClosed

if TYPE_CHECKING:
    from ratectl.stores.etcd.rpc import Channel, Scope
    from ratectl.stores.etcd.settings import Settings

__all__ = ["Link"]

log = logging.getLogger("ratectl.stores")

_REPLACE_EVERY: Final = 0.25


class Link:
    """A connection to a cluster: a channel opened by the first call, and replaced when it fails.

    A channel reconnects by itself, but in many versions of gRPC (1.78 is one) only while a call
    waits on it, and calls that fail at once do not wait. A server that vanished without closing its
    connection can keep the channel for minutes. A new channel connects at once, and resolves host
    names again.
    """

    def __init__(self, settings: Settings, timeout: float) -> None:
        self._settings = settings
        self._unread: str | None = None
        """Why the files of the settings could not be read again, as far as it was told."""
        self._timeout = timeout
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._opened = 0.0
        self._lost = False
        self._closed = False

    def channel(self, scope: Scope) -> Channel:
        """Return the channel to call on.

        :raises StoreUnavailable: no host name resolves.
        :raises ChannelClosed: ``close`` was called.
        """
        if not scope.acquire(self._lock):
            raise StoreUnavailable(self._settings.address, "host names do not resolve in time")
        try:
            if self._closed:
                raise ChannelClosed
            now = time.monotonic()
            if self._channel is None or (self._lost and now >= self._opened + _REPLACE_EVERY):
                self._replace(scope)
            assert self._channel is not None
            return self._channel
        finally:
            self._lock.release()

    def lost(self, since: float) -> None:
        """Have the channel replaced if it was open at ``since`` (monotonic): a call failed."""
        if since >= self._opened:
            self._lost = True

    def close(self) -> None:
        """Close the channel for good."""
        with self._lock:
            self._closed = True
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def suspend(self) -> None:
        """Close the channel before a fork; the next call opens another."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def password(self) -> str | None:
        """Return the password that the settings name, as it is now."""
        self._read_again()
        return self._settings.password

    def problems(self, scope: Scope) -> list[str]:
        """Return problems as sentences: silent members, a password without TLS."""
        settings = self._settings
        problems = []
        local = all(address.is_loopback for address in settings.addresses)
        if settings.password and not settings.tls and not local:
            problems.append("the password is sent unencrypted: use etcds:// and TLS on the servers")
        if len(settings.addresses) > 1:
            with GATE.passing():
                problems.extend(silent_members(settings, self._timeout, scope))
        return problems

    def _read_again(self) -> None:
        """Use what the files hold now: certificates and passwords are replaced while this runs."""
        try:
            self._settings, self._unread = self._settings.read_again(), None
        except UsageError as error:
            if str(error) != self._unread:
                log.warning("%s: what the file held before is used", error)
            self._unread = str(error)

    def _replace(self, scope: Scope) -> None:
        self._read_again()
        name = target(self._settings, scope)
        old, self._channel = self._channel, open_channel(self._settings, name, self._timeout)
        self._opened = time.monotonic()
        self._lost = False
        GATE.add_link(self)
        if old is not None:
            old.retire()
