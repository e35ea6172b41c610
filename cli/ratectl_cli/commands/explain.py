"""``ratectl explain``."""

from typing import Annotated

import typer

from ratectl_cli.commands.options import Attributes, Live, Policies, files_of
from ratectl_cli.framework.session import session_of


def explain(
    ctx: typer.Context,
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="Scope, like /payments/checkout.")],
    attr: Attributes = None,
    policies: Policies = None,
    live: Live = False,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Time, like 2026-11-28T12:00Z.  [default: now]"),
    ] = None,
    delta: Annotated[
        bool, typer.Option("--delta", help="Show only what differs from the scope above.")
    ] = False,
    key: Annotated[
        bool,
        typer.Option(
            "--key",
            help="With --live and --attr: also show the buckets of the request's keys in agents, "
            "if they are among the busiest keys.",
        ),
    ] = False,
) -> int:
    """Show which limits apply at a scope, and where they come from.

    For each value: where it was defined, which values it overrides, and which cap clipped it. With
    --attr: which overrides and exceptions apply, why others do not, and which bucket and key the
    request counts in. --at decides which exceptions are in force. Reads only the documents of SCOPE
    and of the scopes above it; `ratectl validate` checks the others.

    Examples:
      ratectl explain /payments/checkout
      ratectl explain /payments/checkout --attr client=acme --live --key
      ratectl explain /payments/checkout --attr client=acme --attr tier=gold --live
      ratectl explain /payments/checkout --at 2026-11-28T12:00+01:00
      ratectl explain /web --delta -o json | jq '.limits[].rate'

    Exit codes:
      0   explained
      1   no policy covers the scope
      64  wrong arguments
      65  invalid policies at or above SCOPE, or nothing is published
      69  store unreachable (with --live)
    """
    from ratectl.errors import UsageError
    from ratectl_cli.prompts.explaining import explained

    session = session_of(ctx)
    if key and (not live or not attr):
        raise UsageError("--key shows what agents report of a request: add --live and --attr")
    files = files_of(session, policies, live=live)
    return explained(session, scope, attr or [], files=files, at=at, delta=delta, key=key)


__all__ = ["explain"]
