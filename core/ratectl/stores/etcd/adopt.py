"""Running on the channel of somebody else's ``etcd3`` client, without importing etcd3.

Two shapes exist: etcd3 0.12 holds one channel, its successors hold endpoints that have one each.
Only the channel is used: such an endpoint bars itself for minutes after one error.
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
    """A connection that is not ours to open, replace or close."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def channel(self, scope: Scope) -> Channel:  # noqa: ARG002 - it is there already
        return self._channel

    def lost(self, since: float) -> None:  # noqa: ARG002
        """There is only this channel, and some only connect while a call waits on them."""
        self._channel.patient = True

    def close(self) -> None:
        """Nothing to do: its owner closes it."""


def adopt(etcd3_client: Any) -> tuple[str, Client]:
    """The address of an etcd3 client, and our client on its channel.

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
    return str(address), Client(connection, str(address), user=user, password=password, token=token)
