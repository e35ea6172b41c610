"""Reads of generations, and of their bundles, from a store."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from ratectl.errors import BundleError, NotFound
from ratectl.policy.bundle import (
    MAX_BUNDLE_BYTES,
    EncodedTree,
    decode_origins,
    decode_policies,
    digest,
)
from ratectl.records import (
    BUNDLES,
    HEAD,
    HISTORY,
    MANIFESTS,
    PAST_RESETS,
    ROLLOUTS,
    Head,
    HistoryEntry,
    Manifest,
    PastReset,
    RolloutRecord,
    history_key,
)
from ratectl.records.reading import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ratectl.policy.language.model import PolicyTree
    from ratectl.records import Candidate
    from ratectl.stores.base import Item, Store

R = TypeVar("R", HistoryEntry, RolloutRecord)

__all__ = [
    "Fresh",
    "Live",
    "highest_generation",
    "live_entry",
    "lived",
    "read_after",
    "read_base",
    "read_blob",
    "read_encoded",
    "read_entry",
    "read_history",
    "read_live",
    "read_manifest",
    "read_past_resets",
    "read_rollouts",
    "read_tree",
]


LEAP: Final = 1_000
"""Numbers of generations are consecutive: a number so far above the others is no publisher's."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """Numbers for a head that does not continue the one in the store."""

    sequence: int
    generation: int
    because: str
    """Why the head in the store is not continued."""


@dataclass(frozen=True, slots=True)
class Live:
    """The head as read, with the revision to compare when it is replaced.

    Before the first generation ``head`` is None and ``mod_revision`` is 0.
    """

    head: Head | None
    mod_revision: int
    unreadable: str | None = None
    """Why the head cannot be read, for the publisher that replaces it."""
    fresh: Fresh | None = None
    """Numbers of the next head if a publisher must not continue this one."""
    first: int = 1
    """Sequence of the first head: 1, or the time in milliseconds if the publisher signs."""
    judged: bool = False
    """True once ``publishing.head.publishing_base`` has decided if this head may be continued."""
    entry: HistoryEntry | None = None
    """The history entry of the live generation, if it was read with the head. The publisher uses
    this one, as the store may hold another one a moment later."""

    @classmethod
    def of(cls, item: Item | None) -> Live:
        return cls(Head.decode(item.value), item.mod_revision) if item else cls(None, 0)

    @property
    def generation(self) -> int:
        """The live generation; 0 before the first."""
        return self.head.generation if self.head else 0

    @property
    def candidate(self) -> Candidate | None:
        """The candidate of a rollout beside the live generation."""
        return self.head.candidate if self.head else None

    @property
    def next(self) -> int:
        """Number of the next generation."""
        if self.fresh is not None:
            return self.fresh.generation
        return self.head.latest + 1 if self.head else 1

    @property
    def next_sequence(self) -> int:
        """Sequence of the next head."""
        if self.fresh is not None:
            return self.fresh.sequence
        return self.head.sequence + 1 if self.head else self.first


def read_live(store: Store) -> Live:
    """Return the head.

    :raises BundleError: it cannot be read.
    """
    return Live.of(store.get(HEAD))


def read_base(store: Store) -> Live:
    """Return the head for a publisher, which may replace a head that cannot be read."""
    item = store.get(HEAD)
    try:
        return Live.of(item)
    except BundleError as error:
        return Live(None, item.mod_revision if item else 0, unreadable=str(error))


def highest_generation(store: Store) -> int:
    """Return the highest generation number among the history's keys; 0 for an empty history.

    A number far above all others does not count (see ``LEAP``).
    """
    highest = 0
    for item in store.list(HISTORY).items:
        digits = item.key.removeprefix(HISTORY)
        number = int(digits) if digits.isdecimal() else 0
        if item.key == history_key(number) and (not highest or number <= highest + LEAP):
            highest = number
    return highest


def read_after(store: Store, generation: int) -> Iterator[HistoryEntry]:
    """Yield the readable entries of later generations."""
    for item in store.list(HISTORY).items:
        if item.key > history_key(generation):
            with suppress(BundleError):
                yield HistoryEntry.decode(item.value)


def live_entry(store: Store, live: Live) -> HistoryEntry:
    """Return the history entry of the live generation.

    :raises NotFound: there is none.
    :raises BundleError: it cannot be read, or names other policies than the head does.
    """
    if live.entry is not None:
        return live.entry
    entry = read_entry(store, live.generation)
    if live.head is not None and entry.bundle != live.head.bundle:
        raise BundleError(
            f"the history entry of generation {live.generation} was changed: "
            f"{history_key(live.generation)!r} names policies {entry.bundle[:12]}, and the head "
            f"names {live.head.bundle[:12]}"
        )
    return entry


