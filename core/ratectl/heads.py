"""Writing the head: one compare-and-swap, whose outcome is known even if its reply is lost."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ratectl.errors import Conflict, NotFound, OutcomeUnknown, StoreUnavailable
from ratectl.generations import read_entry, read_live
from ratectl.records import ENVIRONMENT, HEAD, Environment, utc_now
from ratectl.signing import Untrusted
from ratectl.stores.base import Compare, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ratectl.generations import Live
    from ratectl.records import Head, HistoryEntry, RolloutRecord
    from ratectl.signing import Signer
    from ratectl.stores.base import Op, Store

__all__ = ["ensure_environment", "lost_race", "signature", "signed", "swap_head", "vouch"]

_READ_BACK_SECONDS: Final = 3.0


def ensure_environment(store: Store) -> Environment:
    """The store's identity, given to it now if it has none."""
    for _ in range(2):
        item = store.get(ENVIRONMENT)
        if item is not None:
            return Environment.decode(item.value)
        fresh = Environment(id=uuid.uuid4().hex, created=utc_now())
        store.txn([Compare(ENVIRONMENT, 0)], [Put(ENVIRONMENT, fresh.encode())])
    raise StoreUnavailable(store.url, "the environment's identity did not stay written")


def signed(store: Store, head: Head, signer: Signer | None, of: Head | None = None) -> Head:
    """The same head, signed where somebody signs.

    ``of``: the head that part of it was taken from. That has to be signed by the same key: to sign
    what anybody may have written would be to say it.

    :raises Untrusted: it is not, or the store is another environment's.
    """
    if signer is not None and of is not None:
        vouch(store, signer, "head", of, "what is live", "Apply its files with this key first")
    return replace(head, signature=signature(store, signer, "head", head.signed_part()))


def signature(
    store: Store, signer: Signer | None, kind: str, said: Mapping[str, Any]
) -> str | None:
    """The signature of what is said in this store; None where nobody signs.

    :raises Untrusted: the key is for another environment.
    """
    return None if signer is None else signer.sign(kind, ensure_environment(store).id, said)


def vouch(
    store: Store, signer: Signer, kind: str, of: Head | HistoryEntry, what: str, remedy: str
) -> None:
    """Return if the key has signed what is about to be signed once more.

    :raises Untrusted: it has not, or is for another environment.
    """
    environment = ensure_environment(store).id
    signer.check(environment)
    if not signer.has_signed(kind, environment, of.signed_part(), of.signature):
        raise Untrusted(
            f"{what} would be signed as well, and cannot be vouched for: it was not signed by this "
            f"key, or was changed since. {remedy}"
        )


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

    False if that failed. Where the reply was lost, the record's ``request`` tells whose write it is
    that is in the store.

    :raises OutcomeUnknown: the reply was lost, and re-reading did not settle it.
    """
    write = [Put(HEAD, head.encode()), Put(key, record.encode()), *others]
    try:
        return store.txn([Compare(HEAD, base.mod_revision), *compare], write).ok
    except OutcomeUnknown as lost:

        def landed() -> bool | None:
            """None where neither this write nor another is there yet."""
            item = store.get(key)
            if item is not None and type(record).decode(item.value).request == record.request:
                return True
            return None if read_live(store).mod_revision == base.mod_revision else False

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
    """What to say to somebody whose base is not the head any more; ``again``: what to do then."""
    now = read_live(store)
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
