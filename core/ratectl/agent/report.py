"""Reports of an agent to the store: the generation that it enforces, and its counts."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ratectl.agent.log import log
from ratectl.agent.own_record import OwnRecord
from ratectl.agent.usage.record import usage_record
from ratectl.errors import RatectlError
from ratectl.records import BEATS, ID_PARTS, USAGE, AgentRecord, Beat, UsageRecord, utc_now
from ratectl.records.reading import readable
from ratectl.runtime.clock import monotonic
from ratectl.runtime.cooperative import cooperative
from ratectl.stores.base import Put
from ratectl.version import __version__

if TYPE_CHECKING:
    from ratectl.agent.failures import Failures
    from ratectl.agent.origins import Origins
    from ratectl.agent.shadow import ShadowEvaluator
    from ratectl.agent.state import AgentState, AgentStatus
    from ratectl.agent.sync import StoreSync
    from ratectl.agent.usage.meter import UsageMeter
    from ratectl.agent.wall_clock import WallClock
    from ratectl.engine.api import Engine
    from ratectl.stores.base import Lease, Store

__all__ = ["Reporter"]


LEASE_SECONDS: Final = 15.0
"""Lease of an agent's records: the store deletes them so long after the last renewal."""

_HEAR_FOR_EACH: Final = 0.05
"""Members read the owner's report at most 20 times in a second, all together."""
_HEARD: Final = 10.0
"""Seconds for which a report is valid beyond the time of the next look."""
_RENEW_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.5


