"""Steps of a rollout: start, advance, pause, promote, abort.

Each step is one compare-and-swap of the head and the rollout's record.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from ratectl.errors import BundleError, Conflict, NotFound, UsageError
from ratectl.fleet.membership import EVERYBODY, included
from ratectl.fleet.usage import read_agents
from ratectl.history.generations import Live, read_live, read_rollouts
from ratectl.publishing.head import must_continue, publishing_base, signed, swap_head
from ratectl.publishing.publish import Trial, commit, is_live, no_rollout, upload
from ratectl.records import RolloutRecord, rollout_key, utc_now
from ratectl.stores.base import Compare, Put

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.policy.language.model import PolicyTree
    from ratectl.publishing.publish import Provenance
    from ratectl.publishing.source_files import Beside
    from ratectl.records import Candidate, Head, HistoryEntry
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store

__all__ = [
    "STAGES",
    "Terms",
    "Underway",
    "abort",
    "advance",
    "pause",
    "promote",
    "read_rollout",
    "resume",
    "start",
]

STAGES: Final = (25.0, 50.0, EVERYBODY)
"""Default stages after the first one: percent of all agents that take part."""

_HASHES: Final = 200_000
"""Most hashes to compute in the search for a rollout id (some tenths of a second)."""


class Terms(NamedTuple):
    """Conditions that a candidate has to meet in each stage."""

    stages: Sequence[float]
    """Percent of all agents, in growing order."""
    bake_seconds: float = 60.0
    """Shortest time of a stage."""
    min_requests: int = 100
    """Least number of requests in a stage."""
    band: float | None = 5.0
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
    def of(cls, stages: Sequence[float], **others: float | None) -> Terms:
        """Return terms; a single stage is followed by the default ones.

        :raises UsageError: the stages do not grow, or a value is out of range.
        """
        if len(stages) == 1:
            stages = (*stages, *(each for each in STAGES if each > stages[0]))
        terms = cls(tuple(stages), **others)  # type: ignore[arg-type]
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


def start(
    store: Store,
    tree: PolicyTree,
    provenance: Provenance,
    terms: Terms,
    *,
    mode: Literal["enforce", "shadow"] = "enforce",
    base: Live | None = None,
    summary: Mapping[str, int] | None = None,
    signer: Signer | None = None,
    beside: Beside | None = None,
) -> HistoryEntry | None:
    """Publish ``tree`` as a candidate beside the live generation; None if that has equal content.

    ``mode``: ``enforce``: the agents that take part enforce it. ``shadow``: every agent evaluates
    it, and no agent enforces it; ``terms`` have no effect.

    :raises UsageError: nothing is live, or the terms are out of range.
    :raises Conflict: somebody published since ``base``, or another rollout is under way.
    :raises Untrusted: ``signer`` must not repeat the live head.
    :raises OutcomeUnknown: as for ``publish``.
    """
    terms.check()
    base = publishing_base(store, signer, base)
    if base.head is None:
        raise UsageError("a rollout needs a live generation, and there is none: publish first")
    if signer is not None:
        must_continue(base)
    no_rollout(base)
    if is_live(store, base, tree, beside):
        return None
    there = [] if mode == "shadow" else [each.id for each in read_agents(store)]
    record = RolloutRecord(
        id=_id_for(there, terms.stages[0]),
        generation=base.next,
        base=base.generation,
        mode=mode,
        stages=list(terms.stages),
        bake_seconds=terms.bake_seconds,
        min_requests=terms.min_requests,
        band=terms.band,
        author=provenance.author,
        started=utc_now(),
        updated=utc_now(),
    )
    trial = Trial(record.id, record.percent, mode, record.terms)
    action = "shadow" if mode == "shadow" else "canary"
    content = upload(store, tree, action, summary or {}, trial, beside)
    put = Put(rollout_key(record.generation), record.encode())
    return commit(store, base, content, provenance, [put], signer=signer)


def _id_for(agents: Sequence[str], percent: float) -> str:
    """Return an id for which some agents are in the first stage and some are not, if possible."""
    fresh = _fresh_id()
    left = 1 if percent < EVERYBODY and len(agents) > 1 else 0
    for _ in range(_HASHES // max(1, len(agents))):
        there = sum(included(fresh, each, percent) for each in agents)
        if not agents or 1 <= there <= len(agents) - left:
            break
        fresh = _fresh_id()
    return fresh


def _fresh_id() -> str:
    return uuid.uuid4().hex


def read_rollout(store: Store, generation: int | None = None) -> Underway:
    """Return the rollout of a generation (default: the one under way, else the latest).

    :raises NotFound: there is none.
    """
    live = read_live(store)
    candidate = live.candidate
    if generation is None:
        known = [candidate.generation] if candidate else list(read_rollouts(store))
        if not known:
            raise NotFound("there has been no rollout: ratectl apply --canary 5%")
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
    """
    stage = rollout.stage + 1
    compared = compared or rollout.record.compared
    record = replace(rollout.record, stage=stage, compared=compared, updated=utc_now())
    candidate = replace(rollout.candidate, percent=record.percent)
    _write(store, rollout, record, replace(rollout.head, candidate=candidate), signer)


def promote(
    store: Store, rollout: Underway, by: str, reason: str = "", signer: Signer | None = None
) -> None:
    """Make the candidate the live generation.

    :raises Conflict: the rollout or the head was changed meanwhile.
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
    """
    _ = rollout.candidate  # there must be one
    head = replace(rollout.head, candidate=None)
    _write(store, rollout, _ended(rollout, "aborted", by, reason), head, signer)


def pause(store: Store, rollout: Underway, by: str, reason: str) -> None:
    """Stay in this stage until ``resume``.

    :raises Conflict: the rollout is over, or was changed meanwhile.
    """
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