def read_entry(store: Store, generation: int) -> HistoryEntry:
    """Return the history entry of a generation.

    :raises NotFound: it was never published, or is older than the kept history.
    :raises BundleError: the entry cannot be read, or is that of another generation.
    """
    item = store.get(history_key(generation))
    if item is None:
        live = read_base(store)
        if generation >= live.next or generation < 1:
            known = (
                f"the live one is {live.generation}" if live.head else "nothing is published yet"
            )
            raise NotFound(f"there is no generation {generation}: {known}")
        raise NotFound(f"generation {generation} is older than the history that is kept")
    try:
        entry = HistoryEntry.decode(item.value)
    except BundleError as error:
        raise BundleError(
            f"the history entry of generation {generation} ({item.key!r}) is damaged: {error}"
        ) from None
    if entry.generation != generation:
        raise BundleError(
            f"the history entry of generation {generation} ({item.key!r}) is that of generation "
            f"{entry.generation}: someone replaced it"
        )
    return entry


def read_history(store: Store, warn: Callable[[str], None] | None = None) -> list[HistoryEntry]:
    """Return every kept generation, newest first.

    With ``warn``, an entry that cannot be read is left out, and ``warn`` gets a message.

    :raises BundleError: an entry cannot be read, and there is no ``warn``.
    """
    items = store.list(HISTORY).items
    return list(_records(HistoryEntry, reversed(items), warn))


def read_rollouts(
    store: Store, warn: Callable[[str], None] | None = None
) -> dict[int, RolloutRecord]:
    """Return every kept rollout record, by the generation of its candidate.

    See ``read_history`` for records that cannot be read.
    """
    records = _records(RolloutRecord, store.list(ROLLOUTS).items, warn)
    return {record.generation: record for record in records}


def read_past_resets(store: Store, warn: Callable[[str], None] | None = None) -> list[PastReset]:
    """Return every kept reset of the history, newest first.

    An entry that cannot be read is left out, and ``warn`` gets a message.
    """
    return list(readable(PastReset, reversed(store.list(PAST_RESETS).items), warn))


def _records(
    kind: type[R], items: Iterable[Item], warn: Callable[[str], None] | None
) -> Iterator[R]:
    if warn is not None:
        yield from readable(kind, items, warn)
        return
    for item in items:
        try:
            yield kind.decode(item.value)
        except BundleError as error:
            raise BundleError(
                f"{item.key} is damaged ({error}); commands that name a generation do not need "
                "it: `ratectl rollback --to N`"
            ) from None


def lived(store: Store) -> list[HistoryEntry]:
    """Return every kept generation that went live, newest first."""
    tried = read_rollouts(store)
    return [
        entry
        for entry in read_history(store)
        if entry.generation not in tried or tried[entry.generation].state == "promoted"
    ]


def read_blob(store: Store, sha256: str) -> bytes:
    """Return a blob's bytes, after a check of their size and hash.

    :raises NotFound: it is not stored.
    :raises BundleError: the stored bytes are incomplete or have another hash.
    """
    item = store.get(MANIFESTS + sha256)
    if item is None:
        raise NotFound(f"bundle {sha256[:12]} is not in the store")
    manifest = read_manifest(item)
    if not 0 <= manifest.size <= MAX_BUNDLE_BYTES:
        raise BundleError(f"bundle {sha256[:12]} says it has {manifest.size} bytes")
    chunks = store.list(f"{BUNDLES}{sha256}/").items
    data = b"".join(chunk.value for chunk in chunks)
    if len(chunks) != manifest.chunks or len(data) != manifest.size:
        raise BundleError(
            f"bundle {sha256[:12]} is incomplete: {len(data)} of {manifest.size} bytes in "
            f"{len(chunks)} of {manifest.chunks} chunks"
        )
    if digest(data) != sha256:
        raise BundleError(f"bundle {sha256[:12]} is corrupt: its bytes hash to {digest(data)[:12]}")
    return data


def read_manifest(item: Item) -> Manifest:
    """Return the manifest of a blob.

    :raises BundleError: it cannot be read; the message names its key.
    """
    try:
        return Manifest.decode(item.value)
    except BundleError as error:
        raise BundleError(
            f"{item.key} is damaged ({error}): apply the policies that it belongs to again, which "
            "replaces it"
        ) from None


def read_tree(store: Store, entry: HistoryEntry) -> PolicyTree:
    """Return the policies of a generation, with their origins where these are known."""
    return read_encoded(store, entry.bundle, entry.origins).tree


def read_encoded(store: Store, bundle: str, origins: str | None = None) -> EncodedTree:
    """Return the policies at an address, with their bytes, and with origins where these are known.

    :raises NotFound, BundleError: the bundle cannot be read. Unreadable origins are left out.
    """
    data = read_blob(store, bundle)
    tree = decode_policies(data)
    if origins is not None:
        with suppress(NotFound, BundleError):
            tree = replace(tree, sources=decode_origins(read_blob(store, origins)))
    return EncodedTree(tree, data, bundle)
