"""Publish a tree as a candidate beside the live generation. No guard is asked here.

Private: see ``ratectl.rollout.trial`` for the way in.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final, Literal

from ratectl.errors import UsageError
from ratectl.fleet.membership import EVERYBODY, included
from ratectl.fleet.usage import read_agents
from ratectl.policy.bundle import EncodedTree
from ratectl.publishing._publish import Trial, commit, is_live, no_rollout, upload
from ratectl.publishing.head import must_continue, publishing_base
from ratectl.records import RolloutRecord, rollout_key, utc_now
from ratectl.stores.base import Put

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.history.generations import Live
    from ratectl.policy.language.model import PolicyTree
    from ratectl.publishing.provenance import Provenance
    from ratectl.publishing.source_files import Beside
    from ratectl.records import HistoryEntry
    from ratectl.rollout.steps import Terms
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store

__all__ = ["start"]

_HASHES: Final = 200_000
"""Limit on ids to try, some tenths of a second, for one that puts the right agents first."""


def start(
    store: Store,
    tree: PolicyTree | EncodedTree,
    provenance: Provenance,
    terms: Terms,
    *,
    mode: Literal["enforce", "shadow"] = "enforce",
    base: Live | None = None,
    summary: Mapping[str, int] | None = None,
    signer: Signer | None = None,
    beside: Beside | None = None,
    agents: Sequence[str] | None = None,
) -> HistoryEntry | None:
    """Publish ``tree`` as a candidate beside the live generation; None if that has equal content.

    ``mode``: ``enforce``: the agents that take part enforce it. ``shadow``: every agent evaluates
    it, and no agent enforces it; ``terms`` have no effect. ``agents``: ids of the agents that are
    there (default: read now), some of which are chosen for the first stage.

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
    tree = EncodedTree.of(tree)
    if is_live(store, base, tree.address, beside):
        return None
    if agents is None:
        agents = [] if mode == "shadow" else [agent.id for agent in read_agents(store)]
    record = RolloutRecord(
        id=_id_for(agents, terms.stages[0]),
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
