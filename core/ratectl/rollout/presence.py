"""Being in control of a rollout: a key under a lease, which agents watch."""

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
    """Somebody else is in control, or nobody can be."""


def controller_of(store: Store, rollout: str | None = None) -> Controller | None:
    """Who is in control of a rollout (by its id; None for any) now, as far as anybody can tell."""
    item = store.get(CONTROLLER)
    found = None if item is None else _read(item)
    return found if found is not None and rollout in (None, found.rollout) else None


def _read(item: Item) -> Controller | None:
    with suppress(BundleError):
        return Controller.decode(item.value)
    return None


class Presence:
    """Keeps the key there, from ``keep`` to ``leave``."""

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
        """Call every second or so. True while in control; False while another one may be dead.

        :raises Deposed: somebody else is in control, for longer than a dead one could be.
        :raises StoreError: nobody can tell now.
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
        """What ``keep`` waits for where it is false.

        :raises StoreError: nobody can tell now.
        """
        who = controller_of(self._store) or "another controller"
        return f"waiting to see whether {who} is still there, which controls it"

    def leave(self) -> None:
        """Give the key up; if the store is out of reach, it goes by itself."""
        if self._lease is not None:
            with suppress(StoreError):
                self._lease.revoke()

    def _claim(self) -> bool:
        item = self._store.get(CONTROLLER)
        # One's own is left from a write whose reply was lost: under a lease that nobody renews.
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
        return f"{other} controls a rollout since {other.since}"
