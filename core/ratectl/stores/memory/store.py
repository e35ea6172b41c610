"""The in-memory backend: one connection to contents that this process holds."""

from __future__ import annotations

import itertools
import re
import weakref
from typing import TYPE_CHECKING, Final, Self

from ratectl.errors import UsageError
from ratectl.runtime.urls import shown
from ratectl.stores.arguments import (
    check_revision,
    check_ttl,
    check_txn,
    encode_key,
    encode_prefix,
)
from ratectl.stores.base import (
    Lease,
    Protection,
    Put,
    Security,
    Snapshot,
    Status,
    Store,
    TxnResult,
)
from ratectl.stores.memory.contents import Contents, Draft, contents_of
from ratectl.stores.memory.watch import MemoryWatch
from ratectl.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.stores.base import Compare, Item, Op, Watch

__all__ = ["MemoryStore"]

_URL: Final = re.compile(r"memory://[A-Za-z0-9._-]+")

_lease_numbers: Final = itertools.count(1)


class MemoryStore(Store):
    """See :class:`~ratectl.stores.base.Store` and the limits in :mod:`ratectl.stores.memory`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._contents = contents_of(url)
        self._watches: weakref.WeakSet[MemoryWatch] = weakref.WeakSet()
        self._closed = False

    @classmethod
    def from_url(cls, url: str, *, timeout: float = 4.0) -> Self:  # noqa: ARG003 - nothing waits
        """Open ``memory://NAME``.

        :raises UsageError: the URL has another form.
        """
        return cls(_checked(url))

    @classmethod
    def security(cls, url: str) -> Security:
        """See :meth:`Store.security`: only this process has access."""
        _checked(url)
        return Security(
            Protection("skipped", "the memory of this process needs no TLS"),
            Protection("skipped", "only this process has access"),
        )

    def get(self, key: str) -> Item | None:
        """See :meth:`Store.get`."""
        encode_key(key)
        return self._open().state().items.get(key)

    def list(self, prefix: str) -> Snapshot:
        """See :meth:`Store.list`."""
        encode_prefix(prefix)
        return self._open().state().snapshot(prefix)

    def txn(self, compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        """See :meth:`Store.txn`."""
        check_txn(compare, ops)
        for part in (*compare, *ops):
            encode_key(part.key)
        ok, state = self._open().change(_apply, compare, ops)
        return TxnResult(ok, state.revision)

    def watch(self, prefix: str, from_revision: int) -> Watch:
        """See :meth:`Store.watch`."""
        encode_prefix(prefix)
        check_revision(from_revision)
        watch = MemoryWatch(self._open(), prefix, from_revision)
        self._watches.add(watch)
        return watch

    def lease(self, ttl: float) -> Lease:
        """See :meth:`Store.lease`."""
        check_ttl(ttl)
        return MemoryLease(self._open(), ttl)

    def status(self) -> Status:
        """See :meth:`Store.status`; the size is that of keys and values."""
        state = self._open().state()
        return Status(
            backend="memory",
            version=__version__,
            revision=state.revision,
            compacted=state.compacted,
            size_bytes=sum(len(key.encode()) + len(i.value) for key, i in state.items.items()),
            detail={"address": self.url, "keys": str(len(state.items))},
        )

    def close(self) -> None:
        """End all watches; the contents stay. Safe to call twice."""
        self._closed = True
        for watch in tuple(self._watches):
            watch.close()

    def _open(self) -> Contents:
        if self._closed:
            raise UsageError(f"the store {self.url} is closed; open it again")
        return self._contents


class MemoryLease(Lease):
    """A lease in the contents; it outlives this object and its store."""

    def __init__(self, contents: Contents, ttl: float) -> None:
        self.ttl = float(ttl)
        self.number = next(_lease_numbers)
        self._contents = contents
        contents.change(Draft.renew_lease, self.number, self.ttl)

    def renew(self) -> bool:
        """See :meth:`Lease.renew`."""
        return self._contents.change(_renew, self)[0]

    def revoke(self) -> None:
        """See :meth:`Lease.revoke`."""
        self._contents.change(Draft.end_lease, self.number)


def _apply(draft: Draft, compare: Sequence[Compare], ops: Sequence[Op]) -> bool:
    """Apply the operations if every compare holds. Return True if they were applied."""
    for condition in compare:
        item = draft.items.get(condition.key)
        if condition.mod_revision != (item.mod_revision if item else 0):
            return False
    for op in ops:
        if not isinstance(op, Put):
            draft.delete(op.key)
        elif op.lease is None:
            draft.put(op.key, op.value, None)
        elif isinstance(op.lease, MemoryLease):
            draft.put(op.key, op.value, op.lease.number)
        else:
            raise UsageError(f"the lease of {op.key!r} is of another kind of store")
    return True


def _renew(draft: Draft, lease: MemoryLease) -> bool:
    """Renew a lease that has not ended. Return False if it has."""
    if not draft.has_lease(lease.number):
        return False
    draft.renew_lease(lease.number, lease.ttl)
    return True


def _checked(url: str) -> str:
    if not _URL.fullmatch(url):
        raise UsageError(
            f"store {shown(url)!r} names no store in memory: write memory://NAME, with letters, "
            "digits, '.', '_' and '-'"
        )
    return url
