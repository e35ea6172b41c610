"""The controller of a rollout: watches over it from stage to stage, and ends it.

Whoever controls says so by a key under a lease. Agents that are to take part do so only while that
key is there: without anybody who would notice that a candidate is bad, nobody new tries it.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.errors import Conflict, OutcomeUnknown, StoreError
from ratectl.records import CONTROLLER, Controller, utc_now
from ratectl.rollout.judge import Judge, Verdict
from ratectl.rollout.steps import abort, advance, promote, read_rollout
from ratectl.stores.base import Compare, Put
from ratectl.usage import read_agents, read_beats

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.records import RolloutRecord
    from ratectl.rollout.steps import Underway
    from ratectl.signing import Signer
    from ratectl.stores.base import Lease, Store

__all__ = ["Controlling", "Progress"]

LEASE_SECONDS: Final = 10.0
_RENEW_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.5
_BY: Final = "the controller"


class _Deposed(Exception):
    """Somebody else is in control."""


class Progress(NamedTuple):
    """How a rollout stands."""

    record: RolloutRecord
    verdict: Verdict | None
    """None before anybody looked, and while the store is out of reach."""
    seconds: float
    """Since the stage began, or was begun anew."""
    waiting: str
    """What it takes to go on; empty where it goes on."""


class Controlling:
    """Controls one rollout, for as long as ``run`` runs."""

    def __init__(
        self,
        store: Store,
        record: RolloutRecord,
        *,
        signer: Signer | None = None,
        tell: Callable[[Progress], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._store = store
        self._record = record
        self._signer = signer
        self._tell = tell
        self._clock = clock
        self._sleep = sleep
        self._judge = Judge(record)
        self._since = clock()
        self._tried = False
        """Whether any agent has taken part at all."""
        self._lease: Lease | None = None
        self._renewed = 0.0

    def run(self, seconds: float | None = None) -> RolloutRecord:
        """Control until the rollout is over, or the time is up; returns how it stands then.

        A store that is out of reach is waited for: what cannot be seen does not go on.

        :raises Conflict: somebody else controls it.
        """
        ends = None if seconds is None else self._clock() + seconds
        self._take_control()
        try:
            while True:
                record = self._look()
                left = _LOOK_SECONDS if ends is None else ends - self._clock()
                if record.over or left <= 0:
                    return record
                self._sleep(min(left, _LOOK_SECONDS))
        finally:
            self._leave_control()

    # Looking ------------------------------------------------------------------------------------

    def _look(self) -> RolloutRecord:
        try:
            self._keep_control()
            rollout = read_rollout(self._store, self._record.generation)
            self._record = rollout.record
            if not self._record.over:
                self._step(rollout)
        except _Deposed as deposed:
            raise Conflict(str(deposed)) from None
        except (Conflict, OutcomeUnknown):
            pass  # it was changed meanwhile, or may have been: look again
        except StoreError as error:
            self._tell(self._progress(None, str(error)))
        return self._record

    def _step(self, rollout: Underway) -> None:
        if self._record.state == "paused":
            self._begin_stage()
            self._tell(self._progress(None, f"paused: {self._record.reason}"))
            return
        verdict = self._judge.look(
            self._clock(),
            rollout.candidate.percent,
            read_agents(self._store),
            read_beats(self._store),
        )
        self._tried = self._tried or bool(verdict.joined)
        if verdict.trouble is not None:
            abort(self._store, rollout, _BY, verdict.trouble, self._signer)
            self._record = read_rollout(self._store, self._record.generation).record
        waiting = verdict.trouble or self._waiting(verdict)
        self._tell(self._progress(verdict, waiting))
        if not waiting:
            self._go_on(rollout)

    def _go_on(self, rollout: Underway) -> None:
        if self._record.stage + 1 < len(self._record.stages):
            advance(self._store, rollout, self._signer)
        else:
            promote(self._store, rollout, _BY, "", self._signer)
        self._record = read_rollout(self._store, self._record.generation).record
        self._begin_stage()

    def _begin_stage(self) -> None:
        self._since = self._clock()
        self._judge.begin_stage()

    def _waiting(self, verdict: Verdict) -> str:
        record = self._record
        missing = verdict.missing
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            return f"for {missing[0]}{more} to run it"
        last = record.stage + 1 == len(record.stages)
        if last and not self._tried:
            return "for any agent to try it"
        if self._clock() - self._since < record.bake_seconds:
            return "for this stage to have lasted long enough"
        if verdict.joined and verdict.candidates.requests < record.min_requests:
            return "for enough requests"
        return ""

    def _progress(self, verdict: Verdict | None, waiting: str) -> Progress:
        return Progress(self._record, verdict, self._clock() - self._since, waiting)

    # Being in control ---------------------------------------------------------------------------

    def _take_control(self) -> None:
        """:raises Conflict: somebody else is in control, for longer than a dead one could be."""
        ends = self._clock() + LEASE_SECONDS + 1
        while not self._claim():
            if self._clock() >= ends:
                raise Conflict(self._other())
            self._sleep(_LOOK_SECONDS)

    def _claim(self) -> bool:
        lease = self._store.lease(LEASE_SECONDS)
        mine = Controller(
            rollout=self._record.id, host=socket.gethostname(), pid=os.getpid(), since=utc_now()
        )
        put = Put(CONTROLLER, mine.encode(), lease)
        try:
            claimed = self._store.txn([Compare(CONTROLLER, 0)], [put]).ok
        except OutcomeUnknown:
            lease.revoke()  # and the key with it, if it was written
            raise
        if claimed:
            self._lease, self._renewed = lease, self._clock()
        else:
            lease.revoke()
        return claimed

    def _other(self) -> str:
        item = self._store.get(CONTROLLER)
        if item is None:
            return "another controller was here until now: try again"
        other = Controller.decode(item.value)
        return f"process {other.pid} on {other.host} controls a rollout since {other.since}"

    def _keep_control(self) -> None:
        """:raises _Deposed: somebody else has taken over."""
        if self._lease is not None and self._clock() - self._renewed < _RENEW_SECONDS:
            return
        if self._lease is not None and self._lease.renew():
            self._renewed = self._clock()
        elif not self._claim():
            raise _Deposed(self._other())

    def _leave_control(self) -> None:
        if self._lease is not None:
            try:
                self._lease.revoke()
            except StoreError:
                return  # it ends by itself
