"""The etcd backend: one environment of an etcd cluster."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, Self

from ratectl.errors import StoreUnavailable, UsageError
from ratectl.stores.arguments import check_revision, check_txn
from ratectl.stores.base import Delete, Item, Store, TxnResult
from ratectl.stores.etcd import messages as m
from ratectl.stores.etcd.adopt import adopt
from ratectl.stores.etcd.client import Client
from ratectl.stores.etcd.failures import (
    RevisionCompacted,
    RevisionInFuture,
)
from ratectl.stores.etcd.keys import Keys
from ratectl.stores.etcd.lease import EtcdLease
from ratectl.stores.etcd.link import Link
from ratectl.stores.etcd.paging import read_pages
from ratectl.stores.etcd.rpc import RANGE, TXN, Scope
from ratectl.stores.etcd.settings import Settings, parse_environment
from ratectl.stores.etcd.status import read_status
from ratectl.stores.etcd.watch import EtcdWatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.stores.base import Compare, Lease, Op, Security, Snapshot, Status, Watch

__all__ = ["EtcdStore"]

_EQUAL: Final = 0
_MOD_REVISION: Final = 2


class EtcdStore(Store):
    """See :class:`~ratectl.stores.base.Store`; open it with ``from_url`` or ``from_etcd3``."""

    def __init__(
        self, client: Client, url: str, environment: str, timeout: float, link: Link | None = None
    ) -> None:
        self.url = url
        self.client = client
        self.timeout = timeout
        self.keys = Keys(environment)
        self._link = link
        self._watches: set[Watch] = set()
        self._lock = threading.Lock()

    @classmethod
    def from_url(cls, url: str, *, timeout: float = 4.0) -> Self:
        """Open ``etcd://host:port[,host:port]/environment`` (``etcds://``: TLS).

        Credentials and certificates come from ``RATECTL_ETCD_*``; see
        :data:`ratectl.stores.etcd.settings.VARIABLES`.

        Several addresses are members of one cluster; every member that is up is used. Several
        host names are resolved when connecting, and again when no member can be reached. With TLS
        and several addresses, all certificates must carry one common name:
        RATECTL_ETCD_SERVER_NAME, or else the first host of the URL.

        :raises UsageError: the URL or a setting is wrong.
        """
        settings = Settings.from_url(url)
        link = Link(settings, timeout)
        client = Client(
            link,
            settings.address,
            user=settings.user,
            password=link.password,
            members=len(settings.addresses),
        )
        return cls(client, url, settings.environment, timeout, link)

    @classmethod
    def security(cls, url: str) -> Security:
        """See :meth:`Store.security`: TLS, and a user or a client certificate."""
        return Settings.from_url(url).security()

    @classmethod
    def from_etcd3(cls, client: Any, environment: str, *, timeout: float = 4.0) -> Self:
        """Return a store on the channel of an ``etcd3`` client. The caller closes that client.

        The client's token is used until it expires. New tokens need RATECTL_ETCD_USER and
        RATECTL_ETCD_PASSWORD: an etcd3 client does not keep its password.

        :raises UsageError: the object is not a known kind of etcd3 client.
        """
        address, adopted = adopt(client)
        url = f"etcd://{address}/{parse_environment(environment)}"
        return cls(adopted, url, environment, timeout)

    # -- reading ---------------------------------------------------------------------------------

    def get(self, key: str) -> Item | None:
        """See :meth:`Store.get` (linearizable)."""
        request = m.RangeRequest(key=self.keys.key(key))
        reply = self.client.call(RANGE, request, Scope(self.timeout))
        return next((Item(key, kv.value, kv.mod_revision) for kv in reply.kvs), None)

    def list(self, prefix: str) -> Snapshot:
        """Return every item below ``prefix``, read in pages at one revision."""
        return self.snapshot(prefix, Scope(self.timeout))

    def snapshot(self, prefix: str, scope: Scope) -> Snapshot:
        """Return ``list(prefix)``, read within ``scope``."""
        while True:
            try:
                return read_pages(self.client, self.keys, prefix, scope)
            except (RevisionCompacted, RevisionInFuture) as error:
                # Compacted or wiped between two pages: start over at the newest revision.
                if scope.expired():
                    raise StoreUnavailable(self.client.address, str(error)) from error

    def newest(self, scope: Scope) -> int:
        """Return the cluster's newest revision (linearizable)."""
        request = m.RangeRequest(key=self.keys.prefix, count_only=True)
        return self.client.call(RANGE, request, scope).header.revision

    # -- writing ---------------------------------------------------------------------------------

    def txn(self, compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        """See :meth:`Store.txn`. The request is sent once.

        ``StoreUnavailable`` means that it was certainly not applied: no connection, or a refusal.
        Every other call without a reply is ``OutcomeUnknown``, also after a broken connection or a
        timeout, and also if gRPC may never have sent it.
        """
        check_txn(compare, ops)
        request = m.TxnRequest(
            compare=[
                m.Compare(
                    result=_EQUAL,
                    target=_MOD_REVISION,
                    key=self.keys.key(condition.key),
                    mod_revision=condition.mod_revision,
                )
                for condition in compare
            ],
            success=map(self._op, ops),
        )
        reply = self.client.call(TXN, request, Scope(self.timeout), write=bool(ops))
        return TxnResult(reply.succeeded, reply.header.revision)

    def _op(self, op: Op) -> m.RequestOp:
        key = self.keys.key(op.key)
        if isinstance(op, Delete):
            return m.RequestOp(request_delete_range=m.DeleteRangeRequest(key=key))
        lease = 0
        if op.lease is not None:
            if not isinstance(op.lease, EtcdLease):
                raise UsageError(f"the lease of {op.key!r} is of another kind of store")
            lease = op.lease.lease_id
        return m.RequestOp(request_put=m.PutRequest(key=key, value=op.value, lease=lease))

    def lease(self, ttl: float) -> Lease:
        """See :meth:`Store.lease`. etcd counts whole seconds: ``ttl`` is rounded up."""
        return EtcdLease.grant(self.client, ttl, self.timeout)

    # -- the rest --------------------------------------------------------------------------------

    def watch(self, prefix: str, from_revision: int) -> Watch:
        """See :class:`~ratectl.stores.etcd.watch.EtcdWatch`."""
        check_revision(from_revision)
        self.client.check_usable()
        watch = EtcdWatch(self, prefix, from_revision, self._forget)
        with self._lock:
            self._watches.add(watch)
        return watch

    def status(self) -> Status:
        """See :meth:`Store.status`: as one member reports it. Silent members are problems."""
        return read_status(self.client, self.keys, Scope(self.timeout), self._link)

    def close(self) -> None:
        """End all watches and close the connection (but not that of an etcd3 client)."""
        if self.client.inherited:
            return
        with self._lock:
            watches = tuple(self._watches)
        for watch in watches:
            watch.close()
        self.client.close()

    def _forget(self, watch: Watch) -> None:
        with self._lock:
            self._watches.discard(watch)
