"""Order a reset in a store."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.environments.protection import place_of
from ratectl.errors import (
    BundleError,
    Conflict,
    OutcomeUnknown,
    Refused,
    StoreUnavailable,
    UsageError,
)
from ratectl.history.generations import read_base
from ratectl.records import PAST_RESETS, past_reset_key, utc_now, utc_text
from ratectl.resets.orders import EXPIRES, LONGEST, MAX_RESETS, MAX_TEXT, RESETS, Reset, Resets
from ratectl.signing.continuation import fresh_sequence, require_signer, signature
from ratectl.stores.base import Compare, Delete, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratectl.environments import Target
    from ratectl.resets.finding import FoundKey
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Item, Store

__all__ = ["Order", "Ordered", "new_order", "order_reset"]

_ATTEMPTS: Final = 20
_KEPT: Final = 1_000
"""Resets that the history keeps."""
_DELETED: Final = 50
"""Most entries of the history that one reset deletes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A reset that is to be ordered."""

    scope: str
    limit: str
    budget: bool
    key: Mapping[str, str | None]
    reason: str
    author: str
    lasts: timedelta
    """Time for which agents obey it."""


class Ordered(NamedTuple):
    """A reset that was ordered."""

    reset: Reset
    discarded: str | None
    """Problem of the record in the store, which was replaced; None without one."""


def new_order(found: FoundKey, reason: str, author: str, lasts: timedelta = EXPIRES) -> Order:
    """Return the order to reset a key.

    :raises UsageError: the reason is empty or too long, or the time is not up to ten minutes.
    """
    reason = reason.strip()
    if not reason:
        raise UsageError("--reason is empty: write a reason, which other people see")
    if len(reason) > MAX_TEXT:
        raise UsageError(f"--reason has {len(reason)} characters, more than {MAX_TEXT}")
    if not timedelta(seconds=1) <= lasts <= LONGEST:
        error = UsageError(
            "a reset is obeyed for a second at least, and ten minutes at most, "
            f"not for {lasts.total_seconds():g} s"
        )
        error.add_note("write a duration from 1s to 10min, like --expires 5min")
        raise error
    return Order(
        scope=found.scope,
        limit=found.limit.name,
        budget=found.budget,
        key=found.key,
        reason=reason,
        author=author[:MAX_TEXT],
        lasts=lasts,
    )


def order_reset(
    store: Store,
    order: Order,
    *,
    target: Target | None = None,
    signer: Signer | None = None,
    confirmed: str | None = None,
    before_write: Callable[[], object] = lambda: None,
) -> Ordered:
    """Write a reset that every running agent obeys once, and its entry in the history.

    ``confirmed``: name of the environment, from whoever confirmed this. ``before_write`` is called
    when every check has passed. Others may order resets at the same time.

    :raises Unconfirmed: the environment needs its name as confirmation.
    :raises Refused: a signature is needed, or too many resets have not expired.
    :raises Untrusted: the key is for another environment.
    :raises Conflict: others wrote at every attempt.
    :raises OutcomeUnknown: the reply was lost, and reading again did not show the outcome.
    """
    place = place_of(store, target)
    place.require_confirmed(confirmed)
    place.require_signer(signer)
    require_signer(store, read_base(store).head, signer)
    before_write()
    return _write(store, order, signer)


def _write(store: Store, order: Order, signer: Signer | None) -> Ordered:
    """Write the reset; try again if others have written meanwhile, or a reply was lost."""
    request = uuid.uuid4().hex
    lost: OutcomeUnknown | None = None
    for _ in range(_ATTEMPTS):
        try:
            item = store.get(RESETS)
        except StoreUnavailable as error:
            raise lost or error from None
        known, discarded = _known(item)
        written = next((each for each in known.all if each.request == request), None)
        if written is not None:  # by an attempt whose reply was lost
            return Ordered(written, discarded)
        after, reset = _with(store, known, order, request, signer)
        compare = Compare(RESETS, item.mod_revision if item else 0)
        entry = Put(past_reset_key(reset.sequence), reset.past().encode())
        try:
            if store.txn([compare], [Put(RESETS, after.encode()), entry, *_oldest(store)]).ok:
                return Ordered(reset, discarded)
        except OutcomeUnknown as error:
            lost = error  # the next read shows if it was written
    raise Conflict("others reset buckets at the same time: try again")


def _known(item: Item | None) -> tuple[Resets, str | None]:
    """Return the list in the store, and why it cannot be read: then it counts as empty."""
    if item is None:
        return Resets(), None
    try:
        return Resets.decode(item.value), None
    except BundleError as error:
        return Resets(), str(error)


def _with(
    store: Store, known: Resets, order: Order, request: str, signer: Signer | None
) -> tuple[Resets, Reset]:
    """Return the list with the reset, without what is over, and the reset itself.

    :raises Refused: the list would be too long.
    :raises UsageError: it is no reset that agents can read.
    """
    now = utc_now()
    began = datetime.fromisoformat(now)
    current = known.current(began)
    reset = Reset(
        sequence=fresh_sequence(store, Reset, signer, reversed(known.all)),
        scope=order.scope,
        limit=order.limit,
        budget=order.budget,
        key=dict(order.key),
        reason=order.reason,
        author=order.author,
        time=now,
        expires=utc_text(began + order.lasts),
        request=request,
    )
    reset = replace(reset, signature=signature(store, signer, reset))
    after = current.having(reset)
    if len(after.all) > MAX_RESETS:
        raise Refused(f"{MAX_RESETS} resets have not expired yet: wait some minutes")
    try:
        Resets.decode(after.encode())  # as agents will
    except BundleError as error:
        raise UsageError(f"agents would not obey this reset: {error}") from None
    return after, reset


def _oldest(store: Store) -> list[Delete]:
    """Return deletes of the oldest entries of the history, beyond those that are kept."""
    items = store.list(PAST_RESETS).items
    beyond = max(0, len(items) + 1 - _KEPT)
    return [Delete(item.key) for item in items[: min(beyond, _DELETED)]]
