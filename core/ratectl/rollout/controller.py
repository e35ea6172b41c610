"""Controller of a rollout: watches each stage, starts the next one, and ends the rollout.

A controller writes a key under a lease. Agents join a rollout only while that key exists: without a
controller that would notice a bad candidate, no further agent tries it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.errors import Conflict, OutcomeUnknown, StoreError
from ratectl.fleet.membership import EVERYBODY
from ratectl.fleet.usage import read_agents, read_beats
from ratectl.rollout.judge import Judge, Verdict
from ratectl.rollout.presence import Deposed, Presence
from ratectl.rollout.steps import Terms, abort, advance, finish, read_rollout
from ratectl.runtime.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.records import RolloutRecord
    from ratectl.rollout.steps import Underway
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store

__all__ = ["Controlling", "Progress"]

_LOOK_SECONDS: Final = 0.5
_FRESH_SECONDS: Final = 3.0
_BY: Final = "the controller"
_ANYBODY: Final = "waiting for any agent to try it"


class Progress(NamedTuple):
    """State of a rollout at one moment."""

    record: RolloutRecord
    verdict: Verdict | None
    """None before the first look, while another controller may exist, and while the store does not
    answer."""
    seconds: float
    """Seconds since the stage began, or started again."""
    waiting: str
    """Why it does not go on, like ``waiting for enough requests``; empty if it does."""


class Controlling:
    """Controls one rollout while ``run`` runs."""

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
        """Time at which the stage began: when all agents that belong to it had joined."""
        self._tried = False
        """True once any agent has taken part."""
        self._presence = Presence(store, record.id, clock)

    def run(self, seconds: float | None = None) -> RolloutRecord:
        """Control the rollout until it is over, or ``seconds`` have passed; return its record.

        While the store does not answer, the rollout does not go on.

        :raises Conflict: another controller has it, or its terms were changed.
        :raises Refused, Untrusted: see ``advance``.
        """
        ends = None if seconds is None else self._clock() + seconds
        try:
            while True:
                record = self._look()
                left = _LOOK_SECONDS if ends is None else ends - self._clock()
                if record.over or left <= 0:
                    return record
                self._sleep(min(left, _LOOK_SECONDS))
        finally:
            self._presence.leave()

    # Looking ------------------------------------------------------------------------------------

    def _look(self) -> RolloutRecord:
        try:
            if self._presence.keep():
                self._see()
            else:
                self._tell(self._progress(None, self._presence.doubt()))
        except Deposed as deposed:
            raise Conflict(str(deposed)) from None
        except (Conflict, OutcomeUnknown):
            pass  # the record was changed meanwhile, or may have been: look again
        except StoreError as error:
            self._tell(self._progress(None, str(error)))
        return self._record

    def _see(self) -> None:
        looked = self._clock()
        rollout = read_rollout(self._store, self._record.generation)
        self._record = rollout.record
        if self._record.over:
            return
        try:
            stage = rollout.stage
        except Conflict as error:
            if rollout.head.candidate is None:
                raise
            raise Deposed(str(error)) from None
        verdict = self._judge.look(
            self._clock(),
            rollout.candidate.percent,
            read_agents(self._store),
            read_beats(self._store),
        )
        self._tried = self._tried or bool(verdict.joined)
        waiting = verdict.trouble or self._waiting(verdict, stage)
        if verdict.trouble is not None:
            abort(self._store, rollout, _BY, verdict.trouble, self._signer)
            self._record = read_rollout(self._store, self._record.generation).record
        self._tell(self._progress(verdict, waiting))
        # If this process was suspended in between, the verdict is too old.
        if not waiting and self._clock() - looked < _FRESH_SECONDS:
            self._go_on(rollout, stage)

    def _go_on(self, rollout: Underway, stage: int) -> None:
        if stage + 1 < len(self._record.stages):
            advance(self._store, rollout, self._signer, compared=self._judge.compared)
        else:
            finish(self._store, rollout, _BY, "", self._signer)
        self._record = read_rollout(self._store, self._record.generation).record
        self._begin_stage()

    def _begin_stage(self) -> None:
        self._since = self._clock()
        self._judge.begin_stage()

    def _waiting(self, verdict: Verdict, stage: int) -> str:
        """Return why the stage does not end yet; empty if it does.

        Its time starts again while agents are missing, and after a pause.
        """
        record = self._record
        missing = verdict.missing
        if record.state == "paused" or missing:
            self._since = self._clock()
        if record.state == "paused":
            self._judge.begin_stage()
            return f"paused: {record.reason}" if record.reason else "paused"
        if missing:
            return f"waiting for {listed(missing, 1)} to run it"
        if verdict.unheard:
            return f"waiting for {verdict.unheard[0]} to report"
        last = stage + 1 == len(record.stages)
        if last and not self._tried:
            return _ANYBODY
        if self._clock() - self._since < record.bake_seconds:
            return "waiting for the end of this stage's time"
        if verdict.joined and verdict.candidates.requests < record.min_requests:
            return "waiting for enough requests"
        return self._uncompared(verdict, record.stages[stage + 1 :])

    def _uncompared(self, verdict: Verdict, following: Sequence[float]) -> str:
        """Return why a comparison is still missing; empty if it is not.

        At least one comparison is needed before all agents run the candidate.
        """
        if self._judge.compared or not Terms.said(self._record).compares:
            return ""
        if verdict.joined and verdict.others.agents:
            return "waiting for enough requests on both sides to compare"
        if self._record.compared or (following and following[0] < EVERYBODY):
            return ""
        return "waiting for other agents to compare with" if verdict.joined else _ANYBODY

    def _progress(self, verdict: Verdict | None, waiting: str) -> Progress:
        return Progress(self._record, verdict, self._clock() - self._since, waiting)
