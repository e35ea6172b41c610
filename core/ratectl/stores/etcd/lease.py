"""Leases of etcd."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ratectl.stores.arguments import check_ttl
from ratectl.stores.base import Lease
from ratectl.stores.etcd import messages as m
from ratectl.stores.etcd.failures import LeaseGone
from ratectl.stores.etcd.rpc import LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_REVOKE, Scope

if TYPE_CHECKING:
    from ratectl.stores.etcd.client import Client

__all__ = ["EtcdLease"]


class EtcdLease(Lease):
    """See :class:`~ratectl.stores.base.Lease`.

    etcd measures the time. A restart or a new leader sets it back to the full ``ttl``, so the keys
    may stay for longer than ``ttl`` after the last renewal. A holder needs a deadline of its own.
    """

    def __init__(self, client: Client, lease_id: int, ttl: float, timeout: float) -> None:
        self.lease_id = lease_id
        self.ttl = ttl
        self.client = client
        self._timeout = timeout

    @classmethod
    def grant(cls, client: Client, ttl: float, timeout: float) -> EtcdLease:
        """Return a new lease. A lease whose grant got no reply holds no keys and expires."""
        check_ttl(ttl)
        request = m.LeaseGrantRequest(ttl=math.ceil(ttl))
        reply = client.call(LEASE_GRANT, request, Scope(timeout))
        return cls(client, reply.lease_id, float(reply.ttl), timeout)

    def renew(self) -> bool:
        """See :meth:`Lease.renew`."""
        request = m.LeaseKeepAliveRequest(lease_id=self.lease_id)
        try:
            # etcd has no error for a lease that is gone, only a TTL of 0.
            return self.client.call(LEASE_KEEP_ALIVE, request, Scope(self._timeout)).ttl > 0
        except LeaseGone:
            return False

    def revoke(self) -> None:
        """See :meth:`Lease.revoke`."""
        request = m.LeaseRevokeRequest(lease_id=self.lease_id)
        try:
            self.client.call(LEASE_REVOKE, request, Scope(self._timeout), write=True)
        except LeaseGone:
            return
