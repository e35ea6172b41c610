"""``ratectl usage``."""

from typing import Annotated

import typer

from ratectl_cli.framework.session import session_of


def usage(
    ctx: typer.Context,
    scope: Annotated[
        str | None,
        typer.Argument(metavar="SCOPE", help="This scope and those below.  [default: all]"),
    ] = None,
) -> int:
    """Show how much of each limit is used.

    Adds up what agents last reported. USED is the fullest bucket of the last minute in any
    agent; RATE/S is over the last minute; counts are since each agent started. Limits count in
    each agent by itself. In brackets stand the overrides that select the buckets of a row. What
    is not known is shown as ?.

    Examples:
      ratectl usage
      ratectl usage /payments -o json | jq '.limits[] | select(.used > 0.8)'

    Exit codes:
      0   always, if the store answers
      64  wrong arguments
      69  store unreachable
    """
    from ratectl.fleet.usage import read_agents, read_usage
    from ratectl.history.generations import read_live
    from ratectl.history.trees import tree_to_compare
    from ratectl_cli.inputs.policies import scope_of
    from ratectl_cli.prompts.kill_switch import known_switches
    from ratectl_cli.render.panic import banner, switch_data
    from ratectl_cli.render.usage import Report, usage_blocks, usage_data

    session = session_of(ctx)
    wanted = scope_of(scope) if scope is not None else "/"
    with session.store() as store, session.busy("reading usage"):
        live = read_live(store)
        policies = tree_to_compare(store, live, session.warn)
        tree = None if policies is None else policies.tree
        records, agents = read_usage(store, session.warn), read_agents(store, session.warn)
        switches = known_switches(session, store)
    named = scope is not None
    report = Report.of(records, len(agents), live.generation, tree, wanted, listed=named)
    data = {**usage_data(report), "panic": [switch_data(each) for each in switches.on]}
    session.answer(
        "Usage", data, lambda: [*banner(switches, agents), *usage_blocks(report, session.out)]
    )
    if not records:
        session.say("no agent has reported usage lately: ratectl agents")
    return 0


__all__ = ["usage"]
