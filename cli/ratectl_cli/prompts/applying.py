"""Apply a proposal: show it, ask, and publish it or try it first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ratectl.changes import guards
from ratectl.errors import Refused, UsageError
from ratectl.fleet.convergence import EVERY_AGENT, Enough
from ratectl.publishing.head import must_continue
from ratectl.publishing.proposal import check_reasons
from ratectl.publishing.propose import propose
from ratectl.publishing.saved_plan import read_plan
from ratectl.rollout import RolloutStatus, Terms, agents_to_try, try_out
from ratectl_cli.framework import clock
from ratectl_cli.inputs.policies import read_source
from ratectl_cli.prompts import publication, rollouts, waiting
from ratectl_cli.prompts.confirming import check_name, confirmed
from ratectl_cli.render.publication import passed_blocks, title_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.publishing.proposal import Approval, Proposal
    from ratectl.publishing.reading import PolicySource
    from ratectl.publishing.sets import SetChoice
    from ratectl.rollout import Mode
    from ratectl.signing.signatures import Signer
    from ratectl_cli.framework.session import Session

__all__ = ["Manner", "applied", "rollout_terms", "wanted_agents"]


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
    confirm: str | None
    """Name of the environment, as confirmation."""
    dry_run: bool

    def __post_init__(self) -> None:
        if self.terms is not None and self.wanted is not None:
            raise UsageError("a rollout does not go live at once: leave out --wait and --wait-for")
        check_reasons(self.reasons, self.signer)


def rollout_terms(canary: str | None, shadow: bool, given: Mapping[str, Any]) -> Terms | None:
    """Return the terms of a rollout; None to publish at once.

    ``given``: by option name, the terms that are for ``--canary`` only, in the order of
    ``rollouts.terms_of``.

    :raises UsageError: options contradict each other.
    """
    if shadow and canary is not None:
        raise UsageError(
            "--shadow enforces the candidate in no agent, --canary in some: choose one"
        )
    if canary is not None:
        return rollouts.terms_of(canary, *given.values())
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"--{name} needs --canary: it is about its stages")
    return Terms.of([100.0], bake_seconds=0.0, min_requests=0, band=None) if shadow else None


def wanted_agents(wait: bool, wait_for: str | None) -> Enough | None:
    """Return the agents to wait for; None to wait for none.

    :raises UsageError: options contradict each other, or ``--wait-for`` is no number or share.
    """
    if wait_for is None:
        return EVERY_AGENT if wait else None
    if wait:
        raise UsageError("--wait waits for every agent, --wait-for for some of them: give one")
    try:
        return Enough.parse(wait_for)
    except ValueError as error:
        raise UsageError(f"--wait-for {error}") from None


def applied(
    session: Session, path: str, message: str, choice: SetChoice | None, manner: Manner
) -> int:
    """Apply the policies or the saved plan at a path; return the exit code.

    :raises UsageError: a set was chosen for a saved plan.
    :raises PolicyError, Refused, Conflict, Untrusted: see ``propose`` and ``_apply``.
    """
    with session.busy("reading policies"):
        plan = read_plan(path)
        if plan is not None and choice is not None:
            raise UsageError("a saved plan contains its set: leave out --set")
        empty = bool(manner.reasons[guards.EMPTY].strip())
        source = plan or _source(path, empty=empty, part=choice is not None)
    with session.store() as store:
        with session.busy("comparing with the live generation"):
            proposal = propose(
                store,
                source,
                message=message,
                choice=choice,
                signer=manner.signer,
                now_ns=clock.now_ns(),
                target=session.target,
            )
        session.changes(proposal.place)
        check_name(proposal.place, manner.confirm)
        publication.warn(session, proposal)
        title = path if plan is None else f"{path}, planned {plan.created} of {plan.source}"
        return _apply(session, proposal, path, title, manner)


def _source(path: str, *, empty: bool, part: bool) -> PolicySource:
    try:
        return read_source(path, allow_empty=empty, part=part)
    except Refused as refused:
        refused.add_note("if this is intended, add --allow-empty REASON")
        raise


def _apply(session: Session, proposal: Proposal, path: str, source: str, manner: Manner) -> int:
    """Show a proposal, ask, and publish it or try it first; return the exit code.

    :raises Refused: a guard objects.
    :raises Conflict: a candidate is being tried.
    :raises Untrusted: the live policies would be published again, and the key has not signed them.
    """
    publication.warn_of_policies(session, proposal)
    if proposal.is_settled(manner.reasons):
        return _unchanged(session, proposal, path, manner.wanted)
    if manner.terms is not None and manner.signer is not None:
        must_continue(proposal.base)
    publication.warn_of_fresh_start(session, proposal)
    if manner.terms is not None and proposal.is_live:
        raise Refused("the live policies are the same: to sign them, apply without a rollout")
    publication.show_changes(session, proposal, title_of(proposal, source))
    manner = _asked_about_first(session, proposal, manner)
    approval = proposal.approve(manner.reasons)
    session.show(passed_blocks(approval.proposal))
    if manner.dry_run:
        publication.answer_dry(session, approval.proposal)
        return 0
    if manner.terms is not None:
        return _try(session, approval, manner.terms, manner)
    question = f"Publish as generation {proposal.base.next} to {proposal.place}?"
    approval = _confirmed(session, approval, question, manner)
    return _publish(session, approval, path, manner)


def _asked_about_first(session: Session, proposal: Proposal, manner: Manner) -> Manner:
    """Ask before the first publication in an environment, and return the options with the answer.

    Asks nothing if a reason is given, or nobody can be asked: then the guard decides.
    """
    missing = [each.guard for each in guards.unanswered(proposal.objections, manner.reasons)]
    if missing != [guards.FIRST] or manner.yes or manner.dry_run or not session.can_ask:
        return manner
    question = (
        f"Nothing was ever published in {proposal.place}. Publish the first generation there?"
    )
    session.confirm(question, yes=False)
    return replace(manner, yes=True, reasons={**manner.reasons, guards.FIRST: "yes at the prompt"})


def _confirmed(session: Session, approval: Approval, question: str, manner: Manner) -> Approval:
    """Ask, and return the approval with the answer."""
    place = approval.proposal.place
    name = confirmed(session, place, question, yes=manner.yes, name=manner.confirm)
    return replace(approval, confirmed=name)


def _try(session: Session, approval: Approval, terms: Terms, manner: Manner) -> int:
    store = approval.proposal.store
    mode: Mode = "shadow" if manner.shadow else "enforce"
    agents_to_try(store, terms, mode)
    how = "in shadow in all agents" if manner.shadow else f"in {terms.stages[0]:g}% of all agents"
    proposal = approval.proposal
    question = f"Try generation {proposal.base.next} {how} of {proposal.place}?"
    approval = _confirmed(session, approval, question, manner)
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
    return waiting.exit_code(waited)


def _unchanged(session: Session, proposal: Proposal, path: str, wanted: Enough | None) -> int:
    waited = waiting.wait(session, proposal.store, proposal.base.generation, wanted)
    publication.answer_unchanged(session, proposal, f"has the same policies as {path}", waited)
    return waiting.exit_code(waited)
