"""Writing the head: one compare-and-swap, whose outcome is known even if its reply is lost."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ratectl.errors import Conflict, NotFound, OutcomeUnknown, StoreUnavailable
from ratectl.generations import read_entry, read_live
from ratectl.records import ENVIRONMENT, HEAD, Environment, utc_now
from ratectl.signing import Untrusted
from ratectl.stores.base import Compare, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.generations import Live
    from ratectl.records import Head
    from ratectl.signing import Signer
    from ratectl.stores.base import Op, Store

__all__ = ["ensure_environment", "lost_race", "signed", "swap_head"]

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
    if signer is None:
        return replace(head, signature=None)
    environment = ensure_environment(store).id
    signer.check(environment)
    if of is not None and not signer.has_signed(
        "head", environment, of.signed_part(), of.signature
    ):
        raise Untrusted(
            "what is live would be signed as well, and cannot be vouched for: it was not signed by "
            "this key, or was changed since. Apply its files with this key first"
        )
    return replace(head, signature=signer.sign("head", environment, head.signed_part()))


def swap_head(
    store: Store,
    base: Live,
    head: Head,
    others: Sequence[Op] = (),
    compare: Sequence[Compare] = (),
    *,
    landed: Callable[[], bool | None] | None = None,
) -> bool:
    """Put ``head`` in the place of ``base``, and write ``others`` with it; False if that failed.

    ``landed`` is asked when the reply was lost: whether this write is in the store (None: neither
    it nor another is). Without it the head itself tells.

    :raises OutcomeUnknown: the reply was lost, and re-reading did not settle it.
    """
    try:
        return store.txn(
            [Compare(HEAD, base.mod_revision), *compare], [Put(HEAD, head.encode()), *others]
        ).ok
    except OutcomeUnknown as lost:

        def head_landed() -> bool | None:
            now = read_live(store)
            return None if now.mod_revision == base.mod_revision else now.head == head

        return _settle(landed or head_landed, head, lost)


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


def lost_race(store: Store, base: Live) -> Conflict:
    """What to say to somebody whose base is not the head any more."""
    now = read_live(store)
    if now.head is None:
        return Conflict(f"generation {base.generation} was live, now none is: the head is gone")
    if now.generation == base.generation:
        return Conflict(
            f"a rollout was started or ended meanwhile, beside generation {base.generation}: "
            "look at `ratectl rollout status` and apply again"
        )
    try:
        winner = read_entry(store, now.generation)
        what = f"generation {winner.generation} ({winner.action} by {winner.author}, {winner.time})"
    except NotFound:
        what = f"generation {now.generation}"
    return Conflict(
        f"{what} was published meanwhile; this was based on "
        f"{f'generation {base.generation}' if base.head else 'an empty store'}: "
        "look at the change and apply again"
    )
