"""Try an approved proposal in some agents first, or in shadow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ratectl.errors import NoAgents, Refused
from ratectl.fleet.usage import read_agents
from ratectl.rollout._start import start
from ratectl.rollout.steps import read_rollout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.publishing.proposal import Approval
    from ratectl.rollout.steps import Terms, Underway
    from ratectl.stores.base import Store

__all__ = ["Mode", "agents_to_try", "try_out"]

Mode = Literal["enforce", "shadow"]


def agents_to_try(store: Store, terms: Terms, mode: Mode = "enforce") -> Sequence[str]:
    """Return the agents that can try a candidate, by id; in shadow none is chosen.

    :raises NoAgents: there are none, or only one where agents are to be compared.
    """
    if mode == "shadow":
        return ()
    agents = read_agents(store)
    if not agents:
        raise NoAgents("no agent is running to try it: start one, or apply without --canary")
    if len(agents) == 1 and terms.compares:
        raise NoAgents(
            f"{agents[0].id} is the only agent, and there is no other to compare it with: add "
            "--band none, or apply without --canary"
        )
    return [agent.id for agent in agents]


def try_out(approval: Approval, terms: Terms, mode: Mode = "enforce") -> Underway:
    """Publish an approved proposal as a candidate, and return the rollout that tries it.

    ``mode``: ``enforce``: agents that take part enforce it, stage by stage, for as long as a
    ``Controlling`` runs. ``shadow``: every agent evaluates it beside the live generation, and
    enforces nothing of it.

    :raises NoAgents: see ``agents_to_try``.
    :raises Refused: what is live says the same, or the proposal is a rollback.
    :raises Unconfirmed: the environment needs its name as confirmation.
    :raises UsageError: nothing is live, or the terms are out of range.
    :raises Conflict: somebody published since the proposal was made, or a rollout is under way.
    """
    approval.require_confirmed()
    of = approval.proposal
    if of.again is not None:
        raise Refused("a rollback cannot be tried first: it goes live at once")
    agents = agents_to_try(of.store, terms, mode)
    entry = start(
        of.store,
        of.to_publish,
        of.provenance,
        terms,
        mode=mode,
        base=of.base,
        summary=of.summary,
        signer=of.signer,
        beside=of.beside,
        agents=agents,
    )
    if entry is None:
        raise Refused("the live generation has the same policies: there is nothing to try")
    return read_rollout(of.store, entry.generation)
