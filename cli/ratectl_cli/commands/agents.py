"""``ratectl agents``."""

import typer

from ratectl_cli.framework import clock
from ratectl_cli.framework.session import session_of


def agents(ctx: typer.Context) -> int:
    """List agents and the generation that each enforces.

    An agent that stops reporting disappears after about 15 seconds. While a kill switch is on, the
    column PANIC shows which switches each agent obeys (see `ratectl panic`).

    Examples:
      ratectl agents
      ratectl agents -o json | jq '.agents[] | select(.behind)'

    Exit codes:
      0   always, if the store answers
      69  store unreachable
    """
    from ratectl.health.fleet import read_fleet
    from ratectl_cli.inputs.unpublished import say_if_unpublished
    from ratectl_cli.render.agents import agents_blocks, fleet_data

    session = session_of(ctx)
    with session.store() as store:
        fleet = read_fleet(store, session.warn)
    told = say_if_unpublished(session, fleet.live.generation)
    data = fleet_data(fleet)
    session.answer("Agents", data, lambda: agents_blocks(data["agents"], clock.now()))
    if not fleet.agents and not told:
        session.say("no agent has reported recently: ratectl agent run")
    return 0


__all__ = ["agents"]
