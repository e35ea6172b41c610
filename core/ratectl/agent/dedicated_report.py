"""Reports of a dedicated owner: how full the limits are that it owns."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from ratectl.agent.log import log
from ratectl.agent.report import LEASE_SECONDS
from ratectl.agent.usage.history import RECENT_SECONDS, empty_minutes
from ratectl.agent.usage.pools import OwnedHistories
from ratectl.agent.usage.record import pool_record
from ratectl.errors import RatectlError
from ratectl.records import USAGE, UsageRecord, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.cluster.owned import OwnedLimit
    from ratectl.stores.base import Lease, Store

__all__ = ["DedicatedReport"]

_EVERY: Final = 5.0
"""Seconds between two reports,"""
_LOOK_EVERY: Final = 1.0
"""and between two looks while the process owns nothing."""


class DedicatedReport:
    """Writes a usage record every few seconds, while the process owns limits.

    A thread of its own: the store may be slow.

    :param name: id of the record. Agents look for it by the beginning of the member's id.
    :param owned: returns what the process pools, since the last call.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        name: str,
        owned: Callable[[], Sequence[OwnedLimit]],
    ) -> None:
        self._open_store = open_store
        self._name = name
        self._owned = owned
        self._histories = OwnedHistories()
        self._since = utc_now()
        self._lease: Lease | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ratectl-report", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Remove the record and end the thread. Safe to call twice."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(_EVERY)

    def _run(self) -> None:
        """Report until ``close``. Never raises."""
        problem = ""
        while not self._stopped.is_set():
            try:
                self._report_to_store()
            except RatectlError as error:
                if str(error) != problem:
                    problem = str(error)
                    log.warning("`ratectl usage` does not show this owner: %s", problem)
            except Exception as error:  # noqa: BLE001  the thread must survive any error
                log.error("reporting failed unexpectedly", exc_info=error)
            self._lease = None
            self._stopped.wait(_EVERY)

    def _report_to_store(self) -> None:
        """Report until ``close``, or until the store fails."""
        store = self._open_store()
        try:
            while not self._stopped.is_set():
                self.step(store)
                self._stopped.wait(_LOOK_EVERY if self._lease is None else _EVERY)
            if self._lease is not None:
                self._lease.revoke()
        finally:
            store.close()

    def step(self, store: Store) -> None:
        """Write a report if the process owns limits; otherwise remove the last one.

        :raises RatectlError: the store did not answer.
        """
        record = self._record()
        lease = self._lease
        if lease is not None and not lease.renew():
            lease = self._lease = None
        if not record.pools:
            if lease is not None:
                lease.revoke()
            self._lease = None
            return
        if lease is None:
            lease = self._lease = store.lease(LEASE_SECONDS)
        store.put(USAGE + self._name, record.encode(), lease)

    def _record(self) -> UsageRecord:
        now = time.monotonic()
        pools = self._histories.read(self._owned(), now, None, empty_minutes(now))
        return pool_record(
            UsageRecord(
                id=self._name, generation=0, since=self._since, reported=utc_now(),
                recent_seconds=RECENT_SECONDS, limits=[], omitted=0, no_policy=0, errors=0,
                buckets=0, overflowed=0, dedicated=True,
            ),
            pools,
        )  # fmt: skip
