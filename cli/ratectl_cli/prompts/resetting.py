"""`ratectl usage reset`: show the limit and the key, ask, order the reset, wait for agents."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ratectl.environments import place_of
from ratectl.errors import UsageError
from ratectl.fleet.convergence import wait_until_obeyed
from ratectl.fleet.usage import read_agents, read_usage
from ratectl.history.trees import live_tree
from ratectl.policy.language.durations import parse_duration
from ratectl.policy.language.scopes import checked_scope
from ratectl.publishing.provenance import author
from ratectl.resets.finding import find_key
from ratectl.resets.ordering import new_order, order_reset
from ratectl.resets.reports import reported
from ratectl_cli.framework import clock
from ratectl_cli.inputs.signing import key_of
from ratectl_cli.prompts.confirming import check_name, confirmed
from ratectl_cli.prompts.waiting import exit_code, waited_for
from ratectl_cli.render import resets as render

if TYPE_CHECKING:
    from ratectl.environments import Place
    from ratectl.resets.finding import GivenKey
    from ratectl.resets.ordering import Order
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session

__all__ = ["Manner", "expiry_of", "reset"]

_PATIENCE: Final = 10.0
"""Seconds to wait for agents where no --timeout is given: they take less than one."""


@dataclass(frozen=True, slots=True)
class Manner:
    """Options that do not say what is reset."""

    reason: str
    lasts: timedelta
    wait: bool
    yes: bool
    confirm: str | None
    """Name of the environment, as confirmation."""
    sign: str | None
    """File of the key to sign with."""


def expiry_of(text: str) -> timedelta:
    """Return the duration of ``--expires``.

    :raises UsageError: it is no duration.
    """
    try:
        return timedelta(microseconds=parse_duration(text) // 1_000)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--expires: {error}") from None


def reset(
    session: Session, scope: str, limit: str, given: GivenKey, manner: Manner, *, budget: bool
) -> int:
    """Order the reset of a key; return the exit code.

    :raises UsageError: there is no such limit or key, or nobody can be asked.
    :raises Declined: the answer is not yes.
    :raises RatectlError: see ``order_reset``.
    """
    checked_scope(scope)
    with session.store() as store:
        place = place_of(store, session.target)
        session.changes(place)
        check_name(place, manner.confirm)
        with session.busy("reading policies"):
            live = live_tree(store)
        found = find_key(live.tree, scope, limit, given, budget=budget, now_ns=clock.now_ns())
        order = new_order(found, manner.reason, author(Path()), manner.lasts)
        reports = reported(read_usage(store, session.warn), found)
        agents = read_agents(store, session.warn)
        session.show(render.preview(live, found, place, reports, agents, manner.lasts))
        if found.limit.is_shared:
            session.warn(render.of_shared(found.limit))
        question = f"Make the buckets of this key full in {place}?"
        name = confirmed(session, place, question, yes=manner.yes, name=manner.confirm)
        return _ordered(session, store, place, order, name, manner)


def _ordered(
    session: Session, store: Store, place: Place, order: Order, name: str | None, manner: Manner
) -> int:
    signer = key_of(session, manner.sign)
    place.require_signer(signer)
    done = order_reset(
        store,
        order,
        target=session.target,
        signer=signer,
        confirmed=name,
        before_write=partial(session.deadline.changing, "ratectl history"),
    )
    session.deadline.changed()
    if done.discarded:
        session.warn(f"{done.discarded}: it was replaced")
    waited = None
    if manner.wait:
        waited = waited_for(session, _PATIENCE, partial(wait_until_obeyed, store, done.reset))
    session.answer(
        "Reset",
        render.ordered_data(done.reset, waited),
        lambda: render.ordered_blocks(done.reset, waited),
    )
    for agent in waited.standing.running if waited else ():
        if agent.reset_shared and agent.reset_sequence == done.reset.sequence:
            session.warn(
                f"{agent.id} is out of room: the key shares an overflow bucket with other keys "
                "there, which stays as it is"
            )
    return exit_code(waited)
