"""``ratectl usage``."""

from typing import Annotated

import typer

from ratectl_cli.framework import clock
from ratectl_cli.framework.session import session_of


def usage(
    ctx: typer.Context,
    scope: Annotated[
        str | None,
        typer.Argument(
            metavar="SCOPE",
            help="Show this scope, all scopes below it, and the budgets above it.  [default: all]",
        ),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Also write a page for browsers. - writes only the page, on standard output.",
        ),
    ] = None,
) -> int:
    """Show how much of each limit is used.

    Adds up the last reports of all agents. USED is the fullest bucket of the last minute in any
    agent; RATE/S is for the last minute; ALLOWED and REFUSED count since each agent started. Each
    agent has its own buckets. Names in brackets are the overrides that select the buckets of a
    row. ? means unknown. With SCOPE, budgets of the scopes above it are shown too, as requests at
    SCOPE draw from them; their numbers are those of all requests that do.

    Examples:
      ratectl usage
      ratectl usage /payments -o json | jq '.limits[] | select(.used > 0.8)'
      ratectl usage --html usage.html

    Exit codes:
      0   always, if the store answers
      64  wrong arguments
      69  store unreachable, or the page cannot be written
    """
    from ratectl.health.usage_report import read_usage_report
    from ratectl.policy.language.scopes import checked_scope
    from ratectl_cli.inputs.unpublished import say_if_unpublished
    from ratectl_cli.render.usage import usage_blocks, usage_data

    session = session_of(ctx)
    wanted = None if scope is None else checked_scope(scope)
    if html is not None:
        from ratectl_cli.prompts.usage_page import write_usage_page

        return write_usage_page(session, wanted, html)
    with session.store() as store, session.busy("reading usage"):
        report = read_usage_report(store, wanted, session.warn, clock.now_ns())
    told = say_if_unpublished(session, report.generation)
    session.answer(
        "Usage",
        usage_data(report),
        lambda: usage_blocks(report, session.out, clock.now()),
    )
    if not report.totals.reporting and not told:
        session.say("no agent has reported usage recently: ratectl agents")
    return 0


__all__ = ["usage"]
