"""A client on the channel of an application's ``etcd3`` client. It does not import etcd3.

Two shapes exist: etcd3 0.12 holds one channel, its successors hold endpoints with one channel each.
Only the channel is used: such an endpoint refuses all calls for minutes after one error.
"""

from __future__ import annotations

import os
from typing import Any, Final

import grpc

from ratectl.errors import UsageError
from ratectl.stores.etcd.client import Client
from ratectl.stores.etcd.rpc import Channel, Scope
from ratectl.stores.etcd.settings import credentials

__all__ = ["adopt"]


class _Borrowed:
    """A connection that the application opened, and closes."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def channel(self, scope: Scope) -> Channel:  # noqa: ARG002 - the channel is open
        """Return the application's channel."""
        return self._channel

    def lost(self, since: float) -> None:  # noqa: ARG002
        """Let the next call wait: in some versions a channel connects only while a call waits."""
        self._channel.patient = True

    def close(self) -> None:
        """Do nothing: the application closes its channel."""


def adopt(etcd3_client: Any) -> tuple[str, Client]:
    """Return the address of an etcd3 client, and ratectl's client on its channel.

    :raises UsageError: it has no channel where known versions have it.
    """
    endpoint = getattr(etcd3_client, "endpoint_in_use", None)
    raw: Final[object] = (
        endpoint.channel if endpoint is not None else getattr(etcd3_client, "channel", None)
    )
    if not isinstance(raw, grpc.Channel):
        raise UsageError(
            f"{type(etcd3_client).__qualname__} is not an etcd3 client: it holds no gRPC channel"
        )
    address = getattr(endpoint, "netloc", None) or getattr(etcd3_client, "_url", "etcd3-client")
    user, password = credentials(os.environ)
    pairs = dict(getattr(etcd3_client, "metadata", None) or ())
    connection = _Borrowed(Channel(raw, owned=False))
    token = str(pairs.get("token", ""))
    client = Client(connection, str(address), user=user, password=lambda: password, token=token)
    return str(address), client
