"""Steps of a rollout that is under way: advance, pause, promote, abort.

Each step is one compare-and-swap of the head and the rollout's record.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.environments.protection import place_of
from ratectl.errors import BundleError, Conflict, NotFound, Refused, UsageError
from ratectl.fleet.membership import EVERYBODY
from ratectl.history.generations import read_live, read_rollouts
from ratectl.publishing.head import must_continue, publishing_base, signed, swap_head
from ratectl.records import RolloutRecord, rollout_key, utc_now
from ratectl.signing.continuation import require_signer
from ratectl.stores.base import Compare, Put

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.history.generations import Live
    from ratectl.records import Candidate, Head
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store

__all__ = [
    "STAGES",
    "Terms",
    "Underway",
    "abort",
    "advance",
    "finish",
    "pause",
    "promote",
    "read_rollout",
    "require_stages",
    "resume",
]

STAGES: Final = (25.0, 50.0, EVERYBODY)
"""Default stages after the first one: percent of all agents that take part."""

_BAKE_SECONDS: Final = 60.0
_MIN_REQUESTS: Final = 100
_BAND: Final = 5.0


class Terms(NamedTuple):
    """Conditions that a candidate has to meet in each stage."""

    stages: Sequence[float]
    """Percent of all agents, in growing order."""
    bake_seconds: float = _BAKE_SECONDS
    """Shortest time of a stage."""
    min_requests: int = _MIN_REQUESTS
    """Least number of requests in a stage."""
    band: float | None = _BAND
    """Largest allowed difference of refused shares, in percentage points; None: no comparison."""

    @property
    def compares(self) -> bool:
        """True if agents with the candidate are compared with others before all run it."""
        return self.band is not None and self.min_requests > 0

    @classmethod
    def said(cls, record: RolloutRecord) -> Terms:
        """Return the terms in a rollout's record."""
        return cls(record.stages, record.bake_seconds, record.min_requests, record.band)

    @classmethod
    def of(
        cls,
        stages: Sequence[float],
        *,
        bake_seconds: float = _BAKE_SECONDS,
        min_requests: int = _MIN_REQUESTS,
        band: float | None = _BAND,
    ) -> Terms:
        """Return terms; a single stage is followed by the default ones.

        :raises UsageError: the stages do not grow, or a value is out of range.
        """
        if len(stages) == 1:
            stages = (*stages, *(each for each in STAGES if each > stages[0]))
        terms = cls(tuple(stages), bake_seconds, min_requests, band)
        terms.check()
        return terms

    def check(self) -> None:
        """:raises UsageError: the stages do not grow, or a value is out of range."""
        if not self.stages or any(not 0.01 <= each <= 100 for each in self.stages):
            raise UsageError("a stage is a share of all agents, from 0.01% to 100%")
        if any(two <= one for one, two in zip(self.stages, self.stages[1:], strict=False)):
            raise UsageError("each stage is larger than the one before it, like 1%,10%,50%")
        if not 0 <= self.bake_seconds < math.inf or self.min_requests < 0:
            raise UsageError("a stage lasts 0 seconds or more, and takes 0 requests or more")
        if self.band is not None and not 0 < self.band <= 100:
            raise UsageError("a band is a number of percentage points above 0, up to 100")


@dataclass(frozen=True, slots=True)
class Underway:
    """A rollout as read, with the revisions to compare in the next step."""

    live: Live
    record: RolloutRecord
    mod_revision: int

    @property
    def head(self) -> Head:
        assert self.live.head is not None
        return self.live.head

    @property
    def candidate(self) -> Candidate:
        """:raises Conflict: the rollout is over."""
        candidate = self.live.candidate
        if candidate is None or candidate.rollout != self.record.id:
            raise Conflict(
                f"the rollout of generation {self.record.generation} is over "
                f"({self.record.state}): see `ratectl rollout status`"
            )
        return candidate

    @property
    def stage(self) -> int:
        """Index of the current stage, by the head, which may be signed (the record is not).

        :raises Conflict: the rollout is over, or its terms were changed since it began.
        """
        candidate = self.candidate
        if self.record.terms != candidate.terms or candidate.percent not in self.record.stages:
            raise Conflict(
                f"the terms of the rollout of generation {self.record.generation} were changed "
                "since it began: `ratectl rollout abort` ends it"
            )
        return self.record.stages.index(candidate.percent)


def read_rollout(store: Store, generation: int | None = None) -> Underway:
    """Return the rollout of a generation (default: the one under way, else the latest).

    :raises NotFound: there is none.
    """
    live = read_live(store)
    candidate = live.candidate
    if generation is None:
        known = [candidate.generation] if candidate else list(read_rollouts(store))
        if not known:
            raise NotFound("there has been no rollout: `ratectl apply --canary 5%` begins one")
        generation = max(known)
    item = store.get(rollout_key(generation))
    revision = item.mod_revision if item else 0
    try:
        if item is not None:
            return Underway(live, RolloutRecord.decode(item.value), revision)
    except BundleError:
        if candidate is None or candidate.generation != generation:
            raise
    if candidate is None or candidate.generation != generation:
        raise NotFound(f"generation {generation} was not published as a candidate")
    return Underway(live, _stand_in(live.generation, candidate), revision)


