"""The store interface: the promises of every backend, and no more than ratectl uses.

A store is a small, ordered, transactional key-value space for one environment. Keys are relative
(``head``, ``history/0000000412``); a backend adds its own prefix. Values are bytes. One int64
*revision* counts transactions, and all keys written by one transaction share it.

Modelled on etcd's KV, Watch and Lease services, reduced to what SQLite can honour as well;
``tests/conformance`` runs the same tests on every backend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from ratectl.runtime.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "MAX_OPS",
    "MAX_VALUE_BYTES",
    "MIN_TTL",
    "Change",
    "Compare",
    "Delete",
    "Events",
    "Interrupted",
    "Item",
    "Lease",
    "Op",
    "Progress",
    "Protection",
    "Put",
    "Resync",
    "Security",
    "Snapshot",
    "Status",
    "Store",
    "TxnResult",
    "Watch",
    "WatchEvent",
]

MAX_OPS = 128
"""Operations in one transaction (etcd's default server limit); more raises ``UsageError``."""

MAX_VALUE_BYTES = 1_000_000
"""Largest value and largest transaction payload; etcd refuses requests above 1.5 MiB."""

MIN_TTL = 2.0
"""Shortest time to live of a lease, in seconds: etcd's minimum."""


@dataclass(frozen=True, slots=True)
class Item:
    """One key and its value. ``mod_revision`` is the revision of the key's last write."""

    key: str
    value: bytes
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Items at one revision, sorted by key."""

    items: tuple[Item, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key; with ``lease``, the key is deleted when that lease ends."""

    key: str
    value: bytes
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key; deleting an absent key is allowed and does nothing."""

    key: str


Op = Put | Delete


@dataclass(frozen=True, slots=True)
class Compare:
    """Holds when ``key`` was last written at ``mod_revision``; 0 means the key is absent."""

    key: str
    mod_revision: int


@dataclass(frozen=True, slots=True)
class TxnResult:
    """Result of a transaction. ``ok``: every compare held, and the operations were applied.

    ``revision`` is the store's revision after the transaction.
    """

    ok: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """One key in a watched revision; ``item`` is None for a delete (or an expired lease)."""

    key: str
    item: Item | None


@dataclass(frozen=True, slots=True)
class Events:
    """All changes below the prefix at one revision: whole, in revision order, at least once."""

    revision: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Nothing below the prefix changed up to and including ``revision``."""

    revision: int


@dataclass(frozen=True, slots=True)
class Resync:
    """The watch could not be continued (compaction, a restored or wiped store).

    ``snapshot`` replaces everything seen before: a key that it does not hold does not exist.
    """

    snapshot: Snapshot
    reason: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The store stopped answering; the watch keeps trying by itself. ``error`` holds the cause."""

    error: Exception


WatchEvent = Events | Progress | Resync | Interrupted


@dataclass(frozen=True, slots=True)
class Status:
    """Version, size and health of a store; ``problems`` are sentences for ``ratectl doctor``."""

    backend: str
    version: str
    revision: int
    compacted: int
    size_bytes: int
    detail: Mapping[str, str]
    problems: tuple[str, ...] = ()
    absent: bool = False
    """True where nothing is stored yet: the first write creates the store."""


@dataclass(frozen=True, slots=True)
class Protection:
    """One protection of a store, as ``ratectl doctor`` reports it.

    ``state`` is ``skipped`` where this kind of store needs no such protection.
    """

    state: Literal["ok", "warning", "skipped"]
    detail: str


@dataclass(frozen=True, slots=True)
class Security:
    """Protections of a store, by its URL and the settings of this process."""

    transport: Protection
    """Encryption between this process and the store."""
    access: Protection
    """Credentials that decide who may read and write."""


class Lease(ABC):
    """A time to live shared by several keys: the store deletes them unless it is renewed.

    Thread-safe.
    """

    ttl: float
    """Seconds after the last renewal when the store deletes the keys (>= 2)."""

    @abstractmethod
    def renew(self) -> bool:
        """Renew once. Return False if the lease has ended: take a new one, write the keys again.

        :raises StoreUnavailable: no answer; the lease may still be alive.
        """

    @abstractmethod
    def revoke(self) -> None:
        """End the lease now, deleting its keys. Safe to call twice."""


class Watch(Closing):
    """A running watch: iterate for events, ``close()`` from any thread to end the iteration."""

    @abstractmethod
    def __iter__(self) -> Iterator[WatchEvent]: ...

    @abstractmethod
    def close(self) -> None:
        """End the watch; a blocked iteration stops within a second. Safe to call twice."""


class Store(Closing):
    """A connection to one environment. Thread-safe. A forked child opens its own.

    Opening does not connect: the first call does. Every call may raise ``StoreUnavailable``,
    ``StoreUnauthenticated`` and ``StoreMisconfigured``; a call takes at most ``timeout`` seconds.
    """

    url: str
    """The URL as opened, free of secrets."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, *, timeout: float = 4.0) -> Self:
        """Return the store of a URL.

        :raises UsageError: the URL or a setting is wrong.
        """

    @classmethod
    @abstractmethod
    def security(cls, url: str) -> Security:
        """Return how the store of a URL is secured, without connecting.

        :raises UsageError: the URL or a setting is wrong.
        """

    @abstractmethod
    def get(self, key: str) -> Item | None:
        """Return the newest value of a key, or None."""

    @abstractmethod
    def list(self, prefix: str) -> Snapshot:
        """Return every item whose key starts with ``prefix``, all read at one revision."""

    @abstractmethod
    def txn(self, compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        """Apply the operations if every compare holds: atomically, as one revision.

        A transaction without effect (a compare fails, or only absent keys are deleted) makes no
        revision.

        :raises OutcomeUnknown: no reply; the write may have been applied. Re-read to find out.
        :raises UsageError: a key twice, over ``MAX_OPS`` operations or ``MAX_VALUE_BYTES`` bytes.
        """

    @abstractmethod
    def watch(self, prefix: str, from_revision: int) -> Watch:
        """Return a watch of all keys below ``prefix``, from ``from_revision`` on (inclusive).

        It reconnects by itself. Changes during an outage are delivered, or covered by a Resync.
        """

    @abstractmethod
    def lease(self, ttl: float) -> Lease:
        """Return a new lease of ``ttl`` seconds (>= 2)."""

    @abstractmethod
    def status(self) -> Status:
        """Return version, size and health, for ``ratectl doctor``."""

    @abstractmethod
    def close(self) -> None:
        """Release connections and end all watches. Safe to call twice."""

    def put(self, key: str, value: bytes, lease: Lease | None = None) -> int:
        """Write one key unconditionally. Return the revision."""
        return self.txn((), (Put(key, value, lease),)).revision

    def delete(self, key: str) -> int:
        """Delete one key unconditionally. Return the revision."""
        return self.txn((), (Delete(key),)).revision
