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
    from ratectl.health.usage_report import read_usage_report
    from ratectl_cli.inputs.policies import scope_of
    from ratectl_cli.render.panic import banner, switch_data
    from ratectl_cli.render.times import now_ns
    from ratectl_cli.render.usage import usage_blocks, usage_data

    session = session_of(ctx)
    wanted = None if scope is None else scope_of(scope)
    with session.store() as store, session.busy("reading usage"):
        report = read_usage_report(store, wanted, session.warn, now_ns())
    data = {**usage_data(report), "panic": [switch_data(each) for each in report.switches.on]}
    session.answer(
        "Usage",
        data,
        lambda: [*banner(report.switches, report.agents), *usage_blocks(report, session.out)],
    )
    if not report.totals.reporting:
        session.say("no agent has reported usage lately: ratectl agents")
    return 0


__all__ = ["usage"]
