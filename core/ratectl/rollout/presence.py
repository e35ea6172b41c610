"""Presence of a rollout's controller: a key under a lease, which agents watch."""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ratectl.errors import BundleError, StoreError
from ratectl.records import CONTROLLER, Controller, utc_now
from ratectl.stores.base import Compare, Put

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.stores.base import Item, Lease, Store

__all__ = ["LEASE_SECONDS", "Deposed", "Presence", "controller_of"]

LEASE_SECONDS: Final = 10.0
_RENEW_SECONDS: Final = 3.0


class Deposed(Exception):
    """Raised when another controller has the rollout, or its terms were changed."""


def controller_of(store: Store, rollout: str | None = None) -> Controller | None:
    """Return the present controller of a rollout (by id; None for any); None if there is none."""
    item = store.get(CONTROLLER)
    found = None if item is None else _read(item)
    return found if found is not None and rollout in (None, found.rollout) else None


def _read(item: Item) -> Controller | None:
    with suppress(BundleError):
        return Controller.decode(item.value)
    return None


class Presence:
    """Holds the controller's key, from the first ``keep`` until ``leave``."""

    def __init__(self, store: Store, rollout: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._mine = Controller(
            rollout=rollout,
            host=socket.gethostname(),
            pid=os.getpid(),
            since=utc_now(),
            nonce=uuid.uuid4().hex,
        )
        self._lease: Lease | None = None
        self._renewed = 0.0
        self._tried_until = clock() + LEASE_SECONDS + 1

    def keep(self) -> bool:
        """Claim or renew the key; to be called about every second. Return True while in control.

        False while another controller has the key, which may be dead (its lease has not ended yet).

        :raises Deposed: another controller has the key for longer than the lease of a dead one.
        :raises StoreError: the store does not answer.
        """
        now = self._clock()
        if self._lease is not None:
            if now - self._renewed < _RENEW_SECONDS:
                return True
            if self._lease.renew() and self._is_mine(self._store.get(CONTROLLER)):
                self._renewed = now
                return True
            self._lease, self._tried_until = None, now
        if self._claim():
            return True
        if now >= self._tried_until:
            raise Deposed(self._other())
        return False

    def doubt(self) -> str:
        """Return a text about what ``keep`` waits for while it returns False.

        :raises StoreError: the store does not answer.
        """
        who = controller_of(self._store) or "another process"
        return f"waiting to see if its controller, {who}, is still alive"

    def leave(self) -> None:
        """Delete the key; if the store does not answer, the key ends with its lease."""
        if self._lease is not None:
            with suppress(StoreError):
                self._lease.revoke()

    def _claim(self) -> bool:
        item = self._store.get(CONTROLLER)
        # This controller's own key, from a write whose reply was lost, has a lease without renewal.
        free = item is None or self._is_mine(item)
        if not free:
            return False
        lease = self._store.lease(LEASE_SECONDS)
        compare = Compare(CONTROLLER, item.mod_revision if item else 0)
        put = Put(CONTROLLER, self._mine.encode(), lease)
        claimed = self._store.txn([compare], [put]).ok
        if claimed:
            self._lease, self._renewed = lease, self._clock()
        else:
            lease.revoke()
        return claimed

    def _is_mine(self, item: Item | None) -> bool:
        known = None if item is None else _read(item)
        return known is not None and known.nonce == self._mine.nonce

    def _other(self) -> str:
        other = controller_of(self._store)
        if other is None:
            return "another controller was here until now: try again"
        return f"{other} has controlled a rollout since {other.since}"
