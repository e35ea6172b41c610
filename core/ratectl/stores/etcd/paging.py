"""Reads of many keys in pages, all at one revision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.stores.base import Item, Snapshot
from ratectl.stores.etcd import messages as m
from ratectl.stores.etcd.failures import ReplyTooLarge
from ratectl.stores.etcd.keys import range_end
from ratectl.stores.etcd.rpc import RANGE

if TYPE_CHECKING:
    from ratectl.stores.etcd.client import Client
    from ratectl.stores.etcd.keys import Keys
    from ratectl.stores.etcd.rpc import Scope

__all__ = ["PAGE", "read_pages"]

PAGE: Final = 256
"""Keys in one request; fewer if the reply is too large."""


def read_pages(client: Client, keys: Keys, prefix: str, scope: Scope) -> Snapshot:
    """Return every item below ``prefix``, at the revision of the first page.

    :raises RevisionCompacted: that revision was compacted between two pages.
    :raises RevisionInFuture: the store was wiped between two pages.
    """
    start = keys.below(prefix)
    end = range_end(start)
    limit, revision = PAGE, 0
    items: list[Item] = []
    while True:
        request = m.RangeRequest(key=start, range_end=end, limit=limit, revision=revision)
        try:
            reply = client.call(RANGE, request, scope)
        except ReplyTooLarge:
            if limit == 1:
                raise
            limit = max(1, limit // 4)
            continue
        revision = revision or reply.header.revision
        items.extend(Item(keys.decode(kv.key), kv.value, kv.mod_revision) for kv in reply.kvs)
        if not reply.more:
            return Snapshot(tuple(items), revision)
        start = reply.kvs[-1].key + b"\0"