class Reporter:
    """Writes ``agents/<id>`` at once when something changes, and ``usage/<id>`` every interval."""

    def __init__(
        self,
        *,
        agent_id: str,
        instance: str,
        sync: StoreSync,
        engine: Engine,
        state: AgentState,
        wall: WallClock,
        failures: Failures,
        meter: UsageMeter,
        interval: float,
        shadow: ShadowEvaluator,
        origins: Origins,
    ) -> None:
        self._id = agent_id
        self._instance = instance
        self._own = OwnRecord(agent_id, instance)
        self._sync = sync
        self._engine = engine
        self._state = state
        self._wall = wall
        self._failures = failures
        self._interval = interval
        self._shadow = shadow
        self._origins = origins
        self._stop = threading.Event()
        self._lease: Lease | None = None
        self._renewed = 0.0
        self._reported: AgentStatus | None = None
        self._reported_errors = 0
        self._failing_since: float | None = None
        self._usage_due = self._hear_due = 0.0
        self._started = utc_now()
        self._meter = meter

    def run(self) -> None:
        """Report until ``stop``. Never raises."""
        while not self._stop.is_set():
            self._state.problem("decisions", self._failures.problem())
            seen = self._state.now
            self._wall.refresh()
            self._report(seen)
            self._sync.look_again()
            self._origins.read_if_wanted(self._sync.store)
            due = max(0.05, min(self._usage_due, self._renewed + _RENEW_SECONDS) - monotonic())
            self._state.wait_for_change(seen, min(due, self._interval))

    def _report(self, status: AgentStatus) -> None:
        store = self._sync.store
        if store is None:
            return
        try:
            lease = self._living_lease(store)
            due = monotonic() >= self._usage_due
            if status is not self._reported or (
                due and self._failures.count != self._reported_errors
            ):
                due = self._report_status(store, status, lease) and due
            self._hear_owners(store)
            self._succeeded(wrote=due and self._report_usage(store, lease))
        except RatectlError as error:
            log.debug("reporting: %s", error)
            self._fail(error)
            self._restart(_RETRY_SECONDS if error.transient else _RENEW_SECONDS)
        except Exception as error:  # noqa: BLE001  the thread must survive any error
            self._fail_unexpectedly(error)
            self._restart(self._interval)

    def _report_status(self, store: Store, status: AgentStatus, lease: Lease) -> bool:
        """Write the agent's record. Return False if another process holds it."""
        record = self._record(status)
        written = self._own.write(store, record, lease)
        self._state.problem("id", self._own.problem)
        if written:
            self._reported, self._reported_errors = status, record.errors
        else:
            self._usage_due = monotonic() + self._interval
        return written

    def _succeeded(self, *, wrote: bool) -> None:
        if wrote:
            self._state.contact(reported=True)
        if self._failing_since is not None:
            self._failing_since = None
            self._state.problem("report", None)

    def _fail(self, error: RatectlError) -> None:
        """Report that reports fail, unless the store does not answer at all.

        The watch reports an outage, and ``look`` a store that refuses reads. Reported here is a
        store that can be read and not written, by this user or by all.
        """
        now = monotonic()
        if self._failing_since is None:
            self._failing_since = now
            if not error.transient:
                self._sync.look()
        lasting = not error.transient or now - self._failing_since > _RENEW_SECONDS
        if lasting and self._state.now.connected:
            self._state.problem(
                "report", f"`ratectl agents` does not show this agent: it cannot report: {error}"
            )

    def _fail_unexpectedly(self, error: Exception) -> None:
        """Report an error of this program, and log its traceback once."""
        if self._failing_since is None:
            self._failing_since = monotonic()
            log.error("reporting failed unexpectedly", exc_info=error)
        self._state.problem(
            "report",
            "`ratectl agents` and `ratectl usage` do not show all of this agent: its reports fail: "
            f"{type(error).__name__}: {error}",
        )

    def _restart(self, seconds: float) -> None:
        """Report everything again after ``seconds``, under a new lease: the old one may end."""
        self._lease = self._reported = None
        self._usage_due = self._renewed = monotonic() + seconds

    def _living_lease(self, store: Store) -> Lease:
        lease = self._lease
        if lease is not None and monotonic() >= self._renewed + _RENEW_SECONDS:
            if not lease.renew():
                lease = None
            self._renewed = monotonic()
        if lease is None:
            self._reported = None
            lease = store.lease(LEASE_SECONDS)
            self._renewed = monotonic()
            self._usage_due = 0.0
        self._lease = lease
        return lease

    def _report_usage(self, store: Store, lease: Lease) -> bool:
        """Write usage and beat. Return False if the agent's record is no longer as it was."""
        with cooperative():
            record = usage_record(self._meter.read(self._id))
        record = replace(record, beside=self._shadow.report())
        beat = self._beat(record)
        result = store.txn(
            [self._own.held],
            [
                Put(USAGE + self._id, record.encode(), lease),
                Put(BEATS + self._id, beat.encode(), lease),
            ],
        )
        if not result.ok:
            self._reported = None  # the next round looks who wrote or deleted it
            return False
        self._usage_due = monotonic() + self._interval
        return True

    def _hear_owners(self, store: Store) -> None:
        """Read how full limits across the cluster are, from the reports of their owners."""
        shared = self._meter.shared
        owners = () if shared is None or monotonic() < self._hear_due else shared.owners()
        if not owners:
            return
        pause = max(self._interval, owners[0].members * _HEAR_FOR_EACH)
        self._hear_due = monotonic() + pause
        with suppress(RatectlError):  # the use is unknown then; reports go on
            records = [_report_of(owner.agent, store) for owner in owners]
            found = [record for record in records if record is not None]
            if found:
                self._meter.hear(found, pause + _HEARD)

    def _beat(self, record: UsageRecord) -> Beat:
        decided = self._meter.decided
        return Beat(
            id=record.id,
            generation=record.generation,
            since=record.since,
            reported=record.reported,
            requests=decided.allowed + decided.refused,
            refused=decided.refused,
        )

    def _record(self, status: AgentStatus) -> AgentRecord:
        return AgentRecord(
            id=self._id,
            generation=status.generation,
            state=status.state,
            error=status.known_problems,
            rejected=status.rejected,
            applied=status.applied,
            swap_ms=status.swap_ms,
            started=self._started,
            reported=utc_now(),
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            engine=self._engine.name,
            errors=self._failures.count,
            rollout=status.rollout,
            sequence=status.sequence,
            interval=self._interval,
            panic=list(status.panic),
            panic_sequence=status.panic_sequence,
            reset_sequence=status.reset_sequence,
            reset_shared=status.reset_shared,
            instance=self._instance,
            cluster=status.problems.get("cluster"),
        )

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()
        self._state.wake()

    def sign_off(self) -> None:
        """Remove this agent's records from the store, if it answers; after the thread has ended."""
        if self._lease is not None and self._state.now.connected:
            try:
                self._lease.revoke()
            except RatectlError as error:
                log.debug("signing off: %s", error)
        self._lease = None


def _report_of(owner: str, store: Store) -> UsageRecord | None:
    """Return an owner's report; None if there is none. ``owner``: see ``OwnerElsewhere.agent``."""
    item = store.get(USAGE + owner)
    if item is not None or len(owner) not in ID_PARTS:
        return None if item is None else UsageRecord.decode(item.value)
    records = readable(UsageRecord, store.list(USAGE + owner).items, None)
    # Other ids may begin alike: an owner reports pools.
    return max(records, key=lambda record: (bool(record.pools), record.reported), default=None)
