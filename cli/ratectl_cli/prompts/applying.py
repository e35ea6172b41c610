"""Applying a proposal: shown, guarded and asked about, it goes live, or is tried first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ratectl.errors import UsageError
from ratectl_cli.errors import NobodyThere, Refused
from ratectl_cli.inputs.signing import signed_as_wanted, warn_of_fresh_start
from ratectl_cli.prompts import publication, waiting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.fleet.convergence import Enough
    from ratectl.publishing.saved_plan import SavedPlan
    from ratectl.rollout import Terms
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session
    from ratectl_cli.prompts.publication import Proposal

__all__ = ["Manner", "applied", "planned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How something is applied, whatever it says."""

    wanted: Enough | None
    """Agents to wait for."""
    terms: Terms | None
    """What it has to get through first; None where it goes live at once."""
    shadow: bool
    """Whether it is tried without being enforced."""
    signer: Signer | None
    reasons: Mapping[str, str]
    """Why guards are passed."""
    yes: bool
    dry_run: bool

    @property
    def unsigned(self) -> bool:
        """Whether signing ends."""
        from ratectl.changes.guards import UNSIGNED

        return bool(self.reasons[UNSIGNED].strip())

    def check(self) -> None:
        """:raises UsageError: parts of it do not go together."""
        if self.terms is not None and self.wanted is not None:
            raise UsageError("--wait and --wait-for are for what goes live at once: leave them out")
        if self.signer is not None and self.unsigned:
            raise UsageError("--sign signs, and --allow-unsigned ends that: give one of them")


def applied(
    session: Session, store: Store, proposal: Proposal, path: str, source: str, manner: Manner
) -> int:
    """Apply a proposal; returns the exit code.

    :raises Refused: a guard says no.
    :raises Conflict: a candidate is being tried.
    :raises Untrusted: what is live is to be repeated, and the key has not signed it.
    """
    from ratectl.publishing.head import must_continue, publishing_base
    from ratectl.publishing.publish import no_rollout

    publication.warn(session, proposal)
    proposal = replace(proposal, base=publishing_base(store, manner.signer, proposal.base))
    same = publication.is_live(proposal)
    if same and signed_as_wanted(proposal.base, unsigned=manner.unsigned):
        return _unchanged(session, proposal, store, path, manner.wanted)
    if manner.terms is not None and manner.signer is not None:
        must_continue(proposal.base)
    warn_of_fresh_start(session, proposal.base)
    if same and manner.terms is not None:
        raise Refused("what is live says the same: apply it to have it signed")
    publication.show_changes(session, proposal, publication.title_of(proposal, source))
    proposal = publication.sign_guard(store, proposal, manner.signer)
    proposal = publication.pass_guards(session, proposal, manner.reasons)
    no_rollout(proposal.base)
    if manner.dry_run:
        publication.answer_dry(session, proposal)
        return 0
    if manner.terms is not None:
        return _try(session, store, proposal, manner.terms, manner)
    session.confirm(f"Publish as generation {proposal.base.next}?", yes=manner.yes)
    return _publish(session, store, proposal, path, manner)


def _try(session: Session, store: Store, proposal: Proposal, terms: Terms, manner: Manner) -> int:
    from ratectl.fleet.usage import read_agents
    from ratectl.rollout import read_rollout, start
    from ratectl_cli.prompts import rollouts

    if not manner.shadow:
        agents = read_agents(store)
        if not agents:
            raise NobodyThere("no agent is there to try it: start one, or apply without --canary")
        if len(agents) == 1 and terms.compares:
            raise NobodyThere(
                f"{agents[0].id} is alone, and nobody is there to compare it with: say --band none "
                "as well, or apply without --canary"
            )
    how = "in shadow" if manner.shadow else f"in {terms.stages[0]:g}% of all agents"
    session.confirm(f"Try generation {proposal.base.next} {how}?", yes=manner.yes)
    session.deadline.changing("ratectl rollout status")
    entry = start(
        store,
        proposal.published,
        proposal.provenance,
        terms,
        mode="shadow" if manner.shadow else "enforce",
        base=proposal.base,
        summary=proposal.summary,
        signer=manner.signer,
        beside=proposal.beside,
    )
    assert entry is not None, "what is live already was found out before"
    rollout = read_rollout(store, entry.generation)
    if manner.shadow:
        rollouts.answer_rollout(session, rollout.record, rollout.live, None)
        return 0
    return rollouts.controlled(session, store, rollout, manner.signer)


def _publish(session: Session, store: Store, proposal: Proposal, path: str, manner: Manner) -> int:
    from ratectl.publishing.publish import publish

    session.deadline.changing("ratectl history")
    with session.busy("publishing"):
        entry = publish(
            store,
            proposal.published,
            proposal.provenance,
            base=proposal.base,
            summary=proposal.summary,
            signer=manner.signer,
            beside=proposal.beside,
            anew=publication.is_live(proposal),
        )
    if entry is None:
        return _unchanged(session, proposal, store, path, manner.wanted)
    waited = waiting.wait(session, store, entry.generation, manner.wanted)
    publication.answer_published(session, proposal, entry, waited)
    return waiting.exit_code(waited)


def _unchanged(
    session: Session, proposal: Proposal, store: Store, path: str, wanted: Enough | None
) -> int:
    waited = waiting.wait(session, store, proposal.base.generation, wanted)
    publication.answer_unchanged(session, proposal, f"says the same as {path}", waited)
    return waiting.exit_code(waited)


def planned(
    session: Session, store: Store, plan: SavedPlan, message: str, signer: Signer | None
) -> Proposal:
    """What a saved plan says, as of whoever applies it now."""
    from ratectl.publishing.head import owners_to_respect, publishing_base
    from ratectl.publishing.ownership import Owners
    from ratectl.publishing.provenance import gather
    from ratectl.publishing.saved_plan import still_live
    from ratectl_cli.inputs.policies import tree_to_compare
    from ratectl_cli.prompts.publication import guarded, propose

    base = publishing_base(store, signer, still_live(store, plan))
    provenance = replace(
        plan.provenance, author=gather(".").author, message=message or plan.provenance.message
    )
    old = tree_to_compare(session, store, base)
    tree = plan.tree()
    merged = plan.merged(tree)
    before, disowned = owners_to_respect(store, base, signer)
    proposal = replace(
        propose("apply", base, old, tree, provenance),
        beside=plan.beside,
        merged=merged,
        reowned=disowned is not None or (plan.beside.owners or Owners()) != before,
    )
    if merged is not None and publication.is_live(proposal):
        # Applied before: what was to be pruned is gone, and what was to be taken is its own.
        moved = merged.moved._replace(pruned=(), taken=())
        proposal = replace(proposal, merged=replace(merged, moved=moved))
    return guarded(session, store, proposal)