def _stand_in(base: int, candidate: Candidate) -> RolloutRecord:
    """Return a record in place of a lost one, with enough content to end the rollout."""
    return RolloutRecord(
        id=candidate.rollout,
        generation=candidate.generation,
        base=base,
        mode=candidate.mode,
        stages=[candidate.percent],
        bake_seconds=0.0,
        min_requests=0,
        band=None,
        author="",
        started=utc_now(),
        updated=utc_now(),
    )


def advance(
    store: Store, rollout: Underway, signer: Signer | None = None, *, compared: bool = False
) -> None:
    """Begin the next stage.

    ``compared``: True if there were enough requests to compare in this stage.

    :raises Conflict: the rollout or the head was changed meanwhile.
    :raises Refused: the live generation is signed, and there is no ``signer``.
    :raises Untrusted: the key is for another environment.
    """
    stage = rollout.stage + 1
    compared = compared or rollout.record.compared
    record = replace(rollout.record, stage=stage, compared=compared, updated=utc_now())
    candidate = replace(rollout.candidate, percent=record.percent)
    _write(store, rollout, record, replace(rollout.head, candidate=candidate), signer)


def promote(
    store: Store,
    rollout: Underway,
    by: str,
    reason: str = "",
    signer: Signer | None = None,
    *,
    confirmed: str | None = None,
) -> None:
    """Make the candidate the live generation, before its stages are over.

    ``confirmed``: name of the environment, from whoever confirmed this.

    :raises Unconfirmed: the environment needs its name as confirmation.
    :raises Conflict, Refused, Untrusted: see ``finish``.
    """
    place_of(store).require_confirmed(confirmed)
    finish(store, rollout, by, reason, signer)


def finish(
    store: Store, rollout: Underway, by: str, reason: str = "", signer: Signer | None = None
) -> None:
    """Make the candidate the live generation, at the end of a rollout that was confirmed.

    :raises Conflict: the rollout or the head was changed meanwhile.
    :raises Refused: the live generation is signed, and there is no ``signer``.
    :raises Untrusted: the key is for another environment.
    """
    candidate = rollout.candidate
    head = replace(
        rollout.head,
        generation=candidate.generation,
        bundle=candidate.bundle,
        candidate=None,
    )
    _write(store, rollout, _ended(rollout, "promoted", by, reason), head, signer)


def abort(
    store: Store, rollout: Underway, by: str, reason: str, signer: Signer | None = None
) -> None:
    """Make all agents go back to the live generation.

    :raises Conflict: the rollout or the head was changed meanwhile.
    :raises Refused: the live generation is signed, and there is no ``signer``.
    :raises Untrusted: the key is for another environment.
    """
    _ = rollout.candidate  # there must be one
    head = replace(rollout.head, candidate=None)
    _write(store, rollout, _ended(rollout, "aborted", by, reason), head, signer)


def require_stages(rollout: Underway) -> None:
    """Return if a rollout goes through stages, or is over.

    :raises Refused: its candidate is only evaluated in shadow.
    """
    if rollout.record.mode == "shadow" and not rollout.record.over:
        raise Refused(
            "a shadow candidate has no stages: `ratectl rollout promote` or `ratectl rollout abort`"
        )


def pause(store: Store, rollout: Underway, by: str, reason: str) -> None:
    """Stay in this stage until ``resume``.

    :raises Conflict: the rollout is over, or was changed meanwhile.
    :raises Refused: it has no stages.
    """
    require_stages(rollout)
    _state(store, rollout, "paused", by, reason)


def resume(store: Store, rollout: Underway, by: str) -> None:
    """Continue after ``pause``.

    :raises Conflict: the rollout is over, or was changed meanwhile.
    """
    _state(store, rollout, "running", by, "")


def _state(store: Store, rollout: Underway, state: str, by: str, reason: str) -> None:
    _ = rollout.candidate
    record = replace(rollout.record, state=state, by=by, reason=reason, updated=utc_now())
    key = rollout_key(record.generation)
    if not store.txn([Compare(key, rollout.mod_revision)], [Put(key, record.encode())]).ok:
        raise _changed(record.generation)


def _ended(rollout: Underway, state: str, by: str, reason: str) -> RolloutRecord:
    return replace(rollout.record, state=state, by=by, reason=reason, updated=utc_now())


def _write(
    store: Store, rollout: Underway, record: RolloutRecord, head: Head, signer: Signer | None
) -> None:
    require_signer(store, rollout.live.head, signer)
    if signer is not None:
        must_continue(publishing_base(store, signer, rollout.live))
    head = signed(store, replace(head, sequence=head.sequence + 1), signer)
    record = replace(record, request=uuid.uuid4().hex)
    key = rollout_key(record.generation)
    unchanged = [Compare(key, rollout.mod_revision)]
    if not swap_head(store, rollout.live, head, key, record, compare=unchanged):
        raise _changed(record.generation)


def _changed(generation: int) -> Conflict:
    return Conflict(
        f"the rollout of generation {generation} was changed meanwhile: "
        "see `ratectl rollout status`"
    )
