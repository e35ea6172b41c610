"""Apply a proposal: show it, ask, and publish it or try it first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratectl.errors import Refused, UsageError
from ratectl.publishing.head import must_continue
from ratectl.publishing.proposal import check_reasons
from ratectl.rollout import RolloutStatus, check_agents, try_out
from ratectl_cli.prompts import publication, rollouts, waiting
from ratectl_cli.render.publication import passed_blocks, title_of
from ratectl_cli.render.waited import exit_code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.fleet.convergence import Enough
    from ratectl.publishing.proposal import Approval, Proposal
    from ratectl.rollout import Mode, Terms
    from ratectl.signing.signatures import Signer
    from ratectl_cli.framework.session import Session

__all__ = ["Manner", "applied"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """Options of `apply` that do not depend on the policies.

    :raises UsageError: options contradict each other.
    """

    wanted: Enough | None
    """Agents to wait for; None to wait for none."""
    terms: Terms | None
    """Terms of a rollout; None to publish at once."""
    shadow: bool
    """True for a candidate that is evaluated and not enforced."""
    signer: Signer | None
    reasons: Mapping[str, str]
    """Reason for passing each guard."""
    yes: bool
    dry_run: bool

    def __post_init__(self) -> None:
        if self.terms is not None and self.wanted is not None:
            raise UsageError("--wait and --wait-for are for what goes live at once: leave them out")
        check_reasons(self.reasons, self.signer)


def applied(session: Session, proposal: Proposal, path: str, source: str, manner: Manner) -> int:
    """Apply a proposal; returns the exit code.

    :raises Refused: a guard objects.
    :raises Conflict: a candidate is being tried.
    :raises Untrusted: what is live is to be repeated, and the key has not signed it.
    """
    publication.warn_of_policies(session, proposal)
    if proposal.is_settled(manner.reasons):
        return _unchanged(session, proposal, path, manner.wanted)
    if manner.terms is not None and manner.signer is not None:
        must_continue(proposal.base)
    publication.warn_of_fresh_start(session, proposal)
    if manner.terms is not None and proposal.is_live:
        raise Refused("what is live says the same: apply it to have it signed")
    publication.show_changes(session, proposal, title_of(proposal, source))
    approval = proposal.approve(manner.reasons)
    session.show(passed_blocks(approval.proposal))
    if manner.dry_run:
        publication.answer_dry(session, approval.proposal)
        return 0
    if manner.terms is not None:
        return _try(session, approval, manner.terms, manner)
    session.confirm(f"Publish as generation {proposal.base.next}?", yes=manner.yes)
    return _publish(session, approval, path, manner)


def _try(session: Session, approval: Approval, terms: Terms, manner: Manner) -> int:
    store = approval.proposal.store
    mode: Mode = "shadow" if manner.shadow else "enforce"
    check_agents(store, terms, mode)
    how = "in shadow" if manner.shadow else f"in {terms.stages[0]:g}% of all agents"
    session.confirm(f"Try generation {approval.proposal.base.next} {how}?", yes=manner.yes)
    session.deadline.changing("ratectl rollout status")
    rollout = try_out(approval, terms, mode)
    if manner.shadow:
        rollouts.answer_rollout(session, RolloutStatus(rollout.record, rollout.live))
        return 0
    return rollouts.controlled(session, store, rollout, manner.signer)


def _publish(session: Session, approval: Approval, path: str, manner: Manner) -> int:
    proposal = approval.proposal
    session.deadline.changing("ratectl history")
    with session.busy("publishing"):
        entry = approval.publish()
    if entry is None:
        return _unchanged(session, proposal, path, manner.wanted)
    waited = waiting.wait(session, proposal.store, entry.generation, manner.wanted)
    publication.answer_published(session, proposal, entry, waited)
    return exit_code(waited)


def _unchanged(session: Session, proposal: Proposal, path: str, wanted: Enough | None) -> int:
    waited = waiting.wait(session, proposal.store, proposal.base.generation, wanted)
    publication.answer_unchanged(session, proposal, f"says the same as {path}", waited)
    return exit_code(waited)
