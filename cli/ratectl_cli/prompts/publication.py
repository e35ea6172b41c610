"""Output about a proposal, shared by `apply`, `plan` and `rollback`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ratectl_cli.prompts.kill_switch import warn_of_switches
from ratectl_cli.render.diagnostics import diagnostic_blocks
from ratectl_cli.render.plan import Planned, plan_blocks
from ratectl_cli.render.publication import (
    published_blocks,
    published_data,
    unpublished_blocks,
    unpublished_data,
)

if TYPE_CHECKING:
    from ratectl.publishing.proposal import Proposal
    from ratectl.records import HistoryEntry
    from ratectl_cli.framework.session import Session
    from ratectl_cli.render.waited import Waited

__all__ = [
    "answer_dry",
    "answer_published",
    "answer_unchanged",
    "show_changes",
    "warn",
    "warn_of_fresh_start",
    "warn_of_policies",
]


def warn(session: Session, proposal: Proposal) -> None:
    """Print warnings about the store, the repository and kill switches."""
    for warning in proposal.warnings:
        session.warn(warning)
    warn_of_switches(session, proposal.switches)


def warn_of_policies(session: Session, proposal: Proposal) -> None:
    """Print warnings about the policies."""
    if session.text and proposal.diagnostics and not session.options.quiet:
        session.complain(diagnostic_blocks(proposal.diagnostics, session.err))


def warn_of_fresh_start(session: Session, proposal: Proposal) -> None:
    """Warn that the next head does not continue the one in the store."""
    base = proposal.base
    if base.fresh is not None:
        session.warn(
            f"generation {base.next} starts afresh, and takes nothing from the live one: "
            f"{base.fresh.because}"
        )


def show_changes(session: Session, proposal: Proposal, title: str) -> None:
    """Print the place and the changes as `plan` does, without the objections of guards."""
    planned = Planned(replace(proposal, objections=()), title, has_changes=True)
    session.show(session.where())
    session.show(plan_blocks(planned, None, unfold=bool(session.options.verbose)))


def answer_published(
    session: Session, proposal: Proposal, entry: HistoryEntry, waited: Waited | None = None
) -> None:
    """Print the new generation."""
    quiet, selector = session.options.quiet, session.selector
    session.answer(
        "Publication",
        published_data(proposal, entry, waited, selector=selector),
        lambda: published_blocks(proposal, entry, waited, selector=selector, quiet=quiet),
    )


def answer_unchanged(
    session: Session, proposal: Proposal, what: str, waited: Waited | None = None
) -> None:
    """Print that nothing needed to be published."""
    text = f"nothing to do: generation {proposal.base.generation}, which is live, {what}"
    _answer_unpublished(session, proposal, text, waited, sets=True)


def answer_dry(session: Session, proposal: Proposal) -> None:
    """Print that nothing was published, because of ``--dry-run``."""
    text = f"not published (--dry-run): it would be generation {proposal.base.next}"
    _answer_unpublished(session, proposal, text, None, sets=False)


def _answer_unpublished(
    session: Session, proposal: Proposal, text: str, waited: Waited | None, *, sets: bool
) -> None:
    session.answer(
        "Publication",
        unpublished_data(proposal, waited),
        lambda: unpublished_blocks(proposal, text, waited, sets=sets),
    )
