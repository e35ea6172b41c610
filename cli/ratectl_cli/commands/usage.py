"""``ratectl usage``."""

from enum import StrEnum
from typing import Annotated

import typer

from ratectl_cli.commands.options import UsageScope, Watch
from ratectl_cli.framework.session import session_of


class Sort(StrEnum):
    """Orders of limits."""

    SCOPE = "scope"
    USED = "used"
    RATE = "rate"
    REFUSED = "refused"


def usage(
    ctx: typer.Context,
    scope: UsageScope = None,
    sort: Annotated[
        Sort,
        typer.Option(
            "--sort",
            metavar="|".join(Sort),
            help="Order of the limits: by scope, or the largest number first.",
        ),
    ] = Sort.SCOPE,
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            metavar="N",
            min=1,
            help="Also show the N busiest and the N most refused keys of each limit.",
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
    near: Annotated[
        str | None,
        typer.Option(
            "--near",
            metavar="SHARE",
            help="Show only limits that are used at least so much, like 80% or 0.8.",
        ),
    ] = None,
    fail_near: Annotated[
        bool,
        typer.Option(
            "--fail-near",
            help="Exit with code 1 if a limit is used 80% or more, or as much as --near says.",
        ),
    ] = False,
    since: Annotated[
        str,
        typer.Option(
            "--since",
            metavar="MINUTES",
            show_default=False,
            help="Span of USED, RATE/S and TREND: 1m to 15m.  [default: 1m, and 15m for TREND]",
        ),
    ] = "1m",
    watch: Watch = False,
) -> int:
    """Show how much of each limit is used.

    Adds up the last reports of all agents. USED is the fullest bucket of the last minute in any
    agent; TREND is the fullest bucket in each of the last 15 minutes; NEAR counts keys that use 80%
    of their bucket or more; RATE/S is for the last minute; ALLOWED and REFUSED count since each
    agent started. Each agent has its own buckets, except for limits with `across: cluster`: these
    are one limit for all, and USED, TREND, NEAR and KEYS are those of its owner. Names in brackets
    are the overrides that select the buckets of a row. ? means unknown; ≥ means that some agents do
    not report the number. With SCOPE, budgets of the scopes above it are shown too, as requests at
    SCOPE draw from them; their numbers are those of all requests that do.

    With --watch the screen shows the usage live: `h` lists what to press.

    Examples:
      ratectl usage
      ratectl usage /payments --sort used --top 3
      ratectl usage --near 80% --since 15m
      ratectl usage --fail-near --near 95% -q
      ratectl usage /payments --watch
      ratectl usage /payments -o json | jq '.limits[] | select(.used > 0.8)'
      ratectl usage --html usage.html

    Exit codes:
      0   the store answers (with --fail-near: and no limit is near)
      1   a limit is near, no agent reports, or no policy covers SCOPE (with --fail-near)
      64  wrong arguments, or no terminal (with --watch)
      69  store unreachable, or the page cannot be written
      130 ended by Ctrl-C (with --watch)
    """
    from ratectl.errors import UsageError
    from ratectl_cli.prompts.usage import Wanted, show_usage

    session = session_of(ctx)
    wanted, report = Wanted.of(scope, sort.value, near, since), None
    if html is not None:
        from ratectl_cli.prompts.usage_page import write_usage_page

        if watch:
            raise UsageError("--html writes one page, and --watch has no end: give one of them")
        of_the_table = {
            "--sort": sort != Sort.SCOPE,
            "--top": top is not None,
            "--near": near is not None,
            "--fail-near": fail_near,
            "--since": wanted.minutes != 1,
        }
        if html == "-" and any(of_the_table.values()):
            given = " and ".join(name for name, value in of_the_table.items() if value)
            lone = UsageError(f"--html - prints only the page, which takes no {given}")
            lone.add_note(f"leave out {given}, or name a file: --html usage.html")
            raise lone
        report = write_usage_page(session, wanted, html)
        if html == "-":
            return 0
    if not watch:
        return show_usage(session, wanted, top=top, fail_near=fail_near, report=report)
    if fail_near:
        raise UsageError("--fail-near needs an end, and --watch has none: give one of them")
    if top is not None:
        raise UsageError("--watch shows all keys when you press k: leave out --top")
    from ratectl_cli.prompts.live import watch_usage

    return watch_usage(session, wanted, "limits")


__all__ = ["usage"]
