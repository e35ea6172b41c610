"""Write the head with one compare-and-swap, and find out its outcome if the reply is lost.

A publisher repeats nothing of a head that it must not continue (see ``signing.continuation``): the
head that replaces it gets fresh numbers.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ratectl.errors import BundleError, Conflict, NotFound, OutcomeUnknown, StoreUnavailable
from ratectl.history.generations import (
    LEAP,
    Fresh,
    highest_generation,
    live_entry,
    read_after,
    read_base,
    read_entry,
)
from ratectl.publishing.ownership import Owners, read_owners
from ratectl.records import HEAD, MAX_GENERATION, Head, history_key
from ratectl.signing.continuation import (
    check_identity,
    doubt,
    doubt_newest,
    fresh_sequence,
    read_environment,
    refused,
    signature,
)
from ratectl.stores.base import Compare, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.history.generations import Live
    from ratectl.records import HistoryEntry, RolloutRecord
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Op, Store

__all__ = [
    "lost_race",
    "must_continue",
    "owners_to_respect",
    "publishing_base",
    "signed",
    "swap_head",
]

_READ_BACK_SECONDS: Final = 3.0
_APPLY: Final = "Apply its files with this key first"


def publishing_base(store: Store, signer: Signer | None = None, base: Live | None = None) -> Live:
    """Return the head that a publisher is about to replace, with ``fresh`` numbers if needed.

    The history entry of the live generation, which names the owners, is judged with it.

    ``base``: the head that the publisher saw (default: read now). It is judged once: a publication
    that was to continue a head must not start afresh later.

    :raises Untrusted: the key is for another environment, or the store has lost its identity.
    :raises BundleError: no number is left for a generation.
    """
    if signer is not None:
        check_identity(store, signer)
    base = base or read_base(store)
    if base.judged:
        return base
    entry, damage = _live_entry(store, signer, base)
    why, numbers = _discontinued(store, signer, base) or damage, None
    if why is not None:
        # Without a key, anybody may have written the head: its sequence does not count.
        old = [base.head] if signer and base.head else []
        numbers = Fresh(
            fresh_sequence(store, Head, signer, old), _fresh_generation(store, base), why
        )
    # An attacker can delete head, history and identity, and put the identity back later.
    first = 1 if signer is None or base.head else fresh_sequence(store, Head, signer, ())
    return replace(base, fresh=numbers, first=first, judged=True, entry=entry)


def _live_entry(
    store: Store, signer: Signer | None, base: Live
) -> tuple[HistoryEntry | None, str | None]:
    """Return the history entry of the live generation, and why it must not be continued.

    A signer of a head also signs the history entry of its generation. Without keys, the entry may
    be older than the kept history.
    """
    if base.head is None:
        return None, None
    try:
        entry = live_entry(store, base)
    except NotFound:
        key = history_key(base.generation)
        gone = f"the history entry of generation {base.generation} ({key!r}) is gone"
        return None, None if signer is None else gone
    except BundleError as error:
        return None, str(error)
    why = None if signer is None else doubt(store, signer, entry)
    return entry, why and f"the history entry of generation {entry.generation}: {why}"


def _discontinued(store: Store, signer: Signer | None, base: Live) -> str | None:
    """Return why the next head must not continue this one; None where it may."""
    if base.unreadable is not None:
        return base.unreadable
    if base.head is None:
        return _deleted(store, signer)
    if signer is not None:
        return doubt_newest(store, signer, base.head, base.mod_revision) or _outdated(
            store, signer, base.head
        )
    latest = base.head.latest
    if store.get(history_key(latest)) is None and latest > highest_generation(store) + LEAP:
        return f"it says that generation {latest} was the last, and the history ends before"
    return None


def _deleted(store: Store, signer: Signer | None) -> str | None:
    """Return the evidence that there was a head; None if there is none."""
    if highest_generation(store):
        return "there is a history and no head: somebody deleted it"
    record = None if signer is None else read_environment(store)
    if record is None:
        return None
    why = "if anything was ever published, somebody deleted it"
    if record.name:
        why = (
            "it was protected before the first publication, or somebody deleted what was published"
        )
    return f"the store has an identity, and neither a head nor a history: {why}"


def _outdated(store: Store, signer: Signer, head: Head) -> str | None:
    """Return the later generation that this key has signed; None if there is none."""
    later = (entry for entry in read_after(store, head.latest) if not doubt(store, signer, entry))
    entry = next(later, None)
    if entry is None:
        return None
    return (
        f"it says that generation {head.latest} was the last, and this key has signed generation "
        f"{entry.generation}: an old head was put back"
    )


def _fresh_generation(store: Store, base: Live) -> int:
    """Return the number after the last one. A forged head cannot raise it by more than ``LEAP``."""
    highest = highest_generation(store)
    latest = base.head.latest if base.head else 0
    if highest < latest <= highest + LEAP:
        highest = latest
    if highest >= MAX_GENERATION:
        raise BundleError(
            f"the history holds generation {highest}, and no number is left after it: delete "
            f"{history_key(highest)!r} from the store, which nobody published"
        )
    return highest + 1


def owners_to_respect(store: Store, live: Live, signer: Signer | None) -> tuple[Owners, str | None]:
    """Return the owners of a judged head, and why they do not count if they do not.

    Owners do not count if they cannot be read, or if the key of ``signer`` has not signed them, so
    that anybody may have written them. Then they do not prevent publishing a whole tree.
    """
    named = f"the ownership of generation {live.generation}"
    try:
        entry = live_entry(store, live) if live.head else None
        owners = read_owners(store, entry.owners if entry else None)
    except NotFound as error:
        return Owners(), f"{named} is gone: {error}"
    except BundleError as error:
        return Owners(), f"{named} cannot be read: {error}"
    why = doubt(store, signer, entry) if signer and entry and owners else None
    if why is None:
        return owners, None
    return Owners(), f"{named} (sets {', '.join(owners.sets)}) is ignored: {why}"


def must_continue(base: Live) -> None:
    """Return if the live head may be repeated in the next one.

    :raises Untrusted: it may not.
    """
    if base.fresh is not None:
        raise refused("the live generation", base.fresh.because, _APPLY)


def signed(store: Store, head: Head, signer: Signer | None) -> Head:
    """Return a head with the signature of ``signer``, or with none.

    :raises Untrusted: the key is for another environment, or the store has lost its identity.
    """
    return replace(head, signature=signature(store, signer, head))


def swap_head(
    store: Store,
    base: Live,
    head: Head,
    key: str,
    record: HistoryEntry | RolloutRecord,
    others: Sequence[Op] = (),
    compare: Sequence[Compare] = (),
) -> bool:
    """Put ``head`` in the place of ``base``, and write ``record`` and others with it.

    Return False if the head had changed. If the reply was lost, the record's ``request`` tells
    whose write is in the store.

    :raises OutcomeUnknown: the reply was lost, and re-reading did not settle it.
    """
    write = [Put(HEAD, head.encode()), Put(key, record.encode()), *others]
    try:
        return store.txn([Compare(HEAD, base.mod_revision), *compare], write).ok
    except OutcomeUnknown as lost:

        def landed() -> bool | None:
            """None if neither this write nor another one is there yet."""
            item = store.get(key)
            if item is not None and type(record).decode(item.value).request == record.request:
                return True
            return None if read_base(store).mod_revision == base.mod_revision else False

        return _settle(landed, head, lost)


def _settle(landed: Callable[[], bool | None], head: Head, lost: OutcomeUnknown) -> bool:
    """Find out by reading whether a write whose reply was lost has been applied."""
    deadline = time.monotonic() + _READ_BACK_SECONDS
    while True:
        try:
            found = landed()
            if found is not None:
                return found
        except StoreUnavailable:
            pass
        if time.monotonic() >= deadline:
            raise OutcomeUnknown(
                f"generation {head.latest} may or may not have been published ({lost}); "
                "see `ratectl history`. Applying again is safe."
            ) from lost
        time.sleep(0.1)


def lost_race(store: Store, base: Live, again: str) -> Conflict:
    """Return the error for a publisher whose base is no longer the head. ``again``: its advice."""
    now = read_base(store)
    if now.head is None:
        return Conflict(f"generation {base.generation} was live, now none is: the head is gone")
    if now.generation == base.generation:
        return Conflict(
            f"a rollout was started or ended meanwhile, beside generation {base.generation}: "
            f"look at `ratectl rollout status` and {again}"
        )
    try:
        winner = read_entry(store, now.generation)
        what = f"generation {winner.generation} ({winner.action} by {winner.author}, {winner.time})"
    except NotFound:
        what = f"generation {now.generation}"
    return Conflict(
        f"{what} was published meanwhile; this was based on "
        f"{f'generation {base.generation}' if base.head else 'an empty store'}: "
        f"look at the change and {again}"
    )
